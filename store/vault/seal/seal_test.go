package seal_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"

	"lastro/store/vault/seal"
)

const chunk = 64 << 10

// sizes are those at which something about chunks changes.
var sizes = []int{0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 3*chunk + 5}

func content(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func open(t testing.TB, identity string, recipients ...string) *seal.Sealer {
	t.Helper()
	s, err := seal.New(recipients, identity)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sealed(t testing.TB, s *seal.Sealer, plain []byte) []byte {
	t.Helper()
	data, err := s.SealBytes(plain)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ranges serves sealed bytes and counts those that are asked for.
type ranges struct {
	data []byte
	read int
}

func (r *ranges) get(offset int64) (io.ReadCloser, int64, error) {
	from := bytes.NewReader(r.data[min(offset, int64(len(r.data))):])
	return io.NopCloser(io.TeeReader(from, r)), int64(len(r.data)), nil
}

func (r *ranges) Write(p []byte) (int, error) {
	r.read += len(p)
	return len(p), nil
}

func TestWhatIsSealedIsAFileOfAge(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	first, second := newIdentity(t), newIdentity(t)
	for _, test := range []struct {
		name       string
		recipients []string
		identities []age.Identity
	}{
		{"of one recipient", []string{first.Recipient().String()}, []age.Identity{first}},
		{"of each of two recipients", []string{first.Recipient().String(), second.Recipient().String()}, []age.Identity{first, second}},
		{"of a recipient with a post-quantum key", []string{hybrid.Recipient().String()}, []age.Identity{hybrid}},
	} {
		for _, size := range sizes {
			t.Run(fmt.Sprintf("%s, %d bytes", test.name, size), func(t *testing.T) {
				plain := content(size)
				data := sealed(t, open(t, "", test.recipients...), plain)
				for _, id := range test.identities {
					r, err := age.Decrypt(bytes.NewReader(data), id)
					if err != nil {
						t.Fatal(err)
					}
					if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
						t.Errorf("age reads %d bytes, %v; want the %d that were sealed", len(got), err, size)
					}
				}
				if !seal.Fits(int64(len(data)), int64(size)) {
					t.Errorf("%d bytes do not fit a content of %d", len(data), size)
				}
			})
		}
	}
}

func TestTheAgeProgramOpensWhatIsSealed(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the age program")
	}
	id := newIdentity(t)
	dir := t.TempDir()
	plain := content(2*chunk + 7)
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	key := write("key", []byte(id.String()+"\n"))
	file := write("sealed", sealed(t, open(t, "", id.Recipient().String()), plain))
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=../../../.ci/tools.mod", "age", "-d", "-i", key, file)
	cmd.Stderr = os.Stderr
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("age -d gives %d bytes, %v; want the %d that were sealed", len(got), err, len(plain))
	}
}

