package serve

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
)

// octets and forGood go with every blob. A client may keep it for a year: a
// digest has one content.
var (
	octets  = []string{"application/octet-stream"}
	forGood = []string{"max-age=31536000"}
	ranges  = []string{"bytes"}
)

func (x *exchange) blob(d digest.Digest) error {
	if x.r.Method == http.MethodHead && !conditional(x.r.Header) {
		size, err := x.store.BlobSize(x.repo, d)
		if !errors.Is(err, fs.ErrNotExist) {
			return x.head(d, size, err)
		}
		return x.coming(d)
	}
	f, err := x.store.OpenBlob(x.repo, d)
	if errors.Is(err, fs.ErrNotExist) {
		return x.coming(d)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return x.content(d, f, info.Size())
}

// coming serves a blob that is not here, while it comes.
func (x *exchange) coming(d digest.Digest) error {
	if x.o.Demand == nil {
		return fs.ErrNotExist
	}
	stream, err := x.o.Demand.Blob(x.r.Context(), x.repo, d)
	if err != nil {
		return x.demanded(err)
	}
	body := &streamed{ctx: x.r.Context(), Stream: stream}
	defer body.Close()
	if x.r.Method == http.MethodGet && !conditional(x.r.Header) {
		// While nothing is said yet, a stream that does not open has an answer.
		if err := body.open(); err != nil {
			return x.demanded(err)
		}
	}
	return x.content(d, body, stream.Size)
}

func (x *exchange) head(d digest.Digest, size int64, err error) error {
	if err != nil {
		return err
	}
	x.describe(d, size)
	x.begin()
	x.w.WriteHeader(http.StatusOK)
	return nil
}

// describe names the content: in one allocation what takes four.
func (x *exchange) describe(d digest.Digest, size int64) {
	v := &[3]string{d.String(), etag(d), strconv.FormatInt(size, 10)}
	h := x.w.Header()
	h["Docker-Content-Digest"], h["Etag"], h["Content-Length"] = v[0:1:1], v[1:2:2], v[2:3:3]
	h["Content-Type"], h["Cache-Control"], h["Accept-Ranges"] = octets, forGood, ranges
}

// conditional reports whether a request asks for a part, or on a condition.
func conditional(h http.Header) bool {
	return h["Range"] != nil || h["If-None-Match"] != nil || h["If-Match"] != nil
}

// content sends content, or the part of it that the client asks for.
func (x *exchange) content(d digest.Digest, body io.ReadSeeker, size int64) error {
	if x.r.Method == http.MethodHead && !conditional(x.r.Header) {
		return x.head(d, size, nil)
	}
	x.describe(d, size)
	if conditional(x.r.Header) {
		return x.part(etag(d), body)
	}
	x.begin()
	_, err := (&pacer{ResponseWriter: x.w, exchange: x}).ReadFrom(&io.LimitedReader{R: body, N: size})
	return err
}

// part leaves conditions and ranges to the standard library.
func (x *exchange) part(etag string, body io.ReadSeeker) error {
	h := x.r.Header
	if status := precondition(h, etag); status != 0 {
		x.w.Header().Del("Content-Length")
		x.w.Header().Del("Content-Type")
		x.begin()
		x.w.WriteHeader(status)
		return nil
	}
	h.Del("If-Match") // it may be one without quotes
	if h.Get("If-Range") == etag[1:len(etag)-1] {
		h.Set("If-Range", etag)
	}
	x.w.Header().Del("Content-Length")
	x.begin()
	p := &pacer{ResponseWriter: x.w, exchange: x}
	http.ServeContent(p, x.r, "", time.Time{}, body)
	return p.err
}

// streamed reads a stream from where it was sought to.
type streamed struct {
	mirror.Stream
	ctx  context.Context
	at   int64
	body io.ReadCloser // nil: not open
}

func (s *streamed) open() (err error) {
	s.body, err = s.Open(s.ctx, s.at)
	return err
}

func (s *streamed) Read(p []byte) (int, error) {
	if s.body == nil {
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	n, err := s.body.Read(p)
	s.at += int64(n)
	return n, err
}

// Seek moves within the stream, which is opened anew there when it is read.
func (s *streamed) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.Size
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	if offset != s.at {
		s.Close()
	}
	s.at = offset
	return offset, nil
}

func (s *streamed) Close() {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
}
