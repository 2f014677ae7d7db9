package seal

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// Get opens sealed bytes at an offset, and tells how many there are in all.
type Get func(offset int64) (body io.ReadCloser, length int64, err error)

// readAhead is how much is read of what is only opened.
const readAhead = 4 << 10

// Open opens a sealed content at an offset, and tells its size. It reads the head, and
// from the chunk on that the offset is in. An offset at or behind the end gives an empty
// stream. Whoever reads to the end has read what was sealed; ErrNoIdentity, ErrOthers,
// ErrDamaged, or what get says.
func (s *Sealer) Open(get Get, offset int64) (io.ReadCloser, int64, error) {
	if !s.Opens() {
		return nil, 0, ErrNoIdentity
	}
	body, length, err := get(0)
	if err != nil {
		return nil, 0, err
	}
	r := bufio.NewReaderSize(body, readAhead)
	h, err := s.readHead(r)
	size, bad := plain(length - int64(len(h.raw)))
	if err == nil {
		err = bad
	}
	if err != nil {
		_ = body.Close() // only reading; nothing can be lost
		return nil, 0, err
	}
	o := &opened{head: h, body: body, from: r, size: size, n: offset / chunkSize, skip: int(offset % chunkSize)}
	switch {
	case offset >= size && size > 0:
		o.n, o.skip = chunks(size), 0
	case o.n > 0:
		err = o.again(get)
	}
	if err != nil {
		return nil, 0, err
	}
	return o, size, nil
}

// OpenBytes opens what SealBytes sealed.
func (s *Sealer) OpenBytes(data []byte) ([]byte, error) {
	body, _, err := s.Open(func(offset int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), int64(len(data)), nil
	}, 0)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(body)
}

// opened is a stream of what was sealed.
type opened struct {
	head head
	body io.ReadCloser
	from io.Reader
	size int64
	n    int64 // the next chunk
	skip int   // bytes of it
	buf  []byte
	left []byte // of the chunk before
	err  error
}

// again opens the body where the next chunk begins.
func (o *opened) again(get Get) error {
	if err := o.body.Close(); err != nil {
		return err
	}
	want := int64(len(o.head.raw)) + payload(o.size)
	body, length, err := get(int64(len(o.head.raw)) + o.n*sealedSize)
	if err != nil {
		return err
	}
	if length != want {
		_ = body.Close() // only reading; nothing can be lost
		return fmt.Errorf("%w: it had %d bytes, and has %d now", ErrDamaged, want, length)
	}
	o.body, o.from = body, body
	return nil
}

// Read implements io.Reader.
func (o *opened) Read(p []byte) (int, error) {
	for len(o.left) == 0 && o.err == nil && len(p) > 0 {
		o.left, o.err = o.next()
	}
	n := copy(p, o.left)
	o.left = o.left[n:]
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, o.err
}

// next opens the next chunk; io.EOF after the last.
func (o *opened) next() ([]byte, error) {
	all := chunks(o.size)
	if o.n >= all {
		return nil, io.EOF
	}
	if o.buf == nil {
		o.buf = make([]byte, min(sealedSize, o.size+tagSize))
	}
	b := o.buf[:min(sealedSize, o.size-o.n*chunkSize+tagSize)]
	if _, err := io.ReadFull(o.from, b); err != nil {
		return nil, cutOff(err)
	}
	b, err := openChunk(o.head.aead, o.n, o.n == all-1, b)
	if err != nil {
		return nil, err
	}
	b = b[min(o.skip, len(b)):]
	o.n, o.skip = o.n+1, 0
	return b, nil
}

// Close implements io.Closer.
func (o *opened) Close() error { return o.body.Close() }
