package push

import (
	"io"
	"net/http"
	"time"
)

// patient ends a body that stalls: a client that sends nothing for so long is
// taken to have gone, and what it has sent so far stays in its session.
func patient(w http.ResponseWriter, body io.ReadCloser, patience time.Duration) io.ReadCloser {
	if body == nil || body == http.NoBody {
		return body
	}
	return &stalling{body, http.NewResponseController(w), patience}
}

type stalling struct {
	io.ReadCloser
	connection *http.ResponseController
	patience   time.Duration
}

// Read reads what comes in time. A connection without deadlines is a test's.
func (s *stalling) Read(p []byte) (int, error) {
	_ = s.connection.SetReadDeadline(time.Now().Add(s.patience))
	n, err := s.ReadCloser.Read(p)
	if err == io.EOF {
		// Past the body, a deadline would end a request that is still answered.
		// After another error it stays, or the server would wait for the rest.
		_ = s.connection.SetReadDeadline(time.Time{})
	}
	return n, err
}
