package seal

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"sync"
)

// Sealed is a content as it is when it is sealed. Its bytes are made whenever they are
// read, the same ones every time, and may be read by several goroutines.
type Sealed struct {
	Size    int64 // of the sealed bytes
	head    head
	content io.ReaderAt
	size    int64
	pool    sync.Pool // of *chunk
}

// chunk is one that was made.
type chunk struct {
	n   int64 // -1: none yet
	buf []byte
}

// Seal begins to seal a content of a size. Every call gives other bytes.
func (s *Sealer) Seal(content io.ReaderAt, size int64) (*Sealed, error) {
	h, err := s.newHead()
	if err != nil {
		return nil, err
	}
	return &Sealed{
		Size: int64(len(h.raw)) + payload(size), head: h, content: content, size: size,
		pool: sync.Pool{New: func() any { return &chunk{-1, make([]byte, 0, sealedSize)} }},
	}, nil
}

// SealBytes seals what is in memory.
func (s *Sealer) SealBytes(data []byte) ([]byte, error) {
	x, err := s.Seal(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(x, 0, x.Size))
}

// ReadAt implements io.ReaderAt.
func (x *Sealed) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("offset %d", offset)
	}
	if before := int64(len(x.head.raw)); offset < before {
		n = copy(p, x.head.raw[offset:])
	}
	for n < len(p) {
		at := offset + int64(n) - int64(len(x.head.raw))
		if at >= payload(x.size) {
			return n, io.EOF
		}
		more, err := x.copyAt(p[n:], at)
		if err != nil {
			return n, err
		}
		n += more
	}
	return n, nil
}

// copyAt copies from one chunk.
func (x *Sealed) copyAt(p []byte, at int64) (int, error) {
	c := x.pool.Get().(*chunk)
	defer x.pool.Put(c)
	if n := at / sealedSize; c.n != n {
		if err := x.make(c, n, nil); err != nil {
			return 0, err
		}
	}
	return copy(p, c.buf[at%sealedSize:]), nil
}

// make makes a chunk. also gets what is sealed, unless it is nil.
func (x *Sealed) make(c *chunk, n int64, also io.Writer) error {
	c.n = -1
	c.buf = c.buf[:min(chunkSize, x.size-n*chunkSize)]
	if k, err := x.content.ReadAt(c.buf, n*chunkSize); k < len(c.buf) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if also != nil {
		_, _ = also.Write(c.buf) // a hash
	}
	c.buf = sealChunk(x.head.aead, n, n == chunks(x.size)-1, c.buf)
	c.n = n
	return nil
}

// Sum reads the content once. It returns the SHA-256 of the sealed bytes, and writes
// the content to h.
func (x *Sealed) Sum(h hash.Hash) ([]byte, error) {
	sum := sha256.New()
	sum.Write(x.head.raw)
	c := x.pool.Get().(*chunk)
	defer x.pool.Put(c)
	for n := range chunks(x.size) {
		if err := x.make(c, n, h); err != nil {
			return nil, err
		}
		sum.Write(c.buf)
	}
	return sum.Sum(nil), nil
}
