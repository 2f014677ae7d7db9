package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// followed is how much of the end of content that is coming is kept back until
	// the whole was verified: without it nobody can take what he has for whole.
	followed = 64 << 10
	// grace is how long followers wait for another Ingest when one ended with an
	// error. The engine calls it again at once when a download broke off.
	grace = time.Second
)

// Follow opens content from an offset, which may be its size: content that is
// held, or that an Ingest is bringing just now; it is read as bytes arrive.
// fs.ErrNotExist when it is neither, or has another size on disk.
//
// The last 64 KiB of content that is coming are given out only when the Ingest
// has verified the whole and ended well. When the content is wrong every reader
// ends with that error. When the Ingest ends with another error, a reader goes
// on if another Ingest continues the content within a second, and ends with the
// error of the first if none does. A reader that has given out bytes which an
// Ingest then threw away ends with ErrDigest.
//
// A reader that waits is ended by Close, from any goroutine, and by the end of
// ctx. It does not hold up the Ingest, however slowly it is read.
func (t *Tree) Follow(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := CheckDigest(desc.Digest); err != nil {
		return nil, err
	}
	if offset < 0 || offset > desc.Size {
		return nil, fmt.Errorf("read %s from %d: it has %d bytes: %w", desc.Digest, offset, desc.Size, fs.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := t.arrivals.follow(desc, offset)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return t.openHeld(desc, offset)
	}
	f.unwatch = context.AfterFunc(ctx, func() { f.end(ctx.Err()) })
	return f, nil
}

// openHeld opens content of this size from an offset.
func (t *Tree) openHeld(desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	f, err := t.OpenContent(desc.Digest)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != desc.Size {
		err = &fs.PathError{Op: "open content of another size", Path: Data(desc.Digest), Err: fs.ErrNotExist}
	}
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// arrivals is content that is coming, and content whose followers wait for
// another Ingest to continue it. The zero value is ready.
type arrivals struct {
	mu  sync.Mutex // guards all below, and each arrival and follower
	now map[digest.Digest]*arrival
}

type arrivalState int

const (
	arriving arrivalState = iota
	broken                // ended with an error; another Ingest may continue it
	whole
	failed
)

// arrival is content on its way into a file.
type arrival struct {
	of   *arrivals
	desc ocispec.Descriptor
	file *os.File // closed when nobody writes or follows

	state     arrivalState
	err       error // of the Ingest that ended
	ready     int64 // how many bytes of the file may be read
	attempt   int   // grows when bytes that were ready are thrown away
	breaks    int
	followers int
	changed   chan struct{} // what waits for a change; nil when nobody does
}

// begin announces content that is about to be written to f, which it closes.
func (s *arrivals) begin(desc ocispec.Descriptor, f *os.File) *arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.now[desc.Digest]
	if a != nil && a.continues(desc, f) {
		_ = a.file.Close() // it was only read
		a.file, a.state, a.err = f, arriving, nil
		return a
	}
	if a != nil {
		a.leave(failed, errThrownAway)
	}
	if s.now == nil {
		s.now = map[digest.Digest]*arrival{}
	}
	a = &arrival{of: s, desc: desc, file: f}
	s.now[desc.Digest] = a
	return a
}

var errThrownAway = fmt.Errorf("%w: what had come was thrown away", ErrDigest)

// continues reports whether f has the bytes that were ready.
func (a *arrival) continues(desc ocispec.Descriptor, f *os.File) bool {
	was, err := a.file.Stat()
	if err != nil || desc.Size != a.desc.Size {
		return false
	}
	is, err := f.Stat()
	return err == nil && os.SameFile(was, is) && is.Size() >= a.ready
}

// advance says that the file has size bytes that may be read.
func (a *arrival) advance(size int64) {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if size > a.ready {
		a.ready = size
		a.wake()
	}
}

// isFollowed reports whether somebody reads what comes.
func (a *arrival) isFollowed() bool {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	return a.followers > 0
}

// discard is to be called before bytes of the file are thrown away.
func (a *arrival) discard() {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	a.attempt++
	a.ready = 0
	a.wake()
}

// end says how the Ingest ended. final is an error after which nothing of the
// file is kept.
func (a *arrival) end(err error, final bool) error {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	switch {
	case err == nil:
		a.leave(whole, nil)
	case final || a.followers == 0:
		a.leave(failed, err)
	default:
		a.state, a.err = broken, err
		a.breaks++
		n := a.breaks
		time.AfterFunc(grace, func() { a.giveUp(n) })
	}
	return a.closeUnused()
}

// giveUp ends followers, unless the content was continued since.
func (a *arrival) giveUp(breaks int) {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if a.state == broken && a.breaks == breaks {
		a.leave(failed, a.err)
	}
}

// leave ends what is shown to newcomers.
func (a *arrival) leave(state arrivalState, err error) {
	a.state, a.err = state, err
	delete(a.of.now, a.desc.Digest)
	a.wake()
}

func (a *arrival) wake() {
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

func (a *arrival) closeUnused() error {
	if a.state == arriving || a.followers > 0 {
		return nil
	}
	return a.file.Close()
}

// follow returns nil when the content is not coming.
func (s *arrivals) follow(desc ocispec.Descriptor, offset int64) (*follower, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.now[desc.Digest]
	if a == nil {
		return nil, nil
	}
	if a.desc.Size != desc.Size {
		return nil, fmt.Errorf("%s: %w: %d bytes are coming, want %d", desc.Digest, ErrSize, a.desc.Size, desc.Size)
	}
	a.followers++
	return &follower{from: a, start: offset, offset: offset, attempt: a.attempt, ended: make(chan struct{})}, nil
}

// follower reads an arrival.
type follower struct {
	from    *arrival
	unwatch func() bool
	ended   chan struct{}
	err     error // why it was ended

	start, offset int64
	attempt       int
}

// Close ends a reader. Calling it again does nothing.
func (f *follower) Close() error {
	f.unwatch()
	f.end(fs.ErrClosed)
	return nil
}

func (f *follower) end(err error) {
	a := f.from
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if f.err != nil {
		return
	}
	f.err = err
	close(f.ended)
	a.followers--
	if a.followers == 0 && a.state == broken {
		a.leave(failed, a.err)
	}
	_ = a.closeUnused() // it was only read, or synced
}

// Read waits for bytes.
func (f *follower) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		v, err := f.look(len(p))
		if err != nil {
			return 0, err
		}
		if v.n == 0 {
			select {
			case <-v.changed:
			case <-f.ended:
			}
			continue
		}
		n, err := v.file.ReadAt(p[:v.n], f.offset)
		if err == io.EOF { // not of the content: it has more
			err = io.ErrUnexpectedEOF
		}
		if f.keeps(v.file, n) {
			return n, err
		}
	}
}

