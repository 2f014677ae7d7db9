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

func (s *stalling) Read(p []byte) (int, error) {
	// A connection without deadlines is a test's.
	_ = s.connection.SetReadDeadline(time.Now().Add(s.patience))
	return s.ReadCloser.Read(p)
}
