package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"lastro/mirror"
	"lastro/mirror/upstream/ecr"
	"lastro/mirror/upstream/keychain"
	"lastro/mirror/upstream/limit"
)

// Options are what the program says, not the configuration.
type Options struct {
	Log       *slog.Logger // nil: nothing is logged
	UserAgent string       // "": "lastro"
	Dial      Dial         // nil: over the network

	// Settings gives those that the configuration has now. It is called when a
	// password or token of the configuration is refused, here or at a mirror. Only
	// credentials are taken from it, and only those for the address that refused
	// the old ones. nil: they stay.
	Settings func(context.Context) (Settings, error)
}

// Dial opens a connection, as net.Dialer.DialContext does.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// Registry is one upstream. It may be used from many goroutines.
type Registry struct {
	host     string // as in image names
	kind     string // what it is for us, in errors
	endpoint *url.URL
	log      *slog.Logger
	agent    string

	transport http.RoundTripper
	slots     *slots
	pace      *limit.Pace   // of requests
	bandwidth *limit.Pace   // of bytes, the mirrors' among them
	stall     time.Duration // how long a stream may bring nothing
	requests  atomic.Int64
	outcomes  outcomes
	health    health

	accounts accounts
	reserve  float64 // of each account's budget
	logins   ecr.Logins
	renew    func(context.Context) ([]Credentials, error)
	renewing chan struct{} // held by who renews

	mirrors  []*Registry
	isMirror bool // of another one
	breaks   breaks

	catalog   *url.URL // the API that lists repositories; nil: the registry itself
	elsewhere bool     // the endpoint is not the host's own
}

var (
	_ mirror.Source = (*Registry)(nil)
	_ mirror.Ranger = (*Registry)(nil)
)

// How long each part of a request may take.
const (
	dialTimeout      = 30 * time.Second
	handshakeTimeout = 15 * time.Second
	headerTimeout    = 60 * time.Second
	stallTimeout     = 60 * time.Second
)

// Open prepares to read from the registry that images call host. Nothing is
// sent. The error is of the settings.
func Open(host string, s Settings, o Options) (*Registry, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", host, err)
	}
	endpoint, err := s.address(host)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", host, err)
	}
	roots, err := s.roots()
	if err != nil {
		return nil, fmt.Errorf("upstream %s: ca: %w", host, err)
	}
	list, err := s.catalogOf(host)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", host, err)
	}
	r := &Registry{
		host: host, kind: "upstream", endpoint: endpoint, log: o.Log, agent: cmp.Or(o.UserAgent, "lastro"),
		transport: newTransport(roots, s.connections(), o.Dial),
		slots:     &slots{free: s.connections()},
		pace:      limit.Requests(s.RequestsPerSecond),
		bandwidth: limit.Bytes(s.Bandwidth),
		stall:     stallTimeout,
		reserve:   s.Reserve,
		renew:     o.renewal(host, endpoint), renewing: make(chan struct{}, 1),
		catalog: list, elsewhere: s.elsewhere(host),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.logins.Log = r.log
	r.accounts.replace(orDocker(s.Credentials), r.newAccount)
	if err := r.openMirrors(s, o); err != nil {
		return nil, err
	}
	return r, nil
}

// Close gives back idle connections. Requests that run go on, and the registry
// can still be used. Without it they end by themselves after 90 seconds.
func (r *Registry) Close() {
	if t, ok := r.transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
	for _, m := range r.mirrors {
		m.Close()
	}
}

// Requests is how many requests were sent so far, for tokens and to mirrors too.
func (r *Registry) Requests() int64 {
	n := r.requests.Load()
	for _, m := range r.mirrors {
		n += m.Requests()
	}
	return n
}

// address is where the API is.
func (s Settings) address(host string) (*url.URL, error) {
	text := s.Endpoint
	if text == "" {
		name, scheme := host, "https"
		if host == mirror.DockerHub {
			name = keychain.HubAPI
		}
		if s.PlainHTTP {
			scheme = "http"
		}
		text = scheme + "://" + name
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("%q is not the host of a registry (examples: docker.io, registry.example.com:5000)", host)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func (s Settings) connections() int {
	if s.Connections == 0 {
		return defaultConnections
	}
	return s.Connections
}

// roots are the certificates that are trusted; nil means the system's.
func (s Settings) roots() (*x509.CertPool, error) {
	if s.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", s.CA)
	}
	return pool, nil
}

func newTransport(roots *x509.CertPool, connections int, d Dial) *http.Transport {
	if d == nil {
		d = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           d,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   handshakeTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   connections,
		DisableCompression:    true, // bytes must come as they are stored
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}
