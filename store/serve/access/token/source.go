package token

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"lastro/store/serve/access/watch"
)

const (
	maxSet  = 1 << 20
	fetch   = 10 * time.Second
	oldest  = time.Hour   // after that a set is asked for again
	pause   = time.Minute // between two askings
	unknown = "keys of the issuer not read: those of before remain"
)

// file is a set in a file.
type file struct {
	path  string
	log   *slog.Logger
	files *watch.Files
	set   atomic.Pointer[keySet]
	last  string // fault that was reported
	mu    sync.Mutex
}

func openFile(s Settings, log *slog.Logger, now func() time.Time) (source, error) {
	f := &file{path: s.JWKS, log: log, files: watch.New(now, s.JWKS)}
	f.files.Changed()
	set, err := f.read()
	f.set.Store(set)
	return f, err
}

func (f *file) read() (*keySet, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	set, err := readSet(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return set, nil
}

func (f *file) current() *keySet {
	if !f.files.Changed() {
		return f.set.Load()
	}
	set, err := f.read()
	f.files.Done(err == nil)
	if err != nil {
		f.report(err)
		return f.set.Load()
	}
	f.set.Store(set)
	return set
}

// report says once that the file is wrong.
func (f *file) report(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err.Error() != f.last {
		f.last = err.Error()
		f.log.Error(unknown, "err", err)
	}
}

func (f *file) renewed(context.Context) *keySet { return f.current() }

func readSet(r io.Reader) (*keySet, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSet+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxSet:
		return nil, fmt.Errorf("is larger than %d bytes", maxSet)
	}
	k, err := parseKeys(text)
	if err != nil {
		return nil, err
	}
	return &keySet{k}, nil
}

// remote is a set at an address.
type remote struct {
	url     string
	log     *slog.Logger
	now     func() time.Time
	client  *http.Client
	flights singleflight.Group
	set     atomic.Pointer[keySet]

	mu    sync.Mutex
	asked time.Time
	got   time.Time
}

func openRemote(s Settings, log *slog.Logger, now func() time.Time) (source, error) {
	roots, err := rootsWith(s.CA)
	if err != nil {
		return nil, err
	}
	// A proxy or a redirect would be another host.
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &remote{url: s.JWKS, log: log, now: now, client: &http.Client{Transport: transport, CheckRedirect: stay, Timeout: fetch}}, nil
}

// rootsWith are the system's and those of a file; nil: the system's.
func rootsWith(ca string) (*x509.CertPool, error) {
	if ca == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", ca)
	}
	return roots, nil
}

// current asks again for a set that is old: only who comes then waits.
func (r *remote) current() *keySet {
	if r.due(oldest) {
		r.ask()
	}
	return r.set.Load()
}

// renewed waits for a set that somebody is asking for just now.
func (r *remote) renewed(ctx context.Context) *keySet {
	done := r.flights.DoChan("", func() (any, error) {
		if r.due(0) {
			r.ask()
		}
		return nil, nil
	})
	select {
	case <-ctx.Done():
	case <-done:
	}
	return r.set.Load()
}

// due reports, to one caller, that the set is older than age and was not asked
// for a while.
func (r *remote) due(age time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.got.IsZero() && age > 0 || now.Sub(r.got) < age || !r.asked.IsZero() && now.Sub(r.asked) < pause {
		return false
	}
	r.asked = now
	return true
}

func (r *remote) ask() {
	set, err := r.fetch()
	if err != nil {
		r.log.Error(unknown, "err", err)
		return
	}
	r.mu.Lock()
	r.got = r.now()
	r.mu.Unlock()
	r.set.Store(set)
}

func (r *remote) fetch() (*keySet, error) {
	resp, err := r.client.Get(r.url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("keys of the issuer: " + resp.Status)
	}
	return readSet(resp.Body)
}
