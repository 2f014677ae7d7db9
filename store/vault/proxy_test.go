package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"lastro/store/vault"
	"lastro/store/vault/bucket/buckettest"
	"lastro/store/vault/bucket/s3"
)

// fault is what happens to a request on its way.
type fault string

const (
	none       fault = ""
	cutBefore  fault = "the connection is cut before the request arrives"
	cutHalf    fault = "half of the request arrives"
	cutAfter   fault = "the connection is cut before the answer"
	cutWithin  fault = "the connection is cut within the answer"
	short      fault = "half of the answer arrives, and seems to be all"
	internal   fault = "500 InternalError"
	unavail    fault = "503 ServiceUnavailable"
	slowDown   fault = "503 SlowDown"
	conflict   fault = "409 ConditionalRequestConflict"
	mismatch   fault = "412 PreconditionFailed"
	doneAnd500 fault = "500 InternalError, and it was done"
	twice      fault = "the request arrives twice"
	lost       fault = "no answer, and it is not done"
	doneNoWord fault = "no answer, and it is done"
	late       fault = "no answer, and it is done much later"
)

var faults = []fault{cutBefore, cutHalf, cutAfter, cutWithin, short, internal, unavail, slowDown, conflict, mismatch, doneAnd500, twice, lost, doneNoWord, late}

// proxy is a real connection to a real server with the faults that a request asks for.
// It signs again: who sends may live at another time.
type proxy struct {
	server string
	onward http.RoundTripper
}

