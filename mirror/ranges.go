package mirror

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Ranger is a Source that can open a part of a blob.
type Ranger interface {
	// Range opens length bytes of a blob from offset on. An upstream that
	// does not answer with this part is errors.ErrUnsupported. The caller
	// closes the body.
	Range(ctx context.Context, repo string, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error)
}

// How large blobs are read. A first piece tells how fast one stream is. Where that
// is slow, the pieces that follow are read ahead of each other, into memory, by
// as many streams as make the whole faster.
const (
	leastSpread = 128 << 20 // of a blob, for more than one stream to pay
	piece       = 8 << 20
	maxStreams  = 4
	// fastEnough is how many bytes a second one stream brings when more of
	// them would not help.
	fastEnough = 64 << 20
	// gain is by how much another stream must make the whole faster to stay.
	gain = 1.2
)

// openLarge opens a blob from an offset, over several streams when one is slow.
func (d *fetching) openLarge(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	ranger, ok := d.src.(Ranger)
	if !ok || d.narrow || d.desc.Size-offset < leastSpread || !d.spreading.TryLock() {
		return d.src.Blob(ctx, d.change.repository, d.desc, offset)
	}
	s := newSpread(ctx, d, ranger, offset)
	err := s.first()
	if err == nil {
		return s, offset, nil
	}
	d.narrow = true
	s.Close()
	if ctx.Err() != nil {
		return nil, 0, ctx.Err()
	}
	return d.src.Blob(ctx, d.change.repository, d.desc, offset)
}

// spread reads a blob over several streams. Its bytes come in order.
type spread struct {
	d      *fetching
	ranger Ranger
	ctx    context.Context // of the pieces; ends with Close
	cancel context.CancelFunc
	done   func()

	ahead   []*part // pieces on their way, in order
	next    int64   // first byte that nobody was sent for
	current *part
	rest    io.ReadCloser // the rest of the blob, when one stream is fast enough

	streams int
	settled bool    // no more streams are tried
	best    float64 // bytes a second with one stream less
	since   time.Time
	brought int64 // since then
}

// part is a piece of a blob.
type part struct {
	room *[piece]byte
	data []byte // what of room the piece fills
	err  error
	came chan struct{}
	read int
}

var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

func newSpread(ctx context.Context, d *fetching, ranger Ranger, offset int64) *spread {
	s := &spread{d: d, ranger: ranger, next: offset, streams: 1, since: time.Now()}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.done = sync.OnceFunc(func() { d.spreading.Unlock() })
	return s
}

// first reads the first piece, and so finds out whether there are pieces.
func (s *spread) first() error {
	s.send()
	p := s.ahead[0]
	<-p.came
	return p.err
}

// send sends for the next piece.
func (s *spread) send() {
	length := min(piece, s.d.desc.Size-s.next)
	p := &part{room: pieces.Get().(*[piece]byte), came: make(chan struct{})}
	p.data = p.room[:length]
	offset := s.next
	s.next += length
	s.ahead = append(s.ahead, p)
	go func() {
		defer close(p.came)
		p.err = s.bring(p.data, offset)
	}()
}

func (s *spread) bring(data []byte, offset int64) error {
	body, err := s.ranger.Range(s.ctx, s.d.change.repository, s.d.desc, offset, int64(len(data)))
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.ReadFull(body, data)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // of the piece, not of the blob
	}
	return err
}

func (s *spread) Read(b []byte) (int, error) {
	if s.rest != nil {
		return s.rest.Read(b)
	}
	if s.current == nil {
		if err := s.advance(); err != nil {
			return 0, err
		}
		if s.rest != nil {
			return s.rest.Read(b)
		}
	}
	n := copy(b, s.current.data[s.current.read:])
	s.current.read += n
	if s.current.read == len(s.current.data) {
		s.recycle(s.current)
		s.current = nil
	}
	return n, nil
}

// advance waits for the next piece, and sends for more.
func (s *spread) advance() error {
	if len(s.ahead) == 0 {
		if s.next == s.d.desc.Size {
			return io.EOF
		}
		if s.streams == 1 && s.settled {
			return s.plain()
		}
		s.send()
	}
	p := s.ahead[0]
	<-p.came
	if p.err != nil {
		s.d.narrow = true // whoever continues does so with one stream
		return p.err
	}
	s.ahead = s.ahead[1:]
	s.current = p
	s.judge(int64(len(p.data)))
	for len(s.ahead) < s.streams && s.next < s.d.desc.Size && !(s.streams == 1 && s.settled) {
		s.send()
	}
	return nil
}

// judge looks how fast the pieces come, and tries one stream more as long as
// the last one paid.
func (s *spread) judge(n int64) {
	s.brought += n
	if s.settled || s.brought < int64(s.streams)*piece {
		return
	}
	rate := float64(s.brought) / max(time.Since(s.since).Seconds(), 1e-6)
	switch {
	case s.streams == 1 && rate >= fastEnough:
		s.settled = true
	case s.streams > 1 && rate < s.best*gain:
		s.settled = true
		s.streams--
	case s.streams == maxStreams:
		s.settled = true
	default:
		s.streams++
	}
	s.best, s.since, s.brought = rate, time.Now(), 0
}

// plain opens all that is left as one stream.
func (s *spread) plain() error {
	body, start, err := s.d.src.Blob(s.ctx, s.d.change.repository, s.d.desc, s.next)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, body, s.next-start); err != nil {
		return errors.Join(err, body.Close())
	}
	s.rest = body
	s.done()
	return nil
}

func (s *spread) recycle(p *part) { pieces.Put(p.room) }

// Close ends all streams.
func (s *spread) Close() error {
	s.cancel()
	for _, p := range s.ahead {
		<-p.came
		s.recycle(p)
	}
	s.ahead = nil
	s.done()
	if s.rest != nil {
		return s.rest.Close()
	}
	return nil
}
