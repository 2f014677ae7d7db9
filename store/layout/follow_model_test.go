package layout

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"lastro/store/storetest"
)

// attempt is one Ingest of a model: what its server says from an offset on.
type attempt struct {
	flip  int           // the byte that is wrong; -1: none
	cut   int           // where the body breaks off; -1: not
	pause time.Duration // before it
}

func (a attempt) fetch(data []byte) func(context.Context, int64) (io.ReadCloser, int64, error) {
	if a.flip >= 0 {
		data = bytes.Clone(data)
		data[a.flip] ^= 1
	}
	return func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		rest := io.Reader(bytes.NewReader(data[offset:]))
		if a.cut >= 0 {
			rest = io.MultiReader(bytes.NewReader(data[min(int(offset), a.cut):a.cut]), iotest.ErrReader(io.ErrUnexpectedEOF))
		}
		return io.NopCloser(slowly{rest}), offset, nil
	}
}

// slowly gives little at a time, and takes time for it.
type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return s.Reader.Read(p[:min(len(p), 5000)])
}

// reader is one follower of a model.
type reader struct {
	offset, buf  int
	after, pause time.Duration
	leaves       int // after how many reads; -1: never
}

// read checks what a follower gets as far as that is the same for every order
// of events, and describes what is wrong. lies: some attempt sends wrong bytes.
func (r reader) read(ctx context.Context, tree *Tree, desc ocispec.Descriptor, data []byte, lies bool) error {
	time.Sleep(r.after)
	f, err := tree.Follow(ctx, desc, int64(r.offset))
	if err != nil {
		return nil
	}
	defer f.Close()
	var got []byte
	buf := make([]byte, r.buf)
	for reads := 0; reads != r.leaves && err == nil; reads++ {
		var n int
		n, err = f.Read(buf)
		got = append(got, buf[:n]...)
		time.Sleep(r.pause)
	}
	right := bytes.HasPrefix(data[r.offset:], got)
	switch {
	case err == io.EOF && (!right || len(got) != len(data)-r.offset):
		return fmt.Errorf("a reader from %d came to the end with %d bytes, right: %v", r.offset, len(got), right)
	case !right && !lies:
		return fmt.Errorf("a reader from %d got wrong bytes, which nobody sent: %v", r.offset, err)
	case !right && len(got) > max(0, len(data)-followed-r.offset):
		return fmt.Errorf("a reader from %d got %d wrong bytes of %d: %v", r.offset, len(got), len(data), err)
	}
	return nil
}

func TestFollowersNeverTakeWrongContentForWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := random(rapid.SampledFrom([]int{0, 1, 1000, followed - 1, followed + 1, small, small + 9, 400_000}).Draw(rt, "size"))
		place := rapid.IntRange(-1, len(data)-1)
		attempts := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) attempt {
			return attempt{flip: place.Draw(rt, "flip"), cut: place.Draw(rt, "cut"), pause: time.Duration(rapid.IntRange(0, 1200).Draw(rt, "pause")) * time.Millisecond}
		}), 1, 5).Draw(rt, "attempts")
		readers := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) reader {
			return reader{
				offset: rapid.IntRange(0, len(data)).Draw(rt, "offset"), buf: rapid.IntRange(1000, 40_000).Draw(rt, "buffer"),
				after: time.Duration(rapid.IntRange(0, 3000).Draw(rt, "after")) * time.Millisecond,
				pause: time.Duration(rapid.IntRange(0, 30).Draw(rt, "pause")) * time.Millisecond, leaves: rapid.IntRange(-1, 20).Draw(rt, "leaves"),
			}
		}), 1, 6).Draw(rt, "readers")
		if err := play(t, data, attempts, readers); err != nil {
			rt.Fatal(err)
		}
	})
}

// play runs attempts one after another, and readers beside them.
func play(t *testing.T, data []byte, attempts []attempt, readers []reader) (wrong error) {
	dir := storetest.Folder(t)
	desc := describe(data)
	lies := slices.ContainsFunc(attempts, func(a attempt) bool { return a.flip >= 0 })
	synctest.Test(t, func(t *testing.T) {
		tree := open(t, dir, Options{})
		var wg sync.WaitGroup
		errs := make([]error, len(readers))
		for i, r := range readers {
			wg.Go(func() { errs[i] = r.read(t.Context(), tree, desc, data, lies) })
		}
		for _, a := range attempts {
			time.Sleep(a.pause)
			_ = tree.Ingest(t.Context(), desc, a.fetch(data))
		}
		wg.Wait()
		time.Sleep(2 * grace)
		if left := openContents(t, dir); len(left) > 0 {
			errs = append(errs, fmt.Errorf("left open: %v", left))
		}
		if len(tree.arrivals.now) > 0 {
			errs = append(errs, fmt.Errorf("left %d arrivals", len(tree.arrivals.now)))
		}
		if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
			wrong = errs[i]
		}
	})
	return wrong
}
