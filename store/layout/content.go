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
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"lastro/mirror"
)

var (
	// ErrDigest says that content does not hash to its digest. It is
	// mirror.ErrContent as well, as is ErrSize.
	ErrDigest error = contentError("wrong digest")
	// ErrSize says that content has not the length that its descriptor says.
	ErrSize error = contentError("wrong size")
	// ErrFull says that the disk is full.
	ErrFull = errors.New("the disk is full: free some space, or move the data folder to a larger disk, and run again")
)

const (
	// bufferSize is small enough to be hashed while it is still in the
	// processor's cache: with four times as much, a fifth more time goes.
	bufferSize = 256 << 10
	// small is how large content may be to wait for a barrier. Each sync of its
	// own would cost more than all else about it; a larger one is little of a
	// large file, and would make the barrier of others long.
	small = bufferSize
	// writeOut is how much is written before the kernel is asked to begin
	// writing it to disk, so that the final sync has little left to do.
	writeOut = 8 << 20
	// followedPortion is what is written at a time while somebody follows.
	followedPortion = 32 << 10
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Has reports whether content with this size is stored, or waits for a barrier.
func (t *Tree) Has(desc ocispec.Descriptor) (bool, error) {
	if size, ok := t.waiting.size(desc.Digest); ok {
		return size == desc.Size, nil
	}
	size, err := t.root.size(Data(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && size == desc.Size, err
}

// OpenContent opens content that is stored, or waits for a barrier;
// fs.ErrNotExist. The caller closes it.
func (t *Tree) OpenContent(d digest.Digest) (*os.File, error) {
	if _, ok := t.waiting.size(d); ok {
		f, err := t.scratch.Open(partial(d))
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		// It got its name in between.
	}
	return t.root.Open(Data(d))
}

// Ingest stores content under its digest, unless it is there. Large content is
// durable when it returns. Small content is verified, held by this tree, and
// waits for the next barrier to be durable and to get its name: a crash before
// leaves it as an interrupted call does.
//
// Callers that want the same digest at once share one flight. What an
// interrupted call left is hashed again and continued; where it proves wrong,
// fetch is called once more from the start. An error of fetch or of its body is
// returned as it is, one of our disk says that it is the local registry's.
func (t *Tree) Ingest(ctx context.Context, desc ocispec.Descriptor, fetch mirror.Fetch) error {
	if err := CheckDigest(desc.Digest); err != nil {
		return err
	}
	if desc.Size < 0 {
		return fmt.Errorf("%s: %w: %d bytes", desc.Digest, ErrSize, desc.Size)
	}
	return t.flights.do(ctx, desc.Digest, func() error {
		if size, ok := t.waiting.size(desc.Digest); ok && size != desc.Size {
			return fmt.Errorf("%s: %w: it has %d bytes, want %d", desc.Digest, ErrSize, size, desc.Size)
		}
		has, err := t.Has(desc)
		if err != nil {
			return onDisk(err)
		}
		if has {
			return nil
		}
		return t.ingest(ctx, desc, fetch)
	})
}

type contentError string

func (e contentError) Error() string { return string(e) }

// Is lets a caller that does not know this package tell the fault.
func (e contentError) Is(target error) bool { return target == mirror.ErrContent }

// onDisk says that the fault is ours.
func onDisk(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("local registry: %w", Explain(err))
}

// Explain says what to do about a full disk, and returns any other error as it is.
func Explain(err error) error {
	if (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) && !errors.Is(err, ErrFull) {
		return fmt.Errorf("%w (%w)", ErrFull, err)
	}
	return err
}

func partial(d digest.Digest) string { return d.Algorithm().String() + "/" + d.Encoded() }

func (t *Tree) ingest(ctx context.Context, desc ocispec.Descriptor, fetch mirror.Fetch) error {
	f, err := t.openPartial(partial(desc.Digest))
	if err != nil {
		return onDisk(err)
	}
	w := &writer{tree: t, file: f, desc: desc, fetch: fetch, hash: desc.Digest.Algorithm().Hash(), arrival: t.arrivals.begin(desc, f)}
	err = t.keep(desc, w.fill(ctx))
	return errors.Join(err, onDisk(w.arrival.end(err, useless(err))))
}

// keep gives content its name, or the place where it waits for one. After an
// error what came stays, to be continued, unless it is of no use.
func (t *Tree) keep(desc ocispec.Descriptor, err error) error {
	name := partial(desc.Digest)
	switch {
	case useless(err):
		return errors.Join(err, t.scratch.Remove(name))
	case err != nil:
		return err
	case desc.Size <= small:
		t.waiting.add(desc)
		return nil
	default:
		return onDisk(t.rename(name, Data(desc.Digest)))
	}
}

// useless says that nobody may continue what came.
func useless(err error) bool {
	return errors.Is(err, ErrDigest) || errors.Is(err, ErrSize) || errors.Is(err, errUnsynced)
}

func (t *Tree) openPartial(name string) (*os.File, error) {
	if err := t.step("open", "partial/"+name); err != nil {
		return nil, err
	}
	f, err := t.scratch.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := t.scratch.MkdirAll(path.Dir(name), 0o700); err != nil {
		return nil, err
	}
	return t.scratch.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
}

// errUnsynced says that the disk did not take what was written. The page cache
// still has it and would vouch for it, so nobody may continue from there.
var errUnsynced = errors.New("not synced")

func (t *Tree) syncData(f *os.File, subject string) error {
	err := t.step("fdatasync", subject)
	if err == nil {
		err = unix.Fdatasync(int(f.Fd()))
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", subject, errUnsynced, err)
	}
	return nil
}

// writer fills one partial file.
type writer struct {
	tree  *Tree
	file  *os.File
	desc  ocispec.Descriptor
	fetch mirror.Fetch
	hash  hash.Hash
	size  int64 // written and hashed
	out   int64 // handed to the disk

	arrival *arrival
}

func (w *writer) fill(ctx context.Context) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	if err := w.resume(ctx, buf[:]); err != nil {
		return onDisk(err)
	}
	resumed := w.size > 0
	err := w.finish(ctx, buf[:])
	if resumed && errors.Is(err, ErrDigest) {
		if err := w.restart(); err != nil {
			return onDisk(err)
		}
		err = w.finish(ctx, buf[:])
	}
	if err != nil || w.desc.Size <= small {
		return err
	}
	return onDisk(w.tree.syncData(w.file, w.desc.Digest.String()))
}

// finish fetches what is missing and looks at the whole.
func (w *writer) finish(ctx context.Context, buf []byte) error {
	if w.size < w.desc.Size || w.desc.Size == 0 {
		if err := w.receive(ctx, buf); err != nil {
			return err
		}
	}
	if got := digest.NewDigest(w.desc.Digest.Algorithm(), w.hash); got != w.desc.Digest {
		return fmt.Errorf("%w: got %s, want %s", ErrDigest, got, w.desc.Digest)
	}
	return nil
}

// resume hashes what an earlier call left.
func (w *writer) resume(ctx context.Context, buf []byte) error {
	info, err := w.file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	if info.Size() > w.desc.Size {
		return w.restart()
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := w.file.ReadAt(buf, w.size)
		w.hash.Write(buf[:n])
		w.size += int64(n)
		w.arrival.advance(w.size)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (w *writer) receive(ctx context.Context, buf []byte) error {
	body, start, err := w.fetch(ctx, w.size)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := w.align(body, start); err != nil {
		return err
	}
	for {
		n, err := readFull(body, w.portion(buf))
		if err := w.append(buf[:n]); err != nil {
			return err
		}
		switch {
		case err == io.EOF:
			return w.complete()
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// portion is how much of buf is filled before it is written. Who follows gets
// bytes sooner, at the price of more writes.
func (w *writer) portion(buf []byte) []byte {
	if w.arrival.isFollowed() {
		return buf[:min(len(buf), followedPortion)]
	}
	return buf
}

// readFull fills buf. io.EOF is a body that ended as it should, and that only:
// io.ReadFull would give a body that broke off the same error.
func readFull(body io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = body.Read(buf[n:])
		n += m
	}
	return n, err
}

// align makes the next byte of a body that begins at start the one that is
// missing. What is here stays, though the server began anew: if the body breaks
// off it is not lost, and if it is wrong the digest tells.
func (w *writer) align(body io.Reader, start int64) error {
	if start < 0 || start > w.size {
		return fmt.Errorf("the download begins at %d where %d was asked for", start, w.size)
	}
	n, err := io.CopyN(io.Discard, body, w.size-start)
	if err == io.EOF {
		return fmt.Errorf("%w: got %d bytes, want %d", ErrSize, start+n, w.desc.Size)
	}
	return err
}

// restart forgets what is there.
func (w *writer) restart() error {
	w.arrival.discard()
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
	if len(p) == 0 {
		return nil
	}
	if w.size+int64(len(p)) > w.desc.Size {
		return fmt.Errorf("%w: more than the %d bytes that the descriptor says", ErrSize, w.desc.Size)
	}
	if err := w.tree.step("write", w.desc.Digest.String()); err != nil {
		return onDisk(err)
	}
	if _, err := w.file.WriteAt(p, w.size); err != nil {
		return onDisk(err)
	}
	w.hash.Write(p)
	w.size += int64(len(p))
	w.arrival.advance(w.size)
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
