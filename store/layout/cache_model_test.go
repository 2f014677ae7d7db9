package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"lastro/store/storetest"
)

// world is the few names that a model of the cache is about.
type world struct {
	contents [][]byte
	digests  []digest.Digest
	links    []string
	places   []string // links, content, and all folders above them
	moving   *sync.RWMutex
}

func newWorld() (w world) {
	w.moving = new(sync.RWMutex)
	for _, data := range []string{"x", "yy"} {
		d := digest.FromString(data)
		w.contents, w.digests = append(w.contents, []byte(data)), append(w.digests, d)
		w.places = append(w.places, Data(d))
		for _, repo := range []string{"a", "a/b"} {
			w.links = append(w.links, Layer(repo, d), Revision(repo, d), Tag(repo, "v"+data))
		}
	}
	w.places = append(w.places, w.links...)
	for _, name := range slices.Clone(w.places) {
		for dir := path.Dir(name); dir != Base; dir = path.Dir(dir) {
			w.places = append(w.places, dir)
		}
	}
	slices.Sort(w.places)
	w.places = slices.Compact(w.places)
	return w
}

// change is one thing that somebody does to a tree. Its error does not matter.
type change struct {
	do       string
	from, to string
	which    int // of the digests

	parts     int // that are written
	cancelled bool
}

var doings = map[string]func(context.Context, *Tree, world, change) error{
	"read": func(_ context.Context, t *Tree, _ world, c change) error { _, err := t.ReadLink(c.to); return err },
	"size": func(_ context.Context, t *Tree, w world, c change) error {
		_, err := t.Size(w.digests[c.which])
		return err
	},
	"link": func(_ context.Context, t *Tree, w world, c change) error { return t.Link(c.to, w.digests[c.which]) },
	"link durably": func(_ context.Context, t *Tree, w world, c change) error {
		return t.LinkDurably(c.to, w.digests[c.which])
	},
	"remove": func(_ context.Context, t *Tree, _ world, c change) error { return t.Remove(c.from) },
	"ingest": func(ctx context.Context, t *Tree, w world, c change) error {
		data := w.contents[c.which]
		err := t.Ingest(ctx, ocispec.Descriptor{Digest: w.digests[c.which], Size: int64(len(data))}, func(context.Context, int64) (io.ReadCloser, int64, error) {
			return io.NopCloser(bytes.NewReader(data)), 0, nil
		})
		return errors.Join(err, t.Settle(w.digests[c.which]))
	},
	"adopt": func(ctx context.Context, t *Tree, w world, c change) error {
		w.moving.Lock() // all use one upload
		defer w.moving.Unlock()
		u, err := t.Driver().Writer(ctx, "/"+uploaded, false)
		if err != nil {
			return err
		}
		_, err = u.Write(w.contents[c.which])
		if err = errors.Join(err, u.Commit(ctx), u.Close()); err != nil {
			return err
		}
		_, err = t.Adopt(ctx, uploaded, w.digests[c.which])
		return err
	},
	"driver puts": func(ctx context.Context, t *Tree, w world, c change) error {
		return t.Driver().PutContent(ctx, "/"+c.to, []byte(w.digests[c.which]))
	},
	"driver writes":  writeByDriver(false),
	"driver appends": writeByDriver(true),
	"driver moves": func(ctx context.Context, t *Tree, _ world, c change) error {
		return t.Driver().Move(ctx, "/"+c.from, "/"+c.to)
	},
	"driver deletes": func(ctx context.Context, t *Tree, _ world, c change) error { return t.Driver().Delete(ctx, "/"+c.from) },
}

// writeByDriver writes a link in parts, or none of it, and lets others read between them.
func writeByDriver(appending bool) func(context.Context, *Tree, world, change) error {
	return func(ctx context.Context, t *Tree, w world, c change) error {
		w.moving.RLock()
		defer w.moving.RUnlock()
		u, err := t.Driver().Writer(ctx, "/"+c.to, appending)
		if err != nil {
			return err
		}
		text := []byte(w.digests[c.which])
		for _, part := range [][]byte{text[:20], text[20:], []byte("\n")}[:c.parts] {
			_, _ = t.ReadLink(c.to)
			if _, err := u.Write(part); err != nil {
				return errors.Join(err, u.Close())
			}
		}
		_, _ = t.ReadLink(c.to)
		if c.cancelled {
			return errors.Join(u.Cancel(ctx), u.Close())
		}
		return errors.Join(u.Commit(ctx), u.Close())
	}
}

func (w world) draw(rt *rapid.T) change {
	c := change{
		do:    rapid.SampledFrom(slices.Sorted(maps.Keys(doings))).Draw(rt, "do"),
		from:  rapid.SampledFrom(w.places).Draw(rt, "from"),
		to:    rapid.SampledFrom(w.links).Draw(rt, "to"),
		which: rapid.IntRange(0, len(w.digests)-1).Draw(rt, "which"),
		parts: rapid.IntRange(0, 3).Draw(rt, "parts"), cancelled: rapid.Bool().Draw(rt, "cancelled"),
	}
	if c.do == "driver moves" {
		places := rapid.SampledFrom([][]string{w.links, w.places}).Draw(rt, "of all")
		c.from, c.to = rapid.SampledFrom(places).Draw(rt, "moved"), rapid.SampledFrom(places).Draw(rt, "place")
	}
	return c
}

// compare says where memory and disk differ. It makes all known that can be.
func (w world) compare(t *Tree) error {
	for _, name := range w.links {
		got, err := t.ReadLink(name)
		want, wantErr := t.root.readLink(name)
		if got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			return fmt.Errorf("%s: known as %q, %v; on disk %q, %v", name, got, err, want, wantErr)
		}
	}
	for _, d := range w.digests {
		if _, waits := t.waiting.size(d); waits {
			continue // it could not get its name
		}
		got, err := t.Size(d)
		want, wantErr := t.root.size(Data(d))
		if got != want || errors.Is(err, fs.ErrNotExist) != errors.Is(wantErr, fs.ErrNotExist) {
			return fmt.Errorf("%s: known to have %d bytes, %v; on disk %d, %v", d, got, err, want, wantErr)
		}
	}
	return nil
}

func TestWhatIsKnownOfLinksAndSizesIsWhatTheDiskSays(t *testing.T) {
	w := newWorld()
	dir := storetest.Folder(t)
	rapid.Check(t, func(rt *rapid.T) {
		if err := os.RemoveAll(dir + "/registry"); err != nil {
			rt.Fatal(err)
		}
		tree, err := Open(dir+"/registry", dir+"/partial", Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer tree.Close()
		one := rapid.Custom(w.draw)
		for range rapid.IntRange(1, 8).Draw(rt, "phases") {
			var wg sync.WaitGroup
			for range rapid.SampledFrom([]int{1, 1, 4}).Draw(rt, "goroutines") {
				changes := rapid.SliceOfN(one, 1, 8).Draw(rt, "changes")
				wg.Go(func() {
					for _, c := range changes {
						_ = doings[c.do](t.Context(), tree, w, c)
					}
				})
			}
			wg.Wait()
			if err := w.compare(tree); err != nil {
				rt.Fatal(err)
			}
		}
	})
}
