package layout

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestAFollowerGoesOnWithTheIngestThatContinues(t *testing.T) {
	data, desc := content(1 << 20)
	errReset := errors.New("connection reset")
	for name, cancelled := range map[string]bool{"after a cut": false, "after a cancel": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, _ string, tree *Tree) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				first := bring(ctx, tree, desc)
				early, late := follow(t.Context(), t, tree, desc, 10), follow(t.Context(), t, tree, desc, desc.Size-10)
				first.send(t, data[:700_000])
				if cancelled {
					cancel()
				}
				if err := first.end(errReset); err == nil {
					t.Fatal("no error")
				}
				time.Sleep(grace - 1)
				joined := follow(t.Context(), t, tree, desc, 600_000)
				second := bring(t.Context(), tree, desc)
				time.Sleep(time.Hour)
				if at := <-second.asked; at < 600_000 || len(early.got) != int(at)-10 || len(joined.got) != int(at)-600_000 {
					t.Errorf("continued at %d, when they had read %d and %d bytes", at, len(early.got), len(joined.got))
				} else {
					second.send(t, data[at:])
				}
				if err := second.end(io.EOF); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				for _, r := range []*reading{early, late, joined} {
					if !r.is.Load() || r.err != nil || !bytes.HasSuffix(data, r.got) {
						t.Errorf("got %d bytes, %v", len(r.got), r.err)
					}
				}
				if len(early.got) != len(data)-10 || len(late.got) != 10 || len(joined.got) != len(data)-600_000 {
					t.Errorf("got %d, %d and %d bytes", len(early.got), len(late.got), len(joined.got))
				}
			})
		})
	}
}

func TestAFollowerEndsWithTheErrorWhenNobodyContinues(t *testing.T) {
	data, desc := content(1 << 20)
	errReset := errors.New("connection reset")
	inBubble(t, func(t *testing.T, _ string, tree *Tree) {
		up := bring(t.Context(), tree, desc)
		r := follow(t.Context(), t, tree, desc, 0)
		up.send(t, data[:700_000])
		up.end(errReset)
		time.Sleep(grace - 1)
		if synctest.Wait(); r.is.Load() {
			t.Fatalf("it did not wait: %v", r.err)
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); !r.is.Load() || !errors.Is(r.err, errReset) {
			t.Errorf("got %v", r.err)
		}
		if _, err := tree.Follow(t.Context(), desc, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("another: %v", err)
		}
	})
}

func TestEachIngestThatBreaksOffGivesTheWholeGrace(t *testing.T) {
	desc := describe(random(1 << 20))
	inBubble(t, func(t *testing.T, _ string, tree *Tree) {
		first := bring(t.Context(), tree, desc)
		r := follow(t.Context(), t, tree, desc, 0)
		first.end(io.ErrUnexpectedEOF)
		time.Sleep(grace / 2)
		second := bring(t.Context(), tree, desc)
		second.end(io.ErrNoProgress)
		time.Sleep(grace - 1)
		if synctest.Wait(); r.is.Load() {
			t.Errorf("it ended early: %v", r.err)
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); !errors.Is(r.err, io.ErrNoProgress) {
			t.Errorf("got %v", r.err)
		}
	})
}

func TestWhatAnEarlierProcessLeftIsReadBeforeMoreComes(t *testing.T) {
	data, desc := content(1 << 20)
	inBubble(t, func(t *testing.T, dir string, tree *Tree) {
		leavePartial(t, dir, desc.Digest, data[:700_000])
		up := bring(t.Context(), tree, desc)
		r := follow(t.Context(), t, tree, desc, 0)
		if !bytes.Equal(r.got, data[:700_000]) {
			t.Errorf("got %d bytes", len(r.got))
		}
		up.end(io.ErrUnexpectedEOF)
		time.Sleep(grace)
	})
}

func TestAFileThatWasCutBehindOurBackIsNotTheEnd(t *testing.T) {
	data, desc := content(1 << 20)
	inBubble(t, func(t *testing.T, dir string, tree *Tree) {
		up := bring(t.Context(), tree, desc)
		f, err := tree.Follow(t.Context(), desc, 0)
		if err != nil {
			t.Fatal(err)
		}
		up.send(t, data[:1<<19])
		if err := os.Truncate(filepath.Join(dir, "partial", partial(desc.Digest)), 100); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); len(got) != 100 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		f.Close()
		up.end(io.ErrUnexpectedEOF)
	})
}