func (p proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := fault(r.Header.Get("Fault"))
	body, err := io.ReadAll(r.Body)
	if err != nil || what == cutBefore {
		hangUp(w, nil)
		return
	}
	if refusal := answerOf(what); refusal != nil && what != doneAnd500 {
		w.WriteHeader(refusal.status)
		_, _ = w.Write(refusal.body)
		return
	}
	a := p.forward(r, body, what == cutHalf)
	switch what {
	case twice:
		a = p.forward(r, body, false)
	case doneAnd500:
		a = *answerOf(what)
	case cutAfter, cutHalf:
		a.err = errors.New("cut")
	case short:
		if r.Method == http.MethodGet && a.status < 300 {
			a.body = a.body[:len(a.body)/2]
			a.header.Set("Content-Length", fmt.Sprint(len(a.body)))
		}
	}
	if a.err != nil {
		hangUp(w, nil)
		return
	}
	maps.Copy(w.Header(), a.header)
	if what == cutWithin {
		hangUp(w, &a)
		return
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// answerOf is what a fault has the proxy answer, if anything.
func answerOf(what fault) *reply {
	var status int
	var code string
	if _, err := fmt.Sscanf(string(what), "%d %s", &status, &code); err != nil {
		return nil
	}
	code = regexp.MustCompile(`\w+`).FindString(code)
	return &reply{status: status, header: http.Header{}, body: []byte("<Error><Code>" + code + "</Code><Message>by chance</Message></Error>")}
}

// hangUp resets a connection, after the first half of an answer if there is one.
func hangUp(w http.ResponseWriter, a *reply) {
	if a != nil {
		w.WriteHeader(a.status)
		_, _ = w.Write(a.body[:len(a.body)/2])
		_ = http.NewResponseController(w).Flush()
	}
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// forward sends a request on, or half of it.
func (p proxy) forward(r *http.Request, body []byte, half bool) (a reply) {
	sent := body
	if half {
		sent = body[:len(body)/2]
	}
	req, err := http.NewRequest(r.Method, p.server+r.URL.RequestURI(), bytes.NewReader(sent))
	if err != nil {
		return reply{err: err}
	}
	req.ContentLength = int64(len(body))
	req.Header = r.Header.Clone()
	for _, k := range []string{"Authorization", "X-Amz-Date", "Fault", "Accept-Encoding", "Amz-Sdk-Invocation-Id", "Amz-Sdk-Request", "Content-Length"} {
		req.Header.Del(k)
	}
	keys := aws.Credentials{AccessKeyID: buckettest.AccessKey, SecretAccessKey: buckettest.SecretKey}
	if err := v4.NewSigner().SignHTTP(context.Background(), keys, req, req.Header.Get("X-Amz-Content-Sha256"), "s3", "us-east-1", time.Now()); err != nil {
		return reply{err: err}
	}
	return receive(p.onward.RoundTrip(req))
}

// reply is an answer that was read whole, or what went wrong, before or after some of it.
type reply struct {
	status int
	header http.Header
	length int64
	body   []byte
	err    error // there is no answer
	broken error // the body ended with it
}

func receive(resp *http.Response, err error) (a reply) {
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	a = reply{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength}
	a.body, a.broken = io.ReadAll(resp.Body)
	return a
}

// line is a place for one request outside of all bubbles.
type line struct {
	ask    chan *http.Request
	answer chan reply
}

// remote is a server with faults that many bubbles use. What they wait for there, no
// clock of theirs can overtake; what never comes, they wait for by their own clocks.
type remote struct {
	settings s3.Settings
	files    string // what is in the bucket
	lines    chan line
}

func startRemote(t *testing.T) *remote {
	t.Helper()
	settings, data := startGateway(t)
	const atOnce = 64
	onward := &http.Transport{MaxIdleConnsPerHost: atOnce}
	front := httptest.NewServer(proxy{settings.Endpoint, onward})
	settings.Endpoint = front.URL
	r := &remote{settings, filepath.Join(data, "bucket"), make(chan line, atOnce)}
	transport := &http.Transport{MaxIdleConnsPerHost: atOnce}
	var wg sync.WaitGroup
	var all []line
	for range atOnce {
		l := line{make(chan *http.Request), make(chan reply)}
		wg.Go(func() {
			for req := range l.ask {
				l.answer <- receive(transport.RoundTrip(req))
			}
		})
		all = append(all, l)
		r.lines <- l
	}
	t.Cleanup(func() {
		for _, l := range all {
			close(l.ask)
		}
		wg.Wait()
		transport.CloseIdleConnections()
		front.Close()
		onward.CloseIdleConnections()
	})
	return r
}

// send carries a request out, outside of the bubble.
func (r *remote) send(method, url string, header http.Header, body []byte) reply {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	req.Header = header
	l := <-r.lines
	defer func() { r.lines <- l }()
	l.ask <- req
	return <-l.answer
}

// network is the way from a bubble to a remote. Its faults follow from a seed and from
// the requests, not from their order.
type network struct {
	*remote
	seed   uint64
	often  float64 // share of requests with a fault
	killAt int     // the process ends at this request; 0: never
	after  bool    // that request is still done
	kill   context.CancelFunc

	mu    sync.Mutex
	seen  map[string]uint64
	sent  int
	date  time.Time // by the server's clock, when it last answered
	spell int       // so many requests all fail alike
	kind  fault
	late  sync.WaitGroup
	had   map[fault]int
}

var errKilled = errors.New("the process has ended")

// names of what is made by chance, and of what comes later than it.
var byChance = regexp.MustCompile(`[0-9A-HJKMNP-TV-Z]{26}|[0-9]{8}T[0-9]{6}Z`)

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	what, err := n.choose(r)
	if err != nil {
		return nil, err
	}
	header := r.Header.Clone()
	header.Set("Fault", string(what))
	send := func() reply { return n.send(r.Method, r.URL.String(), header, body) }
	switch what {
	case lost:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case doneNoWord:
		send()
		<-r.Context().Done()
		return nil, r.Context().Err()
	case late:
		n.late.Go(func() {
			time.Sleep(time.Duration(1+len(body)%20) * time.Second)
			send()
		})
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return n.result(r, send())
}

func (n *network) result(r *http.Request, a reply) (*http.Response, error) {
	n.mu.Lock()
	dead := n.killAt > 0 && n.sent >= n.killAt
	if date, err := http.ParseTime(a.header.Get("Date")); err == nil {
		n.date = date
	}
	n.mu.Unlock()
	if dead {
		return nil, errKilled
	}
	if a.err != nil {
		return nil, a.err
	}
	content := io.Reader(bytes.NewReader(a.body))
	if a.broken != nil {
		content = io.MultiReader(content, broken{a.broken})
	}
	return &http.Response{StatusCode: a.status, Header: a.header, ContentLength: a.length, Body: io.NopCloser(content), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// choose says what happens to a request.
func (n *network) choose(r *http.Request) (fault, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent++
	if n.killAt > 0 && n.sent >= n.killAt {
		n.kill()
		if n.sent > n.killAt || !n.after {
			return none, errKilled
		}
		return none, nil
	}
	if n.often == 0 {
		return none, nil
	}
	name := r.Method + byChance.ReplaceAllString(r.URL.RequestURI(), "*")
	n.seen[name]++
	h := fnv.New64a()
	fmt.Fprint(h, name, n.seen[name])
	random := rand.New(rand.NewPCG(n.seed, h.Sum64()))
	what := none
	switch {
	case n.spell > 0:
		n.spell--
		what = n.kind
	case random.Float64() < n.often/20:
		n.spell, n.kind = random.IntN(40), faults[random.IntN(len(faults))]
		what = n.kind
	case random.Float64() < n.often:
		what = faults[random.IntN(len(faults))]
	}
	conditional := r.Header.Get("If-None-Match")+r.Header.Get("If-Match") != "" && r.Method == http.MethodPut
	if (what == mismatch || what == conflict) && !conditional {
		what = slowDown
	}
	n.had[what]++
	return what, nil
}

// calm ends all faults, when what is on its way has arrived.
func (n *network) calm() {
	n.late.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.often, n.spell, n.killAt = 0, 0, 0
}

// open is a new process that uses the vault under a prefix. now may be nil.
func (n *network) open(t tester, prefix string, now func() time.Time) *vault.Vault {
	t.Helper()
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "s3://bucket/" + prefix, S3: n.settings},
		vault.Options{Version: "test", Transport: n, Idle: 2 * time.Second, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (r *remote) network(seed uint64, often float64) *network {
	return &network{remote: r, seed: seed, often: often, seen: map[string]uint64{}, had: map[fault]int{}}
}

// files are where a prefix lies on the server's disk.
func (r *remote) dir(prefix string) string { return filepath.Join(r.files, prefix) }

// blobsOn counts the contents of a vault on the server's disk.
func blobsOn(t tester, dir string) int {
	t.Helper()
	return len(slices.DeleteFunc(files(t, dir, "blobs"), func(key string) bool {
		_, err := os.Stat(filepath.Join(dir, key))
		return err != nil
	}))
}
