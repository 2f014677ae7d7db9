package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	"lastro/mirror"
	"lastro/store/storetest"
)

// dig is a digest that is the same for the same text.
func dig(text string) digest.Digest { return digest.FromString(text) }

// at is a moment of a day that tests live in.
func at(hour int) time.Time { return time.Date(2026, 5, 1, hour, 0, 0, 0, time.UTC) }

// ledgerPath is in a folder that needs no disk, where there is such a thing:
// what tests wait for is not syncs. Those of package file are of a disk.
func ledgerPath(t *testing.T) string {
	return filepath.Join(storetest.Folder(t), "ledger.db")
}

func mustOpen(t *testing.T, path string, o Options) *Ledger {
	t.Helper()
	l, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// inMay is a new ledger whose clock stands after the day that tests live in.
func inMay(t *testing.T) *Ledger {
	t.Helper()
	return mustOpen(t, ledgerPath(t), Options{Now: func() time.Time { return at(1000) }})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func collect[T any](t *testing.T, seq iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for item, err := range seq {
		must(t, err)
		all = append(all, item)
	}
	return all
}

func image(name string, refs ...mirror.Ref) mirror.Manifest {
	return mirror.Manifest{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: dig(name), Size: int64(len(name))}, Refs: refs}
}

func index(name string, children ...mirror.Manifest) mirror.Manifest {
	m := image(name)
	m.Descriptor.MediaType = ocispec.MediaTypeImageIndex
	for _, c := range children {
		m.Refs = append(m.Refs, mirror.Ref{Role: mirror.RoleChild, Descriptor: c.Descriptor})
	}
	return m
}

func layer(name string) mirror.Ref {
	return mirror.Ref{Role: mirror.RoleLayer, Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: dig(name), Size: 7}}
}

func config(mediaType string) mirror.Ref {
	return mirror.Ref{Role: mirror.RoleConfig, Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: dig(mediaType), Size: 2}}
}

func about(subject mirror.Manifest, m mirror.Manifest) mirror.Manifest {
	m.Subject = &subject.Descriptor
	return m
}

func TestOpenNamesTheFileAndTheSideOfEveryFault(t *testing.T) {
	newer := ledgerPath(t)
	must(t, mustOpen(t, newer, Options{}).Close())
	db, err := bolt.Open(newer, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("format"), numberKey(3)) }))
	must(t, db.Close())
	torn := ledgerPath(t)
	must(t, os.WriteFile(torn, []byte("not a ledger"), 0o600))
	taken := ledgerPath(t)
	mustOpen(t, taken, Options{})

	for _, c := range []struct {
		name, path string
		want       error
		text       string
	}{
		{"a newer ledger", newer, ErrNewer, "open ledger %s: written by a newer lastro (format 3, this one knows 2): use a lastro that is as new"},
		{"a torn ledger", torn, ErrDamaged, "open ledger %s: ledger is damaged: it is only 12 bytes long: move it away, then run lastro rebuild (the graph) and lastro restore (the history)"},
		{"a ledger that is in use", taken, ErrLocked, "open ledger %s: ledger is open in another process: stop that process, or let the verb talk to it (same data folder)"},
		{"a folder that is missing", filepath.Join(torn, "none"), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.path, Options{Timeout: time.Millisecond})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if want := fmt.Sprintf(c.text, c.path); c.text != "" && err.Error() != want {
				t.Errorf("got %q\nwant %q", err, want)
			}
		})
	}
}

func TestUncleanTellsHowTheLastOwnerEnded(t *testing.T) {
	path := ledgerPath(t)
	l := mustOpen(t, path, Options{})
	crashed := path + ".crashed"
	copyFile(t, path, crashed)
	must(t, l.Close())
	if mustOpen(t, path, Options{}).Unclean() {
		t.Error("a ledger that was closed is unclean")
	}
	if !mustOpen(t, crashed, Options{}).Unclean() {
		t.Error("a ledger that was not closed is clean")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, content, 0o600))
}

func TestAClosedLedgerSaysSo(t *testing.T) {
	l := inMay(t)
	must(t, l.Close())
	must(t, l.Close())
	if err := l.RecordEvent(t.Context(), Event{Repo: "r", Tag: "t", Event: Seen, Digest: dig("a")}); !errors.Is(err, ErrClosed) {
		t.Errorf("record: got %v, want ErrClosed", err)
	}
	if _, err := l.Tag(t.Context(), "r", "t"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("tag: got %v, want fs.ErrClosed", err)
	}
}

