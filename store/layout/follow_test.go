package layout

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/storetest"
)

// coming is an Ingest whose bytes come when the test sends them.
type coming struct {
	tree  *Tree
	desc  ocispec.Descriptor
	up    *io.PipeWriter
	asked chan int64 // the offset that was fetched from
	done  chan error
}

func bring(ctx context.Context, tree *Tree, desc ocispec.Descriptor) *coming {
	r, w := io.Pipe()
	c := &coming{tree, desc, w, make(chan int64, 2), make(chan error, 1)}
	go func() {
		c.done <- tree.Ingest(ctx, desc, func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
			c.asked <- offset
			return r, offset, nil
		})
	}()
	synctest.Wait()
	return c
}

// send returns when everybody has taken what there is to take.
func (c *coming) send(t *testing.T, data []byte) {
	t.Helper()
	for piece := range slices.Chunk(data, followedPortion) {
		if _, err := c.up.Write(piece); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	}
}

// end ends the body and returns how the Ingest ended.
func (c *coming) end(err error) error {
	c.up.CloseWithError(err)
	return <-c.done
}

// reading is a follower that reads all it can.
type reading struct {
	io.ReadCloser
	got []byte
	err error       // nil: the end
	is  atomic.Bool // at its end
}

func follow(ctx context.Context, t *testing.T, tree *Tree, desc ocispec.Descriptor, offset int64) *reading {
	t.Helper()
	f, err := tree.Follow(ctx, desc, offset)
	if err != nil {
		t.Fatal(err)
	}
	r := &reading{ReadCloser: f}
	go func() {
		buf := make([]byte, 10_000)
		for r.err == nil {
			var n int
			n, r.err = f.Read(buf)
			r.got = append(r.got, buf[:n]...)
		}
		if r.err == io.EOF {
			r.err = nil
		}
		f.Close()
		r.is.Store(true)
	}()
	synctest.Wait()
	return r
}

// openContents are the files of content that this process has open below dir.
func openContents(t *testing.T, dir string) (names []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no list of open files: ", err)
	}
	for _, fd := range fds {
		name, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err == nil && strings.HasPrefix(name, dir) && strings.Contains(name, "/sha256/") {
			names = append(names, name)
		}
	}
	return names
}

// inBubble runs fn where time is not real. It fails when a goroutine is left,
// or an open file.
func inBubble(t *testing.T, fn func(t *testing.T, dir string, tree *Tree)) {
	dir := storetest.Folder(t)
	synctest.Test(t, func(t *testing.T) {
		fn(t, dir, open(t, dir, Options{}))
		synctest.Wait()
		if left := openContents(t, dir); len(left) > 0 {
			t.Errorf("left open: %v", left)
		}
	})
}

func TestFollowersReadWhatComesAndTheEndWhenItIsVerified(t *testing.T) {
	data, desc := content(1<<20 + 5)
	inBubble(t, func(t *testing.T, _ string, tree *Tree) {
		up := bring(t.Context(), tree, desc)
		var all []*reading
		offsets := []int64{0, 0, 1, 300_000, desc.Size - followed - 1, desc.Size - followed, desc.Size - 1, desc.Size}
		for _, offset := range offsets {
			all = append(all, follow(t.Context(), t, tree, desc, offset))
		}
		// What was begun before anybody followed comes whole.
		for sent := int64(0); sent < desc.Size; sent += 1 << 18 {
			up.send(t, data[sent:min(sent+1<<18, desc.Size)])
			there := min(sent+1<<18, desc.Size-followed)
			for i, r := range all {
				if want := max(0, there-offsets[i]); int64(len(r.got)) != want || r.is.Load() {
					t.Fatalf("from %d, when %d bytes had come: got %d bytes, want %d; %v", offsets[i], there, len(r.got), want, r.err)
				}
			}
		}
		if err := up.end(io.EOF); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i, r := range all {
			if !r.is.Load() || r.err != nil || !bytes.Equal(r.got, data[offsets[i]:]) {
				t.Errorf("from %d: got %d bytes, %v", offsets[i], len(r.got), r.err)
			}
		}
	})
}

func TestWhatComesIsReadInSmallPortionsWhenItIsFollowed(t *testing.T) {
	data := random(1 << 20)
	inBubble(t, func(t *testing.T, _ string, tree *Tree) {
		up := bring(t.Context(), tree, describe(data))
		r := follow(t.Context(), t, tree, describe(data), 0)
		up.send(t, data[:bufferSize])
		up.send(t, data[bufferSize:][:followedPortion])
		if len(r.got) != bufferSize+followedPortion {
			t.Errorf("got %d bytes", len(r.got))
		}
		r.Close()
		up.end(io.ErrUnexpectedEOF)
	})
}

