package upstream

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// shortLived is an upstream whose tokens die after ten seconds. It counts the
// requests that come with a dead one.
type shortLived struct{ dead int }

func (s *shortLived) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		fmt.Fprintf(w, `{"token":"%d","expires_in":10}`, time.Now().UnixNano())
		return
	}
	var issued int64
	_, _ = fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %d", &issued)
	if age := time.Since(time.Unix(0, issued)); age >= 10*time.Second {
		if issued > 0 {
			s.dead++
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://registry.test/token",service="s"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, "0123456789")
}

func TestATokenThatWouldDieWaitingForASlotIsNotTakenBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &shortLived{}
		r := inProcessAs("registry.test", Settings{PlainHTTP: true, Credentials: Anonymous(), Connections: 1}, server.ServeHTTP)
		body, _, err := r.Blob(t.Context(), "a", blobOf("0123456789"), 0)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			body, _, err := r.Blob(t.Context(), "a", blobOf("0123456789"), 0)
			if err == nil {
				err = body.Close()
			}
			ended <- err
		}()
		time.Sleep(30 * time.Second) // the first stream has the only slot
		if err := body.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil || server.dead > 0 {
			t.Errorf("got %v, with %d dead tokens sent", err, server.dead)
		}
	})
}
