package limit

import (
	"io"
	"net/http"
	"time"
)

// progress is how much must come in a time.
const progress = 64 << 10

// body is what a client sends, as long as enough of it comes.
type body struct {
	io.ReadCloser
	deadlines *http.ResponseController
	patience  time.Duration
	left      time.Duration // for the rest of this piece
	got       int           // of it
	ended     bool
}

func newBody(w http.ResponseWriter, r io.ReadCloser, patience time.Duration) *body {
	return &body{ReadCloser: r, deadlines: http.NewResponseController(w), patience: patience, left: patience}
}

// Read waits no longer than is left. Where a writer knows no deadlines there
// are none.
func (b *body) Read(p []byte) (int, error) {
	begun := time.Now() // of the kernel's clock: it ends a system call
	_ = b.deadlines.SetReadDeadline(begun.Add(b.left))
	n, err := b.ReadCloser.Read(p)
	if err == nil || err == io.EOF {
		// Not past this read: the server itself reads between and after
		// requests. After an error it stays, or the server would wait for the rest.
		_ = b.deadlines.SetReadDeadline(time.Time{})
	}
	b.ended = b.ended || err != nil
	b.left -= time.Since(begun)
	if b.got += n; b.got >= progress {
		b.got, b.left = 0, b.patience
	}
	return n, err
}

// done comes after the handler: the server then reads what that left, and for
// that there is no more time than for a piece.
func (b *body) done() {
	if !b.ended {
		_ = b.deadlines.SetReadDeadline(time.Now().Add(b.left))
	}
}
