package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "crypto/sha512" // one content is named by a SHA-512

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
)

// Acceptance proves the guarantees of package bucket on an empty bucket.
func Acceptance(t *testing.T, b bucket.Bucket) {
	for _, c := range []struct {
		name string
		test func(*testing.T, bucket.Bucket)
	}{
		{"an empty bucket lists nothing and misses everything", empty},
		{"a content reads back from any offset", reads},
		{"storing the same content again changes nothing", again},
		{"storing other content under a taken key is refused", differs},
		{"content that is not what its digest says is not stored", wrongBytes},
		{"a content named by a SHA-512 is stored and compared", otherDigest},
		{"replacing replaces", replaces},
		{"a record is swapped only from the state it was read in", swaps},
		{"of a record that is too large only the state is known, and it can be replaced", tooLarge},
		{"of many swaps from one state exactly one wins", races},
		{"of many writers of one content one creates it", putRaces},
		{"a listing names what lies under a prefix", lists},
		{"what is removed is gone, and nothing else", removes},
		{"removing what is not there is done", removesNothing},
		{"a look tells the size and the time", heads},
		{"nothing is written once the context ended", ended},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, b) })
	}
}

func empty(t *testing.T, b bucket.Bucket) {
	for info, err := range b.List(t.Context(), "") {
		t.Errorf("got %v, %v in an empty bucket", info, err)
	}
	if _, err := b.Load(t.Context(), "vault/none.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load: got %v, want fs.ErrNotExist", err)
	}
	if _, _, err := b.Get(t.Context(), "blobs/none", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get: got %v, want fs.ErrNotExist", err)
	}
}

func reads(t *testing.T, b bucket.Bucket) {
	want := bytes.Repeat([]byte("ballast "), 9000)
	put(t, b, "reads/a", want)
	put(t, b, "reads/empty", nil)
	for _, offset := range []int64{0, 1, 8000, int64(len(want)) - 1, int64(len(want)), int64(len(want)) + 5} {
		if got := get(t, b, "reads/a", offset); !bytes.Equal(got, want[min(offset, int64(len(want))):]) {
			t.Errorf("from %d: got %d bytes", offset, len(got))
		}
	}
	if got := get(t, b, "reads/empty", 0); len(got) != 0 {
		t.Errorf("got %q, want nothing", got)
	}
	rec, err := b.Load(t.Context(), "reads/a")
	if err != nil || !bytes.Equal(rec.Data, want) || rec.ETag == "" {
		t.Errorf("load: got %d bytes, etag %q, %v", len(rec.Data), rec.ETag, err)
	}
	r, info, err := b.Get(t.Context(), "reads/a", 3)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if info.Size != int64(len(want)) || info.Modified.IsZero() {
		t.Errorf("got %+v, want the whole size and a time", info)
	}
}

func again(t *testing.T, b bucket.Bucket) {
	put(t, b, "again/a", []byte("once"))
	created, err := b.Put(t.Context(), "again/a", bucket.Bytes([]byte("once")))
	if created || err != nil {
		t.Errorf("got created %v, %v; want false, nil", created, err)
	}
}

func differs(t *testing.T, b bucket.Bucket) {
	put(t, b, "differs/a", []byte("first"))
	for _, other := range []string{"other", "longer than the first"} {
		if _, err := b.Put(t.Context(), "differs/a", bucket.Bytes([]byte(other))); !errors.Is(err, bucket.ErrDiffers) || !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v, want ErrDiffers", err)
		}
	}
	if got := get(t, b, "differs/a", 0); string(got) != "first" {
		t.Errorf("got %q, want the first content", got)
	}
}

func wrongBytes(t *testing.T, b bucket.Bucket) {
	good := bucket.Bytes([]byte("the right bytes"))
	short, wrong, broken := good, good, good
	short.Content = strings.NewReader("the right")
	wrong.Content = strings.NewReader("the wrong bytes")
	broken.Content = unreadable{}
	for name, o := range map[string]bucket.Object{"short": short, "wrong": wrong, "broken": broken} {
		content, ok := errors.AsType[*bucket.ContentError](second(b.Put(t.Context(), "wrong/"+name, o)))
		if !ok || content.Digest != good.Digest {
			t.Errorf("%s: got %v, want a ContentError", name, content)
		}
		if _, err := b.Load(t.Context(), "wrong/"+name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want nothing stored", name, err)
		}
	}
}