// view is what a follower sees of an arrival: that n bytes are there, or, when
// none are, what closes at the next change.
type view struct {
	file    *os.File
	n       int64
	changed <-chan struct{}
}

func (f *follower) look(most int) (view, error) {
	a := f.from
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if err := f.fault(); err != nil {
		return view{}, err
	}
	end := a.ready
	if a.state != whole {
		end = min(end, a.desc.Size-followed)
	} else if f.offset == a.desc.Size {
		return view{}, io.EOF
	}
	if n := min(int64(most), end-f.offset); n > 0 {
		return view{file: a.file, n: n}, nil
	}
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return view{changed: a.changed}, nil
}

// fault is why nothing more can be read. Who has given out nothing yet begins
// with what comes after the bytes that were thrown away.
func (f *follower) fault() error {
	a := f.from
	switch {
	case f.err != nil:
		return f.err
	case a.state == failed:
		return a.err
	case f.attempt != a.attempt && f.offset > f.start:
		return errThrownAway
	}
	f.attempt = a.attempt
	return nil
}

// keeps reports whether n bytes that were read are given out. They are not when
// the file was replaced, closed or thrown away meanwhile.
func (f *follower) keeps(file *os.File, n int) bool {
	a := f.from
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if f.err != nil || f.attempt != a.attempt || file != a.file {
		return false
	}
	f.offset += int64(n)
	return true
}
