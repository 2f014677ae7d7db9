package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// cappedSource brings each stream so many bytes a second, and parts of blobs.
type cappedSource struct {
	*shelf
	perSecond int64
	fault     func(offset int64) error // of a part
	empty     int64                    // the part that begins here has no bytes

	mu     sync.Mutex
	now    int
	most   int // parts at once
	parts  int
	wholes int
	bytes  atomic.Int64
}

func (s *cappedSource) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	body, start, err := s.shelf.Blob(ctx, repo, desc, offset)
	if err == nil && desc.Size > 1<<20 {
		s.mu.Lock()
		s.wholes++
		s.mu.Unlock()
		body = &capped{body, s}
	}
	return body, start, err
}

func (s *cappedSource) Range(ctx context.Context, _ string, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts++
	if s.fault != nil {
		if err := s.fault(offset); err != nil {
			return nil, err
		}
	}
	s.now++
	s.most = max(s.most, s.now)
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	if s.empty > 0 && offset == s.empty {
		length = 0
	}
	return &part{capped{io.NopCloser(bytes.NewReader(s.blobs[desc.Digest][offset : offset+length])), s}}, ctx.Err()
}

type capped struct {
	io.ReadCloser
	s *cappedSource
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p[:min(len(p), 1<<20)])
	c.s.bytes.Add(int64(n))
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.s.perSecond))
	return n, err
}

type part struct{ capped }

func (p *part) Close() error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.now--
	return nil
}

// sink keeps what is ingested in memory, and nothing else.
type sink struct {
	mirror.Destination
	took []byte
}

func (s *sink) Ingest(ctx context.Context, desc ocispec.Descriptor, fetch mirror.Fetch) error {
	body, start, err := fetch(ctx, int64(len(s.took)))
	if err != nil {
		return err
	}
	defer body.Close()
	s.took = s.took[:start]
	s.took = slices.Grow(s.took, int(desc.Size))
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		s.took = append(s.took, buf[:n]...)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// large is a blob that is worth several streams.
func large(s *shelf) ocispec.Descriptor {
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i>>8) ^ byte(i)
	}
	data := bytes.Repeat(block, 161)
	copy(data[100<<20:], "not every block is alike")
	return s.blob(ocispec.MediaTypeImageLayerGzip, data[:len(data)-12345])
}

func TestALargeBlobIsReadOverSeveralStreamsWhereOneIsSlow(t *testing.T) {
	for _, c := range []struct {
		name      string
		perSecond int64
		fault     func(int64) error
		empty     int64
		most      int // streams at once
		wholes    int // requests for all that is left
		parts     int // at most
	}{
		{"slow streams", 10 << 20, nil, 0, 4, 0, 21},
		{"a stream that is fast enough", 200 << 20, nil, 0, 1, 1, 1},
		{"no parts", 10 << 20, func(int64) error { return errors.ErrUnsupported }, 0, 0, 1, 1},
		{"no more parts", 10 << 20, func(offset int64) error {
			if offset > 60<<20 {
				return errors.ErrUnsupported
			}
			return nil
		}, 0, 3, 1, 12},
		{"a part without bytes", 10 << 20, nil, 24 << 20, 2, 1, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := &cappedSource{shelf: newShelf(), perSecond: c.perSecond, fault: c.fault, empty: c.empty}
			desc := large(up.shelf)
			synctest.Test(t, func(t *testing.T) {
				dest := &sink{}
				if err := mirror.Download(t.Context(), up, dest, desc); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(dest.took, up.blobs[desc.Digest]) {
					t.Error("the bytes are not those of the blob")
				}
			})
			if up.most != c.most || up.wholes != c.wholes || up.parts > c.parts {
				t.Errorf("%d streams at once, %d parts, %d wholes; want %d, at most %d, %d", up.most, up.parts, up.wholes, c.most, c.parts, c.wholes)
			}
			if waste := up.bytes.Load() - desc.Size; waste > 4*8<<20 {
				t.Errorf("%d bytes were fetched in vain", waste)
			}
		})
	}
}

func TestASmallBlobIsReadAsOne(t *testing.T) {
	up := &cappedSource{shelf: newShelf(), perSecond: 10 << 20}
	desc := up.layer("small", 2<<20)
	synctest.Test(t, func(t *testing.T) {
		if err := mirror.Download(t.Context(), up, &sink{}, desc); err != nil {
			t.Fatal(err)
		}
	})
	if up.parts != 0 || up.wholes != 1 {
		t.Errorf("%d parts and %d wholes, want one whole", up.parts, up.wholes)
	}
}

func TestStreamsThatAddNothingAreGivenUp(t *testing.T) {
	up := &sharedSource{cappedSource{shelf: newShelf(), perSecond: 20 << 20}}
	desc := large(up.shelf)
	synctest.Test(t, func(t *testing.T) {
		if err := mirror.Download(t.Context(), up, &sink{}, desc); err != nil {
			t.Fatal(err)
		}
	})
	if up.most != 2 || up.wholes != 1 {
		t.Errorf("%d streams at once and %d for the rest, want 2 and 1", up.most, up.wholes)
	}
}

// sharedSource is as fast over all streams as over one.
type sharedSource struct{ cappedSource }

func (s *sharedSource) Range(ctx context.Context, repo string, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	body, err := s.cappedSource.Range(ctx, repo, desc, offset, length)
	if err != nil {
		return nil, err
	}
	return &sharing{body.(*part)}, nil
}

type sharing struct{ *part }

func (p *sharing) Read(b []byte) (int, error) {
	n, err := p.part.Read(b)
	p.s.mu.Lock()
	others := p.s.now - 1
	p.s.mu.Unlock()
	time.Sleep(time.Duration(others*n) * time.Second / time.Duration(p.s.perSecond))
	return n, err
}