func TestWrongContentEndsEveryFollowerBeforeItsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		sent func(data []byte) []byte
		want error
	}{
		"other bytes at the end":          {1 << 20, func(d []byte) []byte { d[len(d)-1] ^= 1; return d }, ErrDigest},
		"other bytes at the beginning":    {1 << 20, func(d []byte) []byte { d[0] ^= 1; return d }, ErrDigest},
		"small content of other bytes":    {1000, func(d []byte) []byte { d[0] ^= 1; return d }, ErrDigest},
		"too few bytes":                   {1 << 20, func(d []byte) []byte { return d[:len(d)-1] }, ErrSize},
		"too many bytes":                  {1 << 20, func(d []byte) []byte { return append(d, 0) }, ErrSize},
		"as much as a follower may read":  {followed, func(d []byte) []byte { d[0] ^= 1; return d }, ErrDigest},
		"a little more than it may read":  {followed + 9, func(d []byte) []byte { d[0] ^= 1; return d }, ErrDigest},
		"none, where some were announced": {1 << 20, func([]byte) []byte { return nil }, ErrSize},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, _ string, tree *Tree) {
				data, desc := content(c.size)
				up := bring(t.Context(), tree, desc)
				var all []*reading
				for _, offset := range []int64{0, 500, desc.Size - 1, desc.Size} {
					all = append(all, follow(t.Context(), t, tree, desc, offset))
				}
				up.send(t, c.sent(data))
				if err := up.end(io.EOF); !errors.Is(err, c.want) {
					t.Fatal(err)
				}
				synctest.Wait()
				for i, r := range all {
					if !r.is.Load() || !errors.Is(r.err, c.want) || int64(len(r.got)) > max(0, desc.Size-followed) {
						t.Errorf("follower %d got %d of %d bytes, %v", i, len(r.got), desc.Size, r.err)
					}
				}
			})
		})
	}
}

func TestWhatIsHeldIsFollowedFromAnyOffset(t *testing.T) {
	for name, size := range map[string]int{"with a name": small + 1, "that waits for a barrier": 1000, "of no bytes": 0} {
		t.Run(name, func(t *testing.T) {
			tree := open(t, storetest.Folder(t), Options{})
			data, desc := content(size)
			if _, err := tree.Follow(t.Context(), desc, 0); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("before: %v", err)
			}
			if err := tree.Ingest(t.Context(), desc, (&server{data: data}).fetch); err != nil {
				t.Fatal(err)
			}
			for _, offset := range []int64{0, desc.Size / 2, desc.Size} {
				f, err := tree.Follow(t.Context(), desc, offset)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(f)
				if err = errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, data[offset:]) {
					t.Errorf("from %d: got %d bytes, %v", offset, len(got), err)
				}
			}
			for _, offset := range []int64{-1, desc.Size + 1} {
				if _, err := tree.Follow(t.Context(), desc, offset); !errors.Is(err, fs.ErrInvalid) {
					t.Errorf("from %d: %v", offset, err)
				}
			}
			desc.Size++
			if _, err := tree.Follow(t.Context(), desc, 0); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("of another size: %v", err)
			}
		})
	}
}

func TestNobodyFollowsContentThatComesWithAnotherSize(t *testing.T) {
	desc := describe(random(1000))
	inBubble(t, func(t *testing.T, _ string, tree *Tree) {
		up := bring(t.Context(), tree, desc)
		other := desc
		other.Size++
		if _, err := tree.Follow(t.Context(), other, 0); !errors.Is(err, ErrSize) {
			t.Errorf("got %v", err)
		}
		up.end(io.ErrUnexpectedEOF)
	})
}

func TestAFollowerThatIsClosedOrCancelledGoesAtOnce(t *testing.T) {
	data, desc := content(1 << 20)
	errReset := errors.New("connection reset")
	for name, ingest := range map[string]error{"while content comes": nil, "while it waits for another ingest": errReset} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, dir string, tree *Tree) {
				up := bring(t.Context(), tree, desc)
				ctx, cancel := context.WithCancel(t.Context())
				closed, cancelled := follow(t.Context(), t, tree, desc, 0), follow(ctx, t, tree, desc, 0)
				idle, err := tree.Follow(ctx, desc, 0) // never closed
				if err != nil {
					t.Fatal(err)
				}
				up.send(t, data[:bufferSize])
				if ingest != nil {
					up.end(ingest)
				}
				began := time.Now()
				closed.Close()
				cancel()
				synctest.Wait()
				if !closed.is.Load() || !errors.Is(closed.err, fs.ErrClosed) || !cancelled.is.Load() || !errors.Is(cancelled.err, context.Canceled) {
					t.Errorf("got %v and %v", closed.err, cancelled.err)
				}
				if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
					t.Errorf("a later read: %v", err)
				}
				if _, err := tree.Follow(ctx, desc, 0); !errors.Is(err, context.Canceled) {
					t.Errorf("a cancelled newcomer: %v", err)
				}
				if ingest != nil {
					if left := openContents(t, dir); len(left) > 0 || !time.Now().Equal(began) {
						t.Errorf("left open: %v", left)
					}
					if _, err := tree.Follow(t.Context(), desc, 0); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("a newcomer waits for what nobody brings: %v", err)
					}
					return
				}
				up.send(t, data[bufferSize:])
				if err := up.end(io.EOF); err != nil {
					t.Errorf("the ingest: %v", err)
				}
			})
		})
	}
}

func TestAStalledFollowerDoesNotHoldUpTheIngest(t *testing.T) {
	data, desc := content(1 << 20)
	inBubble(t, func(t *testing.T, _ string, tree *Tree) {
		up := bring(t.Context(), tree, desc)
		stalled, err := tree.Follow(t.Context(), desc, 5)
		if err != nil {
			t.Fatal(err)
		}
		up.send(t, data)
		if err := errors.Join(up.end(io.EOF), tree.Remove(Data(desc.Digest))); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(stalled); err != nil || !bytes.Equal(got, data[5:]) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		stalled.Close()
	})
}