func otherDigest(t *testing.T, b bucket.Bucket) {
	data := []byte("long digest")
	o := bucket.Object{Size: int64(len(data)), Digest: digest.SHA512.FromBytes(data), Content: bytes.NewReader(data)}
	for _, want := range []bool{true, false} {
		if created, err := b.Put(t.Context(), "sha512/a", o); created != want || err != nil {
			t.Errorf("got created %v, %v; want %v, nil", created, err, want)
		}
	}
}

func replaces(t *testing.T, b bucket.Bucket) {
	for _, text := range []string{"one", "two, longer", "3"} {
		if err := b.Replace(t.Context(), "replaces/a", bucket.Bytes([]byte(text))); err != nil {
			t.Fatal(err)
		}
		if got := get(t, b, "replaces/a", 0); string(got) != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
}

func swaps(t *testing.T, b bucket.Bucket) {
	const key = "swaps/HEAD.json"
	if _, err := b.Swap(t.Context(), key, `"0123456789abcdef0123456789abcdef"`, []byte("x")); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("swap of a missing record: got %v, want ErrChanged", err)
	}
	first, err := b.Swap(t.Context(), key, "", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Swap(t.Context(), key, "", []byte("x")); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("creating it again: got %v, want ErrChanged", err)
	}
	next, err := b.Swap(t.Context(), key, first, []byte("2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Swap(t.Context(), key, first, []byte("x")); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("from an old state: got %v, want ErrChanged", err)
	}
	rec, err := b.Load(t.Context(), key)
	if err != nil || string(rec.Data) != "2" || rec.ETag != next {
		t.Errorf("got %q, etag %q, %v; want 2, %q", rec.Data, rec.ETag, err, next)
	}
}

func tooLarge(t *testing.T, b bucket.Bucket) {
	const key = "large/HEAD.json"
	if err := b.Replace(t.Context(), key, bucket.Bytes(make([]byte, bucket.MaxRecord+1))); err != nil {
		t.Fatal(err)
	}
	rec, err := b.Load(t.Context(), key)
	if !errors.Is(err, bucket.ErrTooLarge) || len(rec.Data) > 0 || rec.ETag == "" {
		t.Fatalf("got %d bytes, etag %q, %v; want ErrTooLarge and the etag", len(rec.Data), rec.ETag, err)
	}
	if _, err := b.Swap(t.Context(), key, "", []byte("1")); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("creating it: got %v, want ErrChanged", err)
	}
	if _, err := b.Swap(t.Context(), key, rec.ETag, []byte("2")); err != nil {
		t.Error(err)
	}
	if got := get(t, b, key, 0); string(got) != "2" {
		t.Errorf("got %d bytes, want the new record", len(got))
	}
}