func TestJobsAreRecordedAndReplaced(t *testing.T) {
	l := inMay(t)
	if _, err := l.Job(t.Context(), "sync debian"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a job that never ran: got %v, want fs.ErrNotExist", err)
	}
	first := Job{Name: "sync debian", Started: at(1)}
	second := Job{Name: "sync debian", Started: at(1), Ended: at(2), LastOK: at(2), Result: []byte(`{"images":3}`)}
	other := Job{Name: "backup main", Started: at(3), Ended: at(4), Err: "no space left"}
	for _, j := range []Job{first, second, other} {
		must(t, l.RecordJob(t.Context(), j))
	}
	got, err := l.Job(t.Context(), "sync debian")
	must(t, err)
	if diff := cmp.Diff(second, got); diff != "" {
		t.Error(diff)
	}
	all, err := l.Jobs(t.Context())
	must(t, err)
	if diff := cmp.Diff([]Job{other, second}, all); diff != "" {
		t.Error(diff)
	}
	if err := l.RecordJob(t.Context(), Job{}); err == nil {
		t.Error("a job without a name was recorded")
	}
}

func TestHeldIsKnownPerVault(t *testing.T) {
	l := inMay(t)
	a, b, long := dig("a"), dig("b"), digest.SHA512.FromString("a")
	must(t, l.RecordHeld(t.Context(), "main", []digest.Digest{a, long}))
	must(t, l.RecordHeld(t.Context(), "other", []digest.Digest{b}))
	for _, c := range []struct {
		vault string
		want  map[digest.Digest]bool
	}{
		{"main", map[digest.Digest]bool{a: true, long: true}},
		{"other", map[digest.Digest]bool{b: true}},
		{"none", map[digest.Digest]bool{}},
	} {
		got, err := l.Held(t.Context(), c.vault, []digest.Digest{a, b, long})
		must(t, err)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("vault %s: %s", c.vault, diff)
		}
		all := map[digest.Digest]bool{}
		for d, err := range l.AllHeld(t.Context(), c.vault) {
			must(t, err)
			all[d] = true
		}
		if diff := cmp.Diff(c.want, all); diff != "" {
			t.Errorf("all of vault %s: %s", c.vault, diff)
		}
	}
	must(t, l.ForgetHeld(t.Context(), "main"))
	must(t, l.ForgetHeld(t.Context(), "none"))
	got, err := l.Held(t.Context(), "main", []digest.Digest{a, long})
	must(t, err)
	if len(got) != 0 {
		t.Errorf("a forgotten vault holds %v", got)
	}
}

func TestManyHeldDigestsTakeMoreThanOnePage(t *testing.T) {
	l := inMay(t)
	var ds []digest.Digest
	for i := range 2*factPage + 1 {
		ds = append(ds, dig(fmt.Sprint(i)))
	}
	must(t, l.RecordHeld(t.Context(), "main", ds))
	got, err := l.Held(t.Context(), "main", ds)
	must(t, err)
	if len(got) != len(ds) {
		t.Errorf("%d held, want %d", len(got), len(ds))
	}
}

func TestWhatCannotBeAKeyIsRefused(t *testing.T) {
	l := inMay(t)
	good := Event{Time: at(1), Repo: "r", Tag: "t", Event: Seen, Digest: dig("a")}
	for name, spoil := range map[string]func(*Event){
		"no repository":             func(e *Event) { e.Repo = "" },
		"a zero byte in the name":   func(e *Event) { e.Repo = "a\x00b" },
		"a zero byte in the tag":    func(e *Event) { e.Tag = "a\x00b" },
		"a name that is not UTF-8":  func(e *Event) { e.Repo = "a\xff" },
		"a tag without end":         func(e *Event) { e.Tag = string(make([]byte, maxName+1)) },
		"a digest that is none":     func(e *Event) { e.Digest = "sha256:abc" },
		"a digest of no known kind": func(e *Event) { e.Digest = digest.SHA384.FromString("a") },
		"an event without a name":   func(e *Event) { e.Event = "" },
		"a time out of range":       func(e *Event) { e.Time = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		t.Run(name, func(t *testing.T) {
			e := good
			spoil(&e)
			if err := l.RecordEvent(t.Context(), e); err == nil {
				t.Error("it was recorded")
			}
			if err := l.ImportEvents(t.Context(), []Event{good, e}); err == nil {
				t.Error("it was imported")
			}
		})
	}
	if seq, err := l.LastSeq(t.Context()); seq != 0 || err != nil {
		t.Errorf("last number is %d, %v; want nothing recorded", seq, err)
	}
}