func TestWhatAgeHasEncryptedIsOpened(t *testing.T) {
	id := newIdentity(t)
	s := open(t, "# a comment\n"+id.String()+"\n", id.Recipient().String())
	for _, size := range sizes {
		var data bytes.Buffer
		w, err := age.Encrypt(&data, newIdentity(t).Recipient(), id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		plain := content(size)
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := s.OpenBytes(data.Bytes()); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
}

func TestAContentIsOpenedAtAnyOffset(t *testing.T) {
	id := newIdentity(t)
	s := open(t, id.String(), id.Recipient().String())
	for _, size := range sizes {
		plain := content(size)
		data := sealed(t, s, plain)
		for _, offset := range []int{0, 1, chunk - 1, chunk, chunk + 1, 2*chunk - 1, 2 * chunk, 3 * chunk, size - 1, size, size + 1, size + 5*chunk} {
			if offset < 0 {
				continue
			}
			from := &ranges{data: data}
			r, got, err := s.Open(from.get, int64(offset))
			if err != nil || got != int64(size) {
				t.Fatalf("open %d bytes at %d: size %d, %v", size, offset, got, err)
			}
			rest, err := io.ReadAll(r)
			if want := plain[min(offset, size):]; err != nil || !bytes.Equal(rest, want) {
				t.Errorf("%d bytes at %d: got %d, %v; want %d", size, offset, len(rest), err, len(want))
			}
			if most := 4<<10 + (size - offset/chunk*chunk) + 16*5; offset >= chunk && from.read > max(most, 4<<10) {
				t.Errorf("%d bytes at %d: %d were read, where %d are enough", size, offset, from.read, most)
			}
		}
	}
}

func TestWhatIsNotAsItWasSealedIsDamaged(t *testing.T) {
	id := newIdentity(t)
	s := open(t, id.String(), id.Recipient().String())
	plain := content(2*chunk + 100)
	data := sealed(t, s, plain)
	first := len(data) - (len(plain) + 3*16) // where the chunks begin
	second, third := first+chunk+16, first+2*(chunk+16)
	flip := func(at int) []byte {
		b := bytes.Clone(data)
		b[at] ^= 1
		return b
	}
	cases := map[string][]byte{
		"the first and second chunk in each other's place": slicesOf(data[:first], data[second:third], data[first:second], data[third:]),
		"the last chunk left out":                          data[:third],
		"a chunk in the middle left out":                   slicesOf(data[:second], data[third:]),
		"something behind the last chunk":                  slicesOf(data, []byte("more")),
		"the chunks of another content":                    slicesOf(data[:first], sealed(t, s, plain)[first:]),
		"nothing":                                          {},
		"text":                                             []byte("no sealed content\n"),
		"a line that does not end":                         bytes.Repeat([]byte("x"), 100_000),
		"lines that do not end":                            bytes.Repeat([]byte("x\n"), 100_000),
	}
	for at := range first { // header and nonce
		cases[fmt.Sprintf("byte %d changed", at)] = flip(at)
	}
	for _, at := range []int{first, first + chunk, second - 1, second, second + 100, third - 1, third, len(data) - 17, len(data) - 1} {
		cases[fmt.Sprintf("byte %d changed", at)] = flip(at)
	}
	for _, at := range []int{1, 22, first - 17, first - 1, first, first + 15, first + 16, first + 17, second - 1, second, second + 5, third + 16, len(data) - 1} {
		cases[fmt.Sprintf("cut off at %d", at)] = data[:at]
	}
	for name, bad := range cases {
		got, err := s.OpenBytes(bad)
		if !errors.Is(err, seal.ErrDamaged) && !errors.Is(err, seal.ErrOthers) {
			t.Errorf("%s: got %d bytes, %v; want an error", name, len(got), err)
		}
		if errors.Is(err, seal.ErrOthers) && !strings.HasPrefix(name, "byte ") {
			t.Errorf("%s: got %v; want that it is damaged", name, err)
		}
		if len(got) > 0 && !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: gives out bytes that were not sealed", name)
		}
	}
}

func TestALengthThatNothingHasIsRefusedBeforeAnythingIsRead(t *testing.T) {
	id := newIdentity(t)
	s := open(t, id.String(), id.Recipient().String())
	for _, size := range sizes {
		data := sealed(t, s, content(size))
		chunks := len(data) - size - 16*max(1, (size+chunk-1)/chunk) // where they begin
		for n := chunks; n <= len(data); n++ {
			of := n - chunks // so long are the chunks
			full, rest := of/(chunk+16), of%(chunk+16)
			// The last one has a tag, and is empty only if it is the first.
			want := full > 0 && rest == 0 || rest > 16 || full == 0 && rest == 16
			if near := rest < 40 || rest > chunk || n == len(data); !near {
				continue
			}
			from := &ranges{data: data[:n]}
			r, got, err := s.Open(from.get, 0)
			switch {
			case !want && !errors.Is(err, seal.ErrDamaged):
				t.Errorf("%d of the bytes of %d: size %d, %v", of, size, got, err)
			case want && (err != nil || got != int64(of-16*(full+min(rest, 1)))):
				t.Errorf("%d of the bytes of %d: size %d, %v", of, size, got, err)
			}
			if err == nil {
				_ = r.Close()
			}
		}
	}
}

func TestAContentThatChangesItsLengthWhileItIsOpenedIsDamaged(t *testing.T) {
	id := newIdentity(t)
	s := open(t, id.String(), id.Recipient().String())
	data := sealed(t, s, content(3*chunk))
	for _, more := range []int64{-1, 1} {
		from := &ranges{data: data}
		_, _, err := s.Open(func(offset int64) (io.ReadCloser, int64, error) {
			body, length, err := from.get(offset)
			if offset > 0 {
				length += more
			}
			return body, length, err
		}, 2*chunk)
		if !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%+d bytes: got %v, want %v", more, err, seal.ErrDamaged)
		}
	}
}