func races(t *testing.T, b bucket.Bucket) {
	const key, writers, rounds = "races/HEAD.json", 8, 6
	etag := ""
	for round := range rounds {
		var wg sync.WaitGroup
		var won atomic.Int32
		var now atomic.Value
		for w := range writers {
			wg.Go(func() {
				got, err := b.Swap(t.Context(), key, etag, fmt.Appendf(nil, "%d by %d", round, w))
				if err == nil {
					won.Add(1)
					now.Store(got)
				} else if !errors.Is(err, bucket.ErrChanged) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := won.Load(); got != 1 {
			t.Fatalf("round %d: %d writers won, want 1", round, got)
		}
		etag = now.Load().(string)
	}
}

func putRaces(t *testing.T, b bucket.Bucket) {
	var wg sync.WaitGroup
	var created atomic.Int32
	data := bytes.Repeat([]byte("same"), 5000)
	for range 8 {
		wg.Go(func() {
			c, err := b.Put(t.Context(), "races/same", bucket.Bytes(data))
			if err != nil {
				t.Error(err)
			}
			if c {
				created.Add(1)
			}
		})
	}
	wg.Wait()
	if got := created.Load(); got != 1 {
		t.Errorf("%d writers created it, want 1", got)
	}
}

func lists(t *testing.T, b bucket.Bucket) {
	for _, key := range []string{"lists/a/1", "lists/a/2", "lists/ab/3", "lists/b"} {
		put(t, b, key, []byte(key))
	}
	for prefix, want := range map[string][]string{
		"lists/":     {"lists/a/1", "lists/a/2", "lists/ab/3", "lists/b"},
		"lists/a":    {"lists/a/1", "lists/a/2", "lists/ab/3"},
		"lists/a/":   {"lists/a/1", "lists/a/2"},
		"lists/none": nil,
		"none/":      nil,
	} {
		var got []string
		for info, err := range b.List(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			if info.Size != int64(len(info.Key)) {
				t.Errorf("%s: got size %d, want %d", info.Key, info.Size, len(info.Key))
			}
			got = append(got, info.Key)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", prefix, got, want)
		}
	}
	for range b.List(t.Context(), "lists/") {
		break // an early end is no fault
	}
}

func removes(t *testing.T, b bucket.Bucket) {
	var all []bucket.Info
	for i := range 12 {
		put(t, b, fmt.Sprintf("removes/%02d", i), fmt.Appendf(nil, "content %d", i))
	}
	for info, err := range b.List(t.Context(), "removes/") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info)
	}
	named := append(slices.Clone(all[:5]), bucket.Info{Key: all[7].Key}) // by version where there are any, and without
	if kept, err := b.Remove(t.Context(), named); len(kept) > 0 || err != nil {
		t.Fatalf("got %v, %v", kept, err)
	}
	for i, info := range all {
		_, err := b.Head(t.Context(), info.Key)
		if gone := i < 5 || i == 7; gone != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want gone: %v", info.Key, err, gone)
		}
	}
	put(t, b, all[0].Key, []byte("content 0")) // the name is free again
}

func removesNothing(t *testing.T, b bucket.Bucket) {
	for range 2 {
		if kept, err := b.Remove(t.Context(), []bucket.Info{{Key: "none/at/all"}, {Key: "none"}}); len(kept) > 0 || err != nil {
			t.Errorf("got %v, %v", kept, err)
		}
	}
	if kept, err := b.Remove(t.Context(), nil); len(kept) > 0 || err != nil {
		t.Errorf("of nothing: got %v, %v", kept, err)
	}
}

func heads(t *testing.T, b bucket.Bucket) {
	data := []byte("looked at")
	put(t, b, "heads/a", data)
	info, err := b.Head(t.Context(), "heads/a")
	if err != nil || info.Key != "heads/a" || info.Size != int64(len(data)) || info.Modified.IsZero() {
		t.Errorf("got %+v, %v", info, err)
	}
	if want := digest.FromBytes(data).Encoded(); info.SHA256 != "" && info.SHA256 != want {
		t.Errorf("got SHA-256 %s, want %s or none", info.SHA256, want)
	}
	if _, err := b.Head(t.Context(), "heads/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func ended(t *testing.T, b bucket.Bucket) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Put(ctx, "ended/a", bucket.Bytes([]byte("late"))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	put(t, b, "ended/b", []byte("stays"))
	if _, err := b.Remove(ctx, []bucket.Info{{Key: "ended/b"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("remove: got %v, want context.Canceled", err)
	}
	if _, err := b.Load(t.Context(), "ended/b"); err != nil {
		t.Errorf("got %v, want it there", err)
	}
	if _, err := b.Load(t.Context(), "ended/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want nothing stored", err)
	}
}

func put(t *testing.T, b bucket.Bucket, key string, data []byte) {
	t.Helper()
	if created, err := b.Put(t.Context(), key, bucket.Bytes(data)); !created || err != nil {
		t.Fatalf("put %s: got created %v, %v", key, created, err)
	}
}

func get(t *testing.T, b bucket.Bucket, key string, offset int64) []byte {
	t.Helper()
	r, _, err := b.Get(t.Context(), key, offset)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return data
}

func second(_ bool, err error) error { return err }

// unreadable is content on a disk that gives it back no more.
type unreadable struct{}

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }
