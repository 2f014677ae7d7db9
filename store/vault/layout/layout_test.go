package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/ledger"
)

func packed(t testing.TB, raw []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(raw, nil)
}

func line(e ledger.Event) []byte {
	raw, _ := json.Marshal(e)
	return append(raw, '\n')
}

func TestParseSegment(t *testing.T) {
	good := ledger.Event{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Repo: "r", Tag: "1", Digest: digest.FromString("x"), Event: ledger.Seen}
	with := func(change func(*ledger.Event)) []byte {
		e := good
		change(&e)
		return line(e)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		want int // events; -1: damaged
	}{
		{name: "an event is read", raw: line(good), want: 1},
		{name: "a full segment is read", raw: bytes.Repeat(line(good), SegmentEvents), want: SegmentEvents},
		{name: "one event more is too many", raw: bytes.Repeat(line(good), SegmentEvents+1), want: -1},
		{name: "empty objects are no events", raw: bytes.Repeat([]byte("{}\n"), 10), want: -1},
		{name: "a line beyond all is refused", raw: append(bytes.Repeat([]byte("["), EventMax+1), '\n'), want: -1},
		{name: "a repository outside is refused", raw: with(func(e *ledger.Event) { e.Repo = "../r" }), want: -1},
		{name: "a tag outside is refused", raw: with(func(e *ledger.Event) { e.Tag = "../1" }), want: -1},
		{name: "a digest of another kind is refused", raw: with(func(e *ledger.Event) { e.Digest = "md5:x" }), want: -1},
		{name: "an event without a time is refused", raw: with(func(e *ledger.Event) { e.Time = time.Time{} }), want: -1},
		{name: "an event without a name is refused", raw: with(func(e *ledger.Event) { e.Event = "" }), want: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := countEvents(packed(t, c.raw))
			if c.want < 0 && !errors.Is(err, ErrDamaged) || c.want >= 0 && (err != nil || n != c.want) {
				t.Errorf("got %d events, %v", n, err)
			}
		})
	}
}

func countEvents(data []byte) (n int, err error) {
	for _, err := range ParseSegment(data) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func TestASegmentThatUnpacksBeyondAllIsBounded(t *testing.T) {
	bomb := packed(t, make([]byte, 4*SegmentMax))
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	if _, err := countEvents(bomb); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

const ulidOf = "01KE0000000000000000000000"

func TestParseHead(t *testing.T) {
	entry := func(record string) string {
		d := digest.FromString("x")
		return fmt.Sprintf(`{"format":1,"vault":%q,"snapshots":[{"id":%q,"record":%q,"record_digest":%q,"root":%q}]}`, ulidOf, ulidOf, record, d, d)
	}
	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{name: "a head is read", raw: entry("vault/snapshots/a.json")},
		{name: "a record elsewhere is refused", raw: entry("blobs/sha256/a"), want: ErrDamaged},
		{name: "a record outside is refused", raw: entry("vault/snapshots/../../../a"), want: ErrDamaged},
		{name: "a record without a name is refused", raw: entry("vault/snapshots/"), want: ErrDamaged},
		{name: "a newer format is refused", raw: `{"format":3}`, want: ErrNewer},
		{name: "a head of a sealed vault is read", raw: `{"format":2,"vault":"` + ulidOf + `","snapshots":[],"encrypted":{"names":"0123456789abcdef0123456789abcdef"},"damaged":["hmac-sha256:` + strings.Repeat("a", 64) + `"]}`},
		{name: "a head that does not say how names are made is refused", raw: `{"format":2,"vault":"` + ulidOf + `"}`, want: ErrDamaged},
		{name: "a head with a key of names that leads elsewhere is refused", raw: `{"format":2,"vault":"` + ulidOf + `","encrypted":{"names":"../../../abcdef0123456789abcdef0123"}}`, want: ErrDamaged},
		{name: "a sealed head of the format of those that are not is refused", raw: `{"format":1,"vault":"` + ulidOf + `","encrypted":{"names":"0123456789abcdef0123456789abcdef"}}`, want: ErrDamaged},
		{name: "a name that is too short is refused", raw: `{"format":1,"vault":"` + ulidOf + `","damaged":["hmac-sha256:aa"]}`, want: ErrDamaged},
		{name: "no format is refused", raw: `{}`, want: ErrDamaged},
		{name: "a page in HTML is refused", raw: `<html>`, want: ErrDamaged},
		{name: "brackets without end are refused", raw: strings.Repeat("[", 1<<20), want: ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseHead([]byte(c.raw)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestDocumentsOfNothingTakeLittleMemory gives lists of empty values to all that read
// JSON in a vault, as long as a record or an index may be.
func TestDocumentsOfNothingTakeLittleMemory(t *testing.T) {
	list := func(key, value string) []byte {
		const size = 16 << 20
		return []byte(`{"format":1,"mediaType":"application/vnd.oci.image.index.v1+json","` + key + `":[` + strings.Repeat(value+",", size/(len(value)+1)) + value + `]}`)
	}
	for name, data := range map[string][]byte{
		"objects":        list("manifests", "{}"),
		"snapshots":      list("snapshots", "{}"),
		"strings":        list("damaged", `""`),
		"foreign layers": list("foreign", `""`),
		"spaced objects": list("manifests", "{          }"),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, head := ParseHead(data)
			_, snapshot := ParseSnapshot(data)
			_, index := ParseIndex(data)
			runtime.ReadMemStats(&after)
			for _, err := range []error{head, snapshot, index} {
				if !errors.Is(err, ErrDamaged) {
					t.Errorf("got %v, want ErrDamaged", err)
				}
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > uint64(len(data)) {
				t.Errorf("%d MiB were allocated for %d MiB", took>>20, len(data)>>20)
			}
		})
	}
}

// TestLargeDocumentsOfOursAreRead has an index and a head of megabytes.
func TestLargeDocumentsOfOursAreRead(t *testing.T) {
	repo := Repository{Name: "r"}
	head := Head{Format: Format, Vault: ulidOf}
	for i := range 8_000 {
		d := digest.FromString(fmt.Sprint(i))
		repo.Images = append(repo.Images, NewImage(ocispec.Descriptor{MediaType: "m", Digest: d, Size: 1}, fmt.Sprint(i), []digest.Digest{d, d}))
		head.Snapshots = append(head.Snapshots, Entry{ID: ulidOf, Record: DirSnapshots + "a", Digest: d, Root: d})
		head.Damaged = append(head.Damaged, d)
	}
	doc, err := repo.index()
	if err != nil {
		t.Fatal(err)
	}
	if idx, err := ParseIndex(doc.Data); err != nil || len(idx.Manifests) != 8_000 || len(doc.Data) < 1<<20 {
		t.Errorf("got %d images of %d bytes, %v", len(idx.Manifests), len(doc.Data), err)
	}
	data, err := Encode(head)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := ParseHead(data); err != nil || len(h.Snapshots) != 8_000 || len(data) < 1<<20 {
		t.Errorf("got %d snapshots of %d bytes, %v", len(h.Snapshots), len(data), err)
	}
}

func TestAnIndexThatCouldNotBeReadBackIsNotMade(t *testing.T) {
	img := ocispec.Descriptor{Digest: digest.FromString("x"), Annotations: map[string]string{"text": strings.Repeat("x", MaxIndex)}}
	_, _, err := Indexes([]Repository{{Name: "large/one", Images: []ocispec.Descriptor{img}}})
	if err == nil || !strings.Contains(err.Error(), "repository large/one") {
		t.Errorf("got %v, want the repository named", err)
	}
}

// FuzzAbsent reads back what it is given as far as it is digests.
func FuzzAbsent(f *testing.F) {
	d := digest.FromString("x").String()
	for _, text := range []string{"", d, d + "," + d, "md5:x," + d, ",,"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range ParseAbsent(text) {
			if CheckDigest(d) != nil || !strings.Contains(text, d.String()) {
				t.Errorf("got %q", d)
			}
		}
	})
}

// FuzzParse gives any bytes to all that read a vault: each reads or refuses them.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"` + ulidOf + `"}`))
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
	f.Add(packed(f, []byte("{}\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, config := ParseConfig(data)
		_, head := ParseHead(data)
		_, snapshot := ParseSnapshot(data)
		_, index := ParseIndex(data)
		_, segment := countEvents(data)
		for _, err := range []error{config, head, snapshot, index, segment} {
			if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Errorf("got %v, want one of ours", err)
			}
		}
	})
}
