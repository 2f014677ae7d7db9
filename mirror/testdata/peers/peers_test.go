package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// chunks yields its pieces one read at a time, each after a pause.
type chunks struct {
	left  int
	size  int
	pause time.Duration
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(c.pause)
	c.left--
	return min(c.size, len(p)), nil
}

// arrivals notes when what was written.
type arrivals struct {
	began time.Time
	at    []time.Duration
	bytes int
}

func (a *arrivals) Write(p []byte) (int, error) {
	a.at = append(a.at, time.Since(a.began))
	a.bytes += len(p)
	return len(p), nil
}

func TestWhatIsCarriedArrivesLater(t *testing.T) {
	const delay = 20 * time.Millisecond
	for name, tc := range map[string]struct {
		src   chunks
		sent  time.Duration // how long after the beginning the first byte may leave
		first time.Duration
		last  time.Duration
	}{
		"one byte arrives after the delay":                    {chunks{1, 1, 0}, 0, delay, delay},
		"many megabytes at once arrive together":              {chunks{400, pieceSize, 0}, 0, delay, delay},
		"pieces keep their distance":                          {chunks{3, 10, 5 * time.Millisecond}, 0, delay + 5*time.Millisecond, delay + 15*time.Millisecond},
		"what was written during the handshake left after it": {chunks{2, 10, 10 * time.Millisecond}, 40 * time.Millisecond, delay + 40*time.Millisecond, delay + 40*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				want := tc.src.left * tc.src.size
				got := arrivals{began: began}
				carry(&got, &tc.src, delay, began.Add(tc.sent))
				synctest.Wait()
				if got.bytes != want {
					t.Errorf("%d bytes arrived, want %d", got.bytes, want)
				}
				if first, last := got.at[0], got.at[len(got.at)-1]; first != tc.first || last != tc.last {
					t.Errorf("arrived from %v to %v, want from %v to %v", first, last, tc.first, tc.last)
				}
			})
		})
	}
}

func TestBytesComeWholeAndInOrderThroughTheDistance(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	sent := bytes.Repeat([]byte("0123456789abcdef!"), 1<<18)
	go func() {
		c, err := server.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c) // until the client has said all
	}()
	const trip = 10 * time.Millisecond
	l, err := far(server.Addr().String(), trip)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	began := time.Now()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back that are not the %d that were sent", len(got), len(sent))
	}
	if took := time.Since(began); took < 2*trip {
		t.Errorf("there and back took %v, want a handshake and a round trip of %v each", took, trip)
	}
}

func TestRequestsAreCountedByWhatTheyAreAbout(t *testing.T) {
	const body = "0123456789"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, body) }))
	defer upstream.Close()
	c, server := count(upstream.Listener.Addr().String())
	defer server.Close()
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/a/manifests/tags", "/v2/a/tags/list", "/v2/a/blobs/sha256:0", "/v2/a/blobs/sha256:1", "/v2/a/referrers/sha256:0"} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, body)
		}
		resp.Body.Close()
	}
	got := c.taken()
	const want = "1 GET catalog, 1 GET manifests, 1 GET other, 1 GET referrers, 1 GET tags, 2 GET blobs"
	if kinds(got.Kinds) != want || got.Requests != 7 || got.Bytes != 7*int64(len(body)) {
		t.Errorf("got %d requests, %d bytes, %s, want 7, %d, %s", got.Requests, got.Bytes, kinds(got.Kinds), 7*len(body), want)
	}
}

func TestWhatTheKernelSaysIsRead(t *testing.T) {
	stat := "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 200 0 0 150 25 9 9 20 0 12 0 1 2 3"
	if got, err := parseStat(stat); err != nil || got != 1750*time.Millisecond {
		t.Errorf("got %v, %v, want 1.75s", got, err)
	}
	if _, err := parseStat("7 (a) S"); err == nil {
		t.Error("a short stat is read without an error")
	}
	if got, err := parseStatus("Name:\ta\nVmPeak:\t 900 kB\nVmHWM:\t     512 kB\n"); err != nil || got != 512<<10 {
		t.Errorf("got %d, %v, want 512 KiB", got, err)
	}
	if _, err := parseStatus("Name:\ta\n"); err == nil {
		t.Error("a status without memory is read without an error")
	}
}

func TestRatiosAreToTheBestPeer(t *testing.T) {
	table := tableOf([]result{
		{Scenario: "A", Contender: "lastro", cost: cost{Wall: 1, CPU: 2}},
		{Scenario: "A", Contender: "crane", cost: cost{Wall: 4, CPU: 10}},
		{Scenario: "A", Contender: "skopeo", cost: cost{Wall: 5, CPU: 8}},
	})
	for _, want := range []string{"| lastro | 1.00 | 0.25 × | 2.00 | 0.25 ×", "| crane | 4.00 | 1.00 × | 10.00 | 1.25 ×", "| skopeo | 5.00 | 1.25 × | 8.00 | 1.00 ×"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table has no line %q:\n%s", want, table)
		}
	}
}

func TestMediansAreEachOfTheirOwn(t *testing.T) {
	got := median([]cost{{Wall: 3, CPU: 1, Memory: 2}, {Wall: 1, CPU: 3, Memory: 1}, {Wall: 2, CPU: 2, Memory: 3}})
	if got.Wall != 2 || got.CPU != 2 || got.Memory != 2 {
		t.Errorf("got %+v, want 2 of each", got)
	}
}

func TestATagIsWrongWhenItsDigestIsAnotherOrItIsNotThere(t *testing.T) {
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		digest, ok := map[string]string{"/v2/m/app/manifests/same": "sha256:1", "/v2/m/app/manifests/other": "sha256:2"}[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Docker-Content-Digest", digest)
	}))
	defer registry.Close()
	want := map[string]string{"app:same": "sha256:1", "app:other": "sha256:1", "app:absent": "sha256:1"}
	got, err := differences(t.Context(), registry.Listener.Addr().String(), want, func(repo string) string { return "m/" + repo })
	if err != nil {
		t.Fatal(err)
	}
	if wrong := strings.Join(got, " "); wrong != "app:absent app:other" {
		t.Errorf("got %q, want app:absent and app:other", wrong)
	}
}
