package serve

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// piece is how much of an answer a client must take in its time.
const piece = 512 << 10

// small is what is read and written in one piece: for less, handing the file
// to the kernel costs more than it saves.
const small = 32 << 10

var buffers = sync.Pool{New: func() any { return new([small]byte) }}

// begin comes before the first byte of every answer.
func (x *exchange) begin() {
	x.begun = true
	x.hurry()
}

// hurry gives the client its time for the next piece. Where a writer knows no
// deadlines there are none.
func (x *exchange) hurry() {
	// Of the kernel's clock, and not of Now: it ends a system call.
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.o.Patience))
}

// send answers with a document.
func (x *exchange) send(mediaType string, raw []byte) error {
	x.w.Header().Set("Content-Type", mediaType)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	return x.write(raw)
}

// write begins and ends an answer whose headers are set.
func (x *exchange) write(raw []byte) error {
	x.begin()
	if x.r.Method == http.MethodHead {
		x.w.WriteHeader(http.StatusOK)
		return nil
	}
	for len(raw) > piece {
		if _, err := x.w.Write(raw[:piece]); err != nil {
			return err
		}
		raw = raw[piece:]
		x.hurry()
	}
	_, err := x.w.Write(raw)
	return err
}

// pacer sends content in pieces, each with a deadline of its own: a client that
// takes nothing is cut off, and one that takes has all the time that it needs.
// A file still goes from the kernel.
type pacer struct {
	http.ResponseWriter
	*exchange
	err error // why not everything was sent
}

// ReadFrom sends all of a LimitedReader, and takes nothing else.
func (p *pacer) ReadFrom(src io.Reader) (n int64, err error) {
	whole, ok := src.(*io.LimitedReader)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	if _, isFile := whole.R.(*os.File); isFile && whole.N > small {
		n, err = p.file(whole.R, whole.N)
	} else {
		n, err = p.copy(whole.R, whole.N)
	}
	p.err = errors.Join(p.err, err)
	return n, err
}

func (p *pacer) file(src io.Reader, size int64) (n int64, err error) {
	next := &io.LimitedReader{R: src}
	for n < size {
		next.N = min(piece, size-n)
		want := next.N
		p.hurry()
		sent, err := io.Copy(p.ResponseWriter, next)
		n += sent
		if err != nil {
			return n, err
		}
		if sent < want {
			return n, io.ErrUnexpectedEOF
		}
	}
	return n, nil
}

// copy waits for what comes as long as it takes, and for the client not.
func (p *pacer) copy(src io.Reader, size int64) (n int64, err error) {
	buf := buffers.Get().(*[small]byte)
	defer buffers.Put(buf)
	for n < size {
		got, err := src.Read(buf[:min(small, size-n)])
		p.hurry()
		sent, werr := p.ResponseWriter.Write(buf[:got])
		n += int64(sent)
		switch {
		case werr != nil:
			return n, werr
		case err == io.EOF && n < size:
			return n, io.ErrUnexpectedEOF
		case err != nil && err != io.EOF:
			return n, err
		}
	}
	return n, nil
}