func TestAHeaderWithoutEndIsNotReadToItsEnd(t *testing.T) {
	id := newIdentity(t)
	from := &ranges{data: bytes.Repeat([]byte("x\n"), 1<<20)}
	if _, _, err := open(t, id.String(), id.Recipient().String()).Open(from.get, 0); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("got %v, want %v", err, seal.ErrDamaged)
	}
	if from.read > 80<<10 {
		t.Errorf("%d bytes were read of it", from.read)
	}
}

func slicesOf(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestOnlyWhoHasTheIdentityOpens(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	data := sealed(t, open(t, "", id.Recipient().String()), []byte("x"))
	if _, err := open(t, other.String(), id.Recipient().String()).OpenBytes(data); !errors.Is(err, seal.ErrOthers) {
		t.Errorf("with another identity: %v, want %v", err, seal.ErrOthers)
	}
	if _, err := open(t, "", id.Recipient().String()).OpenBytes(data); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("without an identity: %v, want %v", err, seal.ErrNoIdentity)
	}
	if got, err := open(t, other.String()+"\n"+id.String(), id.Recipient().String()).OpenBytes(data); err != nil || string(got) != "x" {
		t.Errorf("with both: %q, %v", got, err)
	}
}

func TestASealedContentIsReadInAnyPartsByMany(t *testing.T) {
	id := newIdentity(t)
	s := open(t, id.String(), id.Recipient().String())
	plain := content(5*chunk + 77)
	x, err := s.Seal(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(io.NewSectionReader(x, 0, x.Size))
	if err != nil {
		t.Fatal(err)
	}
	inner := sha256.New()
	sum, err := x.Sum(inner)
	if want := sha256.Sum256(whole); err != nil || !bytes.Equal(sum, want[:]) {
		t.Errorf("the sum is not that of what is read: %v", err)
	}
	if want := sha256.Sum256(plain); !bytes.Equal(inner.Sum(nil), want[:]) {
		t.Error("what was hashed is not the content")
	}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(n)))
			for range 50 {
				at := r.IntN(len(whole))
				p := make([]byte, r.IntN(2*chunk))
				got, err := x.ReadAt(p, int64(at))
				if want := whole[at:min(at+len(p), len(whole))]; !bytes.Equal(p[:got], want) || got < len(p) && err != io.EOF {
					t.Errorf("%d bytes at %d: got %d, %v", len(p), at, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestAContentThatCannotBeReadIsNotSealed(t *testing.T) {
	id := newIdentity(t)
	s := open(t, "", id.Recipient().String())
	x, err := s.Seal(bytes.NewReader(content(chunk)), chunk+1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, io.NewSectionReader(x, 0, x.Size)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a content that is too short: %v", err)
	}
	if _, err := x.Sum(sha256.New()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the sum of a content that is too short: %v", err)
	}
}

func TestKeysThatAreNoneAreRefusedAndNotRepeated(t *testing.T) {
	id := newIdentity(t)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	to := id.Recipient().String()
	for _, test := range []struct {
		name       string
		recipients []string
		identity   string
		want       string
	}{
		{"no recipient", nil, "", "encrypt: 0 recipients"},
		{"a text", []string{to, "SECRETTEXT"}, "", "encrypt[1]: not the public key"},
		{"a private key as a recipient", []string{id.String()}, "", "encrypt[0]: not the public key"},
		{"two keys in one", []string{to + "\n" + to}, "", "encrypt[0]: not the public key"},
		{"a key with a line feed", []string{to + "\n"}, "", "encrypt[0]: not the public key"},
		{"recipients that age does not mix", []string{to, hybrid.Recipient().String()}, "", "post-quantum"},
		{"an identity that is none", []string{to}, "AGE-SECRET-KEY-1SECRETTEXT", "identity: not an age identity"},
		{"more recipients than there may be", slicesRepeat(to, 21), "", "encrypt: 21 recipients"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := seal.New(test.recipients, test.identity)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if text := err.Error(); strings.Contains(text, "SECRETTEXT") || strings.Contains(text, id.String()) {
				t.Errorf("%q repeats a secret", text)
			}
		})
	}
}

func slicesRepeat(s string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = s
	}
	return list
}

func TestNamesTellNothingWithoutTheirKey(t *testing.T) {
	names, others := seal.NewNames(), seal.NewNames()
	d := digest.FromString("x")
	name := names.Of(d)
	if name.Algorithm() != seal.HMAC || len(name.Encoded()) != 64 || strings.Contains(name.String(), d.Encoded()) {
		t.Errorf("the name is %s", name)
	}
	if name == others.Of(d) || names.ID() == others.ID() {
		t.Error("another key gives the same")
	}
	again, err := seal.ParseNames(names.Text())
	if err != nil || again.Of(d) != name || again.ID() != names.ID() {
		t.Errorf("the key read again gives other names, %v", err)
	}
	for _, bad := range []string{"", "x", string(names.Text()[:60]), string(names.Text()) + "00"} {
		if _, err := seal.ParseNames([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
}

func TestOnlyPlausibleLengthsFit(t *testing.T) {
	id := newIdentity(t)
	s := open(t, "", id.Recipient().String())
	n := int64(len(sealed(t, s, content(chunk))))
	for _, test := range []struct {
		name         string
		length, size int64
		want         bool
	}{
		{"what was sealed", n, chunk, true},
		{"a byte less than a head leaves", n - 1, chunk, false},
		{"what is not sealed", chunk, chunk, false},
		{"far too much", n + 100_000, chunk, false},
		{"nothing", 0, 0, false},
	} {
		if got := seal.Fits(test.length, test.size); got != test.want {
			t.Errorf("%s: %d for %d fits: %t, want %t", test.name, test.length, test.size, got, test.want)
		}
	}
}

// FuzzOpen holds the opener against age's own.
func FuzzOpen(f *testing.F) {
	id, err := age.ParseX25519Identity("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
	if err != nil {
		f.Fatal(err)
	}
	s := open(f, id.String(), id.Recipient().String())
	for _, size := range sizes {
		f.Add(sealed(f, s, content(size)), uint32(size/2))
	}
	f.Add([]byte("age-encryption.org/v1\n-> X25519 \n--- \n"), uint32(1))
	f.Fuzz(func(t *testing.T, data []byte, offset uint32) {
		var want []byte
		r, failed := age.Decrypt(bytes.NewReader(data), id)
		if failed == nil {
			want, failed = io.ReadAll(r)
		}
		got, err := s.OpenBytes(data)
		if (err == nil) != (failed == nil) {
			t.Fatalf("age says %v, and here it is %v", failed, err)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, where age has %d", len(got), len(want))
		}
		body, _, err := s.Open((&ranges{data: data}).get, int64(offset))
		if err != nil {
			return
		}
		part, err := io.ReadAll(body)
		if err == nil && failed == nil && !bytes.Equal(part, want[min(int(offset), len(want)):]) {
			t.Fatalf("at %d: %d bytes that are not those", offset, len(part))
		}
	})
}
