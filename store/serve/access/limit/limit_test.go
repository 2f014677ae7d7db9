package limit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func serving(t *testing.T, l *Limiter, h http.Handler) string {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := l.Server(h, slog.New(slog.DiscardHandler))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l.Listener(inner)); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
		for deadline := time.Now().Add(10 * time.Second); l.Connections()+l.Requests() > 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if l.Connections() != 0 || l.Requests() != 0 {
			t.Errorf("%d connections and %d requests leaked", l.Connections(), l.Requests())
		}
	})
	return inner.Addr().String()
}

func settings(change func(*Settings)) Settings {
	s := Defaults()
	change(&s)
	return s
}

var ok = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })

// get asks on a connection of its own, from an address.
func get(from, to string) (status int, retry string, body string, err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return 0, "", "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", "", err
	}
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After"), string(text), err
}

func TestNoAddressHasMoreThanItsPart(t *testing.T) {
	l := New(settings(func(s *Settings) { s.ConnectionsPerAddress, s.Connections = 3, 16 }), false)
	addr := serving(t, l, ok)
	for range 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	status, retry, body, err := get("127.0.0.1", addr)
	if err != nil || status != 503 || retry != "1" || !strings.Contains(body, `"code":"UNAVAILABLE"`) {
		t.Errorf("one too many: %d %q %q %v", status, retry, body, err)
	}
	if status, _, body, err := get("127.0.0.2", addr); err != nil || status != 200 || body != "ok" {
		t.Errorf("another address: %d %q %v", status, body, err)
	}
	if l.Refused() != 1 {
		t.Errorf("%d were refused", l.Refused())
	}
	l.Reload(settings(func(s *Settings) { s.ConnectionsPerAddress = 4 }))
	if status, _, _, err := get("127.0.0.1", addr); status != 200 {
		t.Errorf("after a reload: %d %v", status, err)
	}
}

func TestUnderTLSWhatIsTooManyIsClosed(t *testing.T) {
	l := New(settings(func(s *Settings) { s.Connections = 0 }), true)
	if status, _, _, err := get("127.0.0.1", serving(t, l, ok)); err == nil {
		t.Errorf("%d", status)
	}
}

func TestTwoThousandConnectionsAtOnce(t *testing.T) {
	l := New(settings(func(s *Settings) { s.Connections, s.ConnectionsPerAddress = 500, 400 }), false)
	addr := serving(t, l, ok)
	var served, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 2000 {
		wg.Go(func() {
			switch status, _, _, _ := get(fmt.Sprintf("127.0.0.%d", 1+i%2), addr); status {
			case 200:
				served.Add(1)
			case 503:
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d served, %d told to come again, %d closed", served.Load(), refused.Load(), 2000-served.Load()-refused.Load())
	if served.Load() < 100 {
		t.Errorf("only %d were served", served.Load())
	}
	if status, _, _, err := get("127.0.0.1", addr); status != 200 {
		t.Errorf("afterwards: %d %v", status, err)
	}
}

func TestRequestsInFlightAreBounded(t *testing.T) {
	l := New(settings(func(s *Settings) { s.Requests = 4 }), false)
	inside, leave := make(chan struct{}), make(chan struct{})
	h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- struct{}{}
		<-leave
	}))
	var wg sync.WaitGroup
	ask := func(from string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = from
		h.ServeHTTP(w, r)
		return w
	}
	for _, from := range []string{"10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1", "[2001:db8::1]:1"} {
		wg.Go(func() { ask(from) })
		<-inside
		if from == "10.0.0.1:2" {
			if w := ask("10.0.0.1:3"); w.Code != 503 || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "UNAVAILABLE") {
				t.Errorf("an address has more than half: %d %s", w.Code, w.Body)
			}
		}
	}
	if w := ask("10.0.0.9:1"); w.Code != 503 {
		t.Errorf("there are more than all: %d", w.Code)
	}
	close(leave)
	wg.Wait()
	if l.Requests() != 0 {
		t.Errorf("%d leaked", l.Requests())
	}
}

func TestAPanicGivesItsPlaceBack(t *testing.T) {
	l := New(Defaults(), false)
	h := l.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	func() {
		defer func() { recover() }()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}()
	if l.Requests() != 0 {
		t.Error("it is kept")
	}
}

func TestFilesGoOutFromTheKernel(t *testing.T) {
	l := New(Defaults(), false)
	direct := make(chan bool, 1)
	addr := serving(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, reads := w.(io.ReaderFrom)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			direct <- false
			return
		}
		defer c.Close()
		_, inner := c.(io.ReaderFrom) // *net.TCPConn's, which is sendfile
		_, tcp := c.(interface{ CloseWrite() error })
		direct <- reads && inner && tcp
	}))
	get("127.0.0.1", addr)
	if !<-direct {
		t.Error("the response or the connection is hidden")
	}
}

// one is a listener of one connection in memory.
type one struct {
	c     chan net.Conn
	close func()
	addr  net.Addr
}

func (o one) Accept() (net.Conn, error) {
	c, ok := <-o.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (o one) Close() error {
	o.close()
	return nil
}

func (o one) Addr() net.Addr { return o.addr }

// inMemory runs a client against a server whose time is not ours.
func inMemory(t *testing.T, h http.Handler, client func(net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Defaults(), false)
		ours, its := net.Pipe()
		server := l.Server(h, slog.New(slog.DiscardHandler))
		conns := make(chan net.Conn, 1)
		from := one{conns, sync.OnceFunc(func() { close(conns) }), its.LocalAddr()}
		conns <- its
		go server.Serve(l.Listener(from))
		client(ours)
		ours.Close()
		server.Close()
		synctest.Wait()
		if l.Connections() != 0 {
			t.Error("a connection leaked")
		}
	})
}

func TestWhoSendsNoHeaderIsCutOff(t *testing.T) {
	inMemory(t, ok, func(c net.Conn) {
		begun := time.Now()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost")
		io.Copy(io.Discard, c)
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("after %s", took)
		}
	})
}

// receiving reads a body, slowly on its own side, and says how that ended.
func receiving(pause time.Duration, ended chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 32<<10)
		for {
			_, err := r.Body.Read(buf)
			if err != nil {
				ended <- err
				return
			}
			time.Sleep(pause)
		}
	})
}

func TestABodyThatDoesNotComeOnIsCutOff(t *testing.T) {
	for _, c := range []struct {
		name         string
		chunk        int
		every, pause time.Duration
		cut          bool
	}{
		{"nothing", 0, time.Hour, 0, true},
		{"a byte now and then", 1, 50 * time.Second, 0, true},
		{"slowly, but enough", 40 << 10, 25 * time.Second, 0, false},
		{"as the disk takes it", 40 << 10, 0, 10 * time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ended chan error
			receive := func(w http.ResponseWriter, r *http.Request) { receiving(c.pause, ended).ServeHTTP(w, r) }
			inMemory(t, http.HandlerFunc(receive), func(conn net.Conn) {
				ended = make(chan error, 1) // here, where the clock is ours
				const size = 200 << 10
				var wg sync.WaitGroup
				wg.Go(func() { io.Copy(io.Discard, conn) })
				fmt.Fprintf(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
				for sent := 0; sent < size && c.chunk > 0; sent += c.chunk {
					time.Sleep(c.every)
					if _, err := conn.Write(bytes.Repeat([]byte("x"), min(c.chunk, size-sent))); err != nil {
						break
					}
				}
				if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) != c.cut || !c.cut && err != io.EOF {
					t.Errorf("it ended with %v", err)
				}
				conn.Close()
				wg.Wait()
			})
		})
	}
}

func TestWhoStallsIsNotWaitedForWhenThatWasFoundOut(t *testing.T) {
	inMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the body ended with %v", err)
		}
		w.WriteHeader(http.StatusBadRequest)
	}), func(c net.Conn) {
		begun := time.Now()
		fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
		answer, _ := io.ReadAll(c)
		if took := time.Since(begun); took != time.Minute || !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) {
			t.Errorf("after %s: %q", took, answer)
		}
	})
}

func TestABodyThatNobodyReadsIsNotWaitedFor(t *testing.T) {
	inMemory(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}), func(c net.Conn) {
		begun := time.Now()
		fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
		io.Copy(io.Discard, c)
		if took := time.Since(begun); took > 2*time.Minute {
			t.Errorf("after %s", took)
		}
	})
}

func TestAConnectionServesOnAfterABody(t *testing.T) {
	inMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(time.Hour) // a manifest that takes long to store
		if r.Context().Err() == nil {
			io.WriteString(w, "ok")
		}
	}), func(c net.Conn) {
		in := bufio.NewReader(c)
		for range 2 {
			fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if text, _ := io.ReadAll(resp.Body); string(text) != "ok" {
				t.Errorf("%d %q", resp.StatusCode, text)
			}
			time.Sleep(time.Minute) // idle, but not for too long
		}
	})
}

func TestOwners(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1", "[::ffff:10.0.0.1]:80": "10.0.0.1", "[2001:db8::1]:80": "2001:db8::", "[fe80::1%eth0]:80": "fe80::",
	} {
		if got := whoseIs(remote); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
	if whoseIs("@").IsValid() {
		t.Error("what has no address has one")
	}
}

func TestLimitsAreCheckedOneByOne(t *testing.T) {
	fewer := Defaults()
	fewer.Connections = 500 // an address then has no more than all
	if err := fewer.Validate(); err != nil {
		t.Errorf("fewer connections than an address may have by default: %v", err)
	}
	err := Settings{Connections: 3, HeaderBytes: 1 << 30, HeaderTimeout: time.Millisecond}.Validate()
	for _, key := range []string{"connections", "connections-per-address", "requests", "header-bytes", "header-timeout", "body-timeout", "idle-timeout"} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+key+": ") {
			t.Errorf("%s is taken: %v", key, err)
		}
	}
}