func TestWhatWasReadWhileItWasThrownAwayIsNotGivenOut(t *testing.T) {
	data, desc := content(1 << 20)
	inBubble(t, func(t *testing.T, _ string, tree *Tree) {
		up := bring(t.Context(), tree, desc)
		f, err := tree.arrivals.follow(desc, 0)
		if err != nil {
			t.Fatal(err)
		}
		up.send(t, data[:1<<19])
		v, err := f.look(1000)
		if err != nil || v.n != 1000 || !f.keeps(v.file, 1) {
			t.Errorf("sees %d bytes, %v", v.n, err)
		}
		if f.from.discard(); f.keeps(v.file, 1) {
			t.Error("it keeps what it read")
		}
		if _, err := f.look(1000); !errors.Is(err, ErrDigest) {
			t.Errorf("then it sees %v", err)
		}
		f.end(fs.ErrClosed)
		up.end(io.ErrUnexpectedEOF)
	})
}

func TestBytesOfADownloadThatWasThrownAwayAreNotMixed(t *testing.T) {
	data, desc := content(1 << 20)
	damaged := bytes.Clone(data[:1<<19])
	damaged[5] ^= 1
	inBubble(t, func(t *testing.T, dir string, tree *Tree) {
		leavePartial(t, dir, desc.Digest, damaged)
		up := bring(t.Context(), tree, desc)
		begun, tail := follow(t.Context(), t, tree, desc, 0), follow(t.Context(), t, tree, desc, desc.Size-10)
		idle, err := tree.Follow(t.Context(), desc, 0)
		if err != nil {
			t.Fatal(err)
		}
		up.send(t, data[1<<19:])
		up.up.Close()
		synctest.Wait()
		if !begun.is.Load() || !errors.Is(begun.err, ErrDigest) || int64(len(begun.got)) > desc.Size-followed {
			t.Errorf("who had read some got %d bytes, %v", len(begun.got), begun.err)
		}
		if tail.is.Load() {
			t.Errorf("who had read nothing ended with %v", tail.err)
		}
		// The pipe was closed by the first fetch, so the second brings nothing.
		if err := <-up.done; !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
		if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("who had read nothing got %v", err)
		}
		idle.Close()
	})
}

func TestAFollowerThatReadNothingOfWhatWasThrownAwayReadsWhatComesThen(t *testing.T) {
	data, desc := content(1 << 20)
	damaged := bytes.Clone(data)
	damaged[5] ^= 1
	inBubble(t, func(t *testing.T, dir string, tree *Tree) {
		leavePartial(t, dir, desc.Digest, damaged[:len(data)-1])
		var f io.ReadCloser
		s := &server{data: data, body: func(r io.Reader) io.Reader {
			if f == nil {
				var err error
				if f, err = tree.Follow(t.Context(), desc, 3); err != nil {
					t.Error(err)
				}
			}
			return r
		}}
		if err := tree.Ingest(t.Context(), desc, s.fetch); err != nil || len(s.asked) != 2 {
			t.Fatalf("fetched from %v, %v", s.asked, err)
		}
		defer f.Close()
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data[3:]) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
}

func TestAPartialFileThatWasReplacedIsNotContinued(t *testing.T) {
	data, desc := content(1 << 20)
	inBubble(t, func(t *testing.T, dir string, tree *Tree) {
		first := bring(t.Context(), tree, desc)
		r := follow(t.Context(), t, tree, desc, 0)
		first.send(t, data[:bufferSize])
		first.end(io.ErrUnexpectedEOF)
		if err := os.Remove(filepath.Join(dir, "partial", partial(desc.Digest))); err != nil {
			t.Fatal(err)
		}
		second := bring(t.Context(), tree, desc)
		synctest.Wait()
		if !r.is.Load() || !errors.Is(r.err, ErrDigest) {
			t.Errorf("ended %v, %v", r.is.Load(), r.err)
		}
		second.end(io.ErrUnexpectedEOF)
	})
}
