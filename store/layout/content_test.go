package layout

import (
	"bytes"
	"context"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/storetest"
)

func open(t testing.TB, dir string, o Options) *Tree {
	t.Helper()
	tree, err := Open(filepath.Join(dir, "registry"), filepath.Join(dir, "partial"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

func random(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	r.Read(data)
	return data
}

func describe(data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// content is random, and what it is called.
func content(n int) ([]byte, ocispec.Descriptor) {
	data := random(n)
	return data, describe(data)
}

// server gives data from the offset that it is asked for, and notes the offset.
type server struct {
	data  []byte
	asked []int64
	start func(offset int64) int64 // where it begins; nil: where it is asked to
	body  func(io.Reader) io.Reader
}

func (s *server) fetch(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
	s.asked = append(s.asked, offset)
	start := offset
	if s.start != nil {
		start = s.start(offset)
	}
	var body io.Reader = bytes.NewReader(s.data[min(start, int64(len(s.data))):])
	if s.body != nil {
		body = s.body(body)
	}
	return io.NopCloser(body), start, nil
}

// stored is what is held under a digest; nil when nothing is.
func stored(t *testing.T, tree *Tree, d digest.Digest) []byte {
	t.Helper()
	f, err := tree.OpenContent(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func partials(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "partial", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func leavePartial(t *testing.T, dir string, d digest.Digest, data []byte) {
	t.Helper()
	name := filepath.Join(dir, "partial", partial(d))
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestIngestContinuesWhatAnEarlierCallLeft(t *testing.T) {
	data, desc := content(3<<20 + 17)
	damaged := bytes.Clone(data[:2<<20])
	damaged[1<<20] ^= 1
	for _, c := range []struct {
		name  string
		left  []byte
		start func(int64) int64
		want  []int64 // offsets asked for
	}{
		{name: "nothing is fetched from the start", want: []int64{0}},
		{name: "a prefix is continued where it ends", left: data[:2<<20], want: []int64{2 << 20}},
		{name: "a server that begins anew is read past what is there", left: data[:2<<20], start: func(int64) int64 { return 0 }, want: []int64{2 << 20}},
		{name: "a server that begins earlier is read past what is there", left: data[:2<<20], start: func(o int64) int64 { return max(o-5000, 0) }, want: []int64{2 << 20}},
		{name: "a server that begins anew before a damaged prefix is read twice", left: damaged, start: func(int64) int64 { return 0 }, want: []int64{2 << 20, 0}},
		{name: "all of it is hashed and not fetched", left: data},
		{name: "a damaged prefix is fetched again at once", left: damaged, want: []int64{2 << 20, 0}},
		{name: "damaged whole content is fetched again at once", left: append(bytes.Clone(damaged), data[2<<20:]...), want: []int64{0}},
		{name: "more than there should be is fetched again", left: append(bytes.Clone(data), 'x'), want: []int64{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := storetest.Folder(t)
			if c.left != nil {
				leavePartial(t, dir, desc.Digest, c.left)
			}
			tree := open(t, dir, Options{})
			s := &server{data: data, start: c.start}
			if err := tree.Ingest(t.Context(), desc, s.fetch); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(stored(t, tree, desc.Digest), data) {
				t.Error("other bytes are stored")
			}
			if !slices.Equal(s.asked, c.want) {
				t.Errorf("asked for %v, want %v", s.asked, c.want)
			}
			if left := partials(t, dir); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestABodyThatBeginsAnewAndBreaksOffLosesNothing(t *testing.T) {
	data := random(3 << 20)
	for _, size := range []int{1 << 20, 2<<20 + bufferSize} { // before and after what is held
		dir := storetest.Folder(t)
		desc := describe(data)
		leavePartial(t, dir, desc.Digest, data[:2<<20])
		tree := open(t, dir, Options{})
		s := &server{data: data, start: func(int64) int64 { return 0 }, body: func(r io.Reader) io.Reader {
			return io.MultiReader(io.LimitReader(r, int64(size)), iotest.ErrReader(io.ErrUnexpectedEOF))
		}}
		if err := tree.Ingest(t.Context(), desc, s.fetch); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("got %v", err)
		}
		next := &server{data: data}
		if err := tree.Ingest(t.Context(), desc, next.fetch); err != nil {
			t.Fatal(err)
		}
		if want := []int64{int64(max(size, 2<<20))}; !slices.Equal(next.asked, want) {
			t.Errorf("a break at %d: asked for %v, want %v", size, next.asked, want)
		}
	}
}

func TestIngestRefusesWhatIsNotTheContent(t *testing.T) {
	data, desc := content(2<<20 + 9)
	other := random(2<<20 + 10)[:2<<20+9]
	errReset := errors.New("connection reset")
	for _, c := range []struct {
		name   string
		server server
		left   []byte
		want   error
		keeps  bool // the partial file
	}{
		{name: "other bytes of the same length", server: server{data: other}, want: ErrDigest},
		{name: "fewer bytes", server: server{data: data[:1<<20]}, want: ErrSize},
		{name: "none at all", server: server{}, want: ErrSize},
		{name: "more bytes", server: server{data: append(bytes.Clone(data), 'x')}, want: ErrSize},
		{name: "an end before the place that was asked for", left: data[:1<<20], server: server{data: data[:100], start: func(int64) int64 { return 50 }}, want: ErrSize},
		{name: "a body that is cut keeps what came", keeps: true, want: io.ErrUnexpectedEOF,
			server: server{data: data, body: func(r io.Reader) io.Reader {
				return io.MultiReader(io.LimitReader(r, 1<<20+3), iotest.ErrReader(io.ErrUnexpectedEOF))
			}}},
		{name: "a body that breaks off keeps what came", keeps: true, want: errReset,
			server: server{data: data, body: func(r io.Reader) io.Reader {
				return io.MultiReader(io.LimitReader(r, 1<<20+3), iotest.ErrReader(errReset))
			}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := storetest.Folder(t)
			if c.left != nil {
				leavePartial(t, dir, desc.Digest, c.left)
			}
			tree := open(t, dir, Options{})
			err := tree.Ingest(t.Context(), desc, c.server.fetch)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if strings.Contains(fmt.Sprint(err), "local registry") {
				t.Errorf("%v blames the local registry", err)
			}
			if stored(t, tree, desc.Digest) != nil {
				t.Error("it is stored")
			}
			if got := len(partials(t, dir)) == 1; got != c.keeps {
				t.Errorf("partial file kept: %v, want %v", got, c.keeps)
			}
			good := &server{data: data}
			if err := tree.Ingest(t.Context(), desc, good.fetch); err != nil {
				t.Fatalf("the next call: %v", err)
			}
			if c.keeps && good.asked[0] != 1<<20+3 {
				t.Errorf("continued at %d", good.asked[0])
			}
			if !bytes.Equal(stored(t, tree, desc.Digest), data) {
				t.Error("the next call stored other bytes")
			}
		})
	}
}

func TestIngestRefusesADownloadThatLeavesAGap(t *testing.T) {
	data := random(1000)
	dir := storetest.Folder(t)
	leavePartial(t, dir, digest.FromBytes(data), data[:500])
	s := &server{data: data, start: func(int64) int64 { return 600 }}
	if err := open(t, dir, Options{}).Ingest(t.Context(), describe(data), s.fetch); err == nil || !strings.Contains(err.Error(), "begins at 600 where 500 was asked for") {
		t.Fatalf("got %v", err)
	}
}

func TestIngestTakesDigestsOfBothKindsAndNoOther(t *testing.T) {
	data := random(100)
	for d, ok := range map[digest.Digest]bool{
		digest.SHA256.FromBytes(data):               true,
		digest.SHA512.FromBytes(data):               true,
		"md5:d41d8cd98f00b204e9800998ecf8427e":      false,
		"sha256:../../../../../../etc/passwd":       false,
		"sha256:" + digest.Digest(make([]byte, 64)): false,
		"": false,
	} {
		tree := open(t, storetest.Folder(t), Options{})
		err := tree.Ingest(t.Context(), ocispec.Descriptor{Digest: d, Size: 100}, (&server{data: data}).fetch)
		if (err == nil) != ok {
			t.Errorf("%q: got %v", d, err)
		}
		if ok && !bytes.Equal(stored(t, tree, d), data) {
			t.Errorf("%s: other bytes are stored", d)
		}
	}
}

func TestEmptyContentIsStored(t *testing.T) {
	tree := open(t, storetest.Folder(t), Options{})
	if err := tree.Ingest(t.Context(), describe(nil), (&server{}).fetch); err != nil {
		t.Fatal(err)
	}
	if has, err := tree.Has(describe(nil)); !has || err != nil {
		t.Fatalf("has: %v, %v", has, err)
	}
}

func TestContentOfTheWrongLengthOnDiskIsReplaced(t *testing.T) {
	data := random(5000)
	dir := storetest.Folder(t)
	tree := open(t, dir, Options{})
	if err := tree.put(Data(digest.FromBytes(data)), data[:100]); err != nil {
		t.Fatal(err)
	}
	if err := tree.Ingest(t.Context(), describe(data), (&server{data: data}).fetch); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored(t, tree, digest.FromBytes(data)), data) {
		t.Error("other bytes are stored")
	}
}

func TestWhoWantsTheSameContentSharesOneDownload(t *testing.T) {
	data := random(3 << 20)
	tree := open(t, storetest.Folder(t), Options{})
	var calls atomic.Int32
	fetch := func(context.Context, int64) (io.ReadCloser, int64, error) {
		calls.Add(1)
		return io.NopCloser(iotest.HalfReader(bytes.NewReader(data))), 0, nil
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := tree.Ingest(t.Context(), describe(data), fetch); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if calls.Load() != 1 {
		t.Errorf("%d downloads", calls.Load())
	}
}

func TestAFollowerTakesOverWhenTheFirstGivesUp(t *testing.T) {
	data := random(1000)
	tree := open(t, storetest.Folder(t), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	first := make(chan error)
	go func() {
		first <- tree.Ingest(ctx, describe(data), func(ctx context.Context, _ int64) (io.ReadCloser, int64, error) {
			close(started)
			<-ctx.Done()
			return nil, 0, ctx.Err()
		})
	}()
	<-started
	second := make(chan error)
	go func() { second <- tree.Ingest(t.Context(), describe(data), (&server{data: data}).fetch) }()
	impatient, stop := context.WithCancel(t.Context())
	stop()
	if err := tree.Ingest(impatient, describe(data), (&server{data: data}).fetch); !errors.Is(err, context.Canceled) {
		t.Errorf("a follower whose context ended got %v", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first got %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the second got %v", err)
	}
}

func TestOldUnfinishedContentIsPurgedAndNewIsKept(t *testing.T) {
	dir := storetest.Folder(t)
	data := [][]byte{random(10), random(11)}
	leavePartial(t, dir, digest.FromBytes(data[0]), data[0])
	leavePartial(t, dir, digest.FromBytes(data[1]), data[1])
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "partial", partial(digest.FromBytes(data[0]))), old, old); err != nil {
		t.Fatal(err)
	}
	tree := open(t, dir, Options{})
	if n, err := tree.PurgePartials(time.Now().Add(-time.Minute)); n != 1 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if left := partials(t, dir); len(left) != 1 || filepath.Base(left[0]) != digest.FromBytes(data[1]).Encoded() {
		t.Errorf("left %v", left)
	}
}

// failing makes one kind of change fail, the first count times.
type failing struct {
	op    string
	err   error
	count int
}

func (f *failing) fault(op, _ string) error {
	if op != f.op || f.count == 0 {
		return nil
	}
	f.count--
	return f.err
}

func TestAFaultOfTheDiskIsOursAndTheNextCallSucceeds(t *testing.T) {
	data := random(3 << 20)
	for _, op := range []string{"open", "write", "fdatasync", "rename"} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			t.Run(op+" "+cause.Error(), func(t *testing.T) {
				f := &failing{op, cause, 1}
				dir := storetest.Folder(t)
				tree := open(t, dir, Options{Fault: f.fault})
				err := tree.Ingest(t.Context(), describe(data), (&server{data: data}).fetch)
				if !errors.Is(err, cause) || !strings.Contains(err.Error(), "local registry") {
					t.Errorf("got %v", err)
				}
				if errors.Is(err, ErrFull) != (cause == syscall.ENOSPC) {
					t.Errorf("%v: says full: %v", err, errors.Is(err, ErrFull))
				}
				if stored(t, tree, digest.FromBytes(data)) != nil {
					t.Error("it is stored")
				}
				// The page cache would vouch for what the disk did not take.
				if op == "fdatasync" && len(partials(t, dir)) > 0 {
					t.Error("what was not synced is kept")
				}
				if err := tree.Ingest(t.Context(), describe(data), (&server{data: data}).fetch); err != nil {
					t.Errorf("the next call: %v", err)
				}
			})
		}
	}
}

func TestModesLetNobodyElseIn(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(storetest.Folder(t), "data")
	tree := open(t, dir, Options{})
	data := random(10)
	d := digest.FromBytes(data)
	err := errors.Join(
		tree.Ingest(t.Context(), describe(data), (&server{data: data}).fetch),
		tree.Link(Layer("a/b", d), d),
		tree.LinkDurably(Tag("a/b", "v1"), d),
		tree.Driver().PutContent(t.Context(), "/x/y", data),
		tree.Ingest(t.Context(), describe(random(20)), (&server{data: data, body: func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(io.ErrClosedPipe)) }}).fetch),
	)
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		want := fs.FileMode(0o700)
		if !e.IsDir() {
			files++
			want = 0o600
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
		return err
	})
	if err != nil || files != 5 {
		t.Errorf("%d files, %v", files, err)
	}
}

var _ mirror.Fetch = (*server)(nil).fetch
