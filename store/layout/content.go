package layout

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"lastro/mirror"
)

var (
	// ErrDigest says that content does not hash to its digest.
	ErrDigest = errors.New("wrong digest")
	// ErrSize says that content has not the length that its descriptor says.
	ErrSize = errors.New("wrong size")
	// ErrFull says that the disk is full.
	ErrFull = errors.New("the disk is full: free some space, or move the data folder to a larger disk, and run again")
)

const (
	bufferSize = 1 << 20
	// writeOut is how much is written before the kernel is asked to begin
	// writing it to disk, so that the final sync has little left to do.
	writeOut = 8 << 20
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Has reports whether content with this size is stored.
func (t *Tree) Has(desc ocispec.Descriptor) (bool, error) {
	info, err := t.root.Stat(Data(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() == desc.Size, err
}

// Ingest stores content durably under its digest, unless it is there. Callers
// that want the same digest at once share one flight. What an interrupted call
// left is hashed again and continued.
func (t *Tree) Ingest(ctx context.Context, desc ocispec.Descriptor, fetch mirror.Fetch) error {
	if err := desc.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", desc.Digest, err)
	}
	return t.flights.do(ctx, desc.Digest, func() error {
		if has, err := t.Has(desc); err != nil || has {
			return err
		}
		return full(t.ingest(ctx, desc, fetch))
	})
}

// full says what to do about a full disk.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w (%w)", ErrFull, err)
	}
	return err
}

func partial(d digest.Digest) string { return path.Join(d.Algorithm().String(), d.Encoded()) }

func (t *Tree) ingest(ctx context.Context, desc ocispec.Descriptor, fetch mirror.Fetch) error {
	name := partial(desc.Digest)
	t.step("open", "partial/"+name)
	if err := t.scratch.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := t.scratch.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	w := &writer{tree: t, file: f, desc: desc, hash: desc.Digest.Algorithm().Hash()}
	err = errors.Join(w.fill(ctx, fetch), f.Close())
	if errors.Is(err, ErrDigest) || errors.Is(err, ErrSize) {
		return errors.Join(err, t.scratch.Remove(name))
	}
	if err != nil {
		return err
	}
	return t.installContent(name, desc.Digest)
}

func (t *Tree) installContent(name string, d digest.Digest) error {
	to := Data(d)
	t.step("rename", to)
	if err := t.root.MkdirAll(path.Dir(to), 0o700); err != nil {
		return err
	}
	return os.Rename(filepath.Join(t.scratch.Name(), name), filepath.Join(t.root.Name(), to))
}

// writer fills one partial file.
type writer struct {
	tree *Tree
	file *os.File
	desc ocispec.Descriptor
	hash hash.Hash
	size int64 // written and hashed
	out  int64 // handed to the disk
}

func (w *writer) fill(ctx context.Context, fetch mirror.Fetch) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	if err := w.resume(ctx, buf[:]); err != nil {
		return err
	}
	if w.size < w.desc.Size || w.desc.Size == 0 {
		if err := w.receive(ctx, fetch, buf[:]); err != nil {
			return err
		}
	}
	if got := digest.NewDigest(w.desc.Digest.Algorithm(), w.hash); got != w.desc.Digest {
		return fmt.Errorf("%w: got %s, want %s", ErrDigest, got, w.desc.Digest)
	}
	w.tree.step("fdatasync", w.desc.Digest.String())
	return unix.Fdatasync(int(w.file.Fd()))
}

// resume hashes what an earlier call left.
func (w *writer) resume(ctx context.Context, buf []byte) error {
	info, err := w.file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	if info.Size() > w.desc.Size {
		return w.file.Truncate(0)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := w.file.ReadAt(buf, w.size)
		w.hash.Write(buf[:n])
		w.size += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (w *writer) receive(ctx context.Context, fetch mirror.Fetch, buf []byte) error {
	body, start, err := fetch(ctx, w.size)
	if err != nil {
		return err
	}
	defer body.Close()
	if start != w.size {
		if err := w.restart(start); err != nil {
			return err
		}
	}
	for {
		n, err := io.ReadAtLeast(body, buf, len(buf))
		if err := w.append(buf[:n]); err != nil {
			return err
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return w.complete()
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// restart begins anew where a server does not continue.
func (w *writer) restart(start int64) error {
	if start != 0 {
		return fmt.Errorf("the download begins at %d where %d was asked for", start, w.size)
	}
	w.hash.Reset()
	w.size, w.out = 0, 0
	return w.file.Truncate(0)
}

func (w *writer) complete() error {
	if w.size != w.desc.Size {
		return fmt.Errorf("%w: got %d bytes, want %d", ErrSize, w.size, w.desc.Size)
	}
	return nil
}

func (w *writer) append(p []byte) error {
	if w.size+int64(len(p)) > w.desc.Size {
		return fmt.Errorf("%w: more than the %d bytes that the descriptor says", ErrSize, w.desc.Size)
	}
	w.tree.step("write", w.desc.Digest.String())
	if _, err := w.file.WriteAt(p, w.size); err != nil {
		return err
	}
	w.hash.Write(p)
	w.size += int64(len(p))
	if w.size-w.out >= writeOut {
		// Only a hint: the sync that counts is fdatasync.
		_ = unix.SyncFileRange(int(w.file.Fd()), w.out, w.size-w.out, unix.SYNC_FILE_RANGE_WRITE)
		w.out = w.size
	}
	return nil
}

// flights lets one ingest of a digest run at a time; others wait for it and
// then look for themselves.
type flights struct {
	mu  sync.Mutex
	now map[digest.Digest]chan struct{}
}

func (f *flights) do(ctx context.Context, d digest.Digest, fn func() error) error {
	for {
		f.mu.Lock()
		if f.now == nil {
			f.now = map[digest.Digest]chan struct{}{}
		}
		running, ok := f.now[d]
		if !ok {
			mine := make(chan struct{})
			f.now[d] = mine
			f.mu.Unlock()
			defer func() {
				f.mu.Lock()
				delete(f.now, d)
				f.mu.Unlock()
				close(mine)
			}()
			return fn()
		}
		f.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
