package upstreamtest

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
)

// Net is a network in memory. Nothing in it takes time but what its hosts do.
// The zero value has no hosts.
type Net struct {
	mu    sync.Mutex
	hosts map[string]*host
}

// host is a server at a name.
type host struct {
	server *http.Server
	conns  chan net.Conn
	closed chan struct{}
	ended  chan struct{}
}

// Serve answers requests to a host, on whatever port, until the net is closed.
// It may be called again, for another handler.
func (n *Net) Serve(name string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = map[string]*host{}
	}
	if old := n.hosts[name]; old != nil {
		old.close()
	}
	at := &host{conns: make(chan net.Conn), closed: make(chan struct{}), ended: make(chan struct{})}
	at.server = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(at.ended)
		_ = at.server.Serve(&listener{host: at}) // it ends when it is closed
	}()
	n.hosts[name] = at
}

// Dial opens a connection to a host of the net.
func (n *Net) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	at := n.hosts[name]
	n.mu.Unlock()
	if at == nil {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	ours, theirs := net.Pipe()
	select {
	case at.conns <- theirs:
		return ours, nil
	case <-at.closed:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close breaks all connections and ends all hosts.
func (n *Net) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, at := range n.hosts {
		at.close()
	}
	clear(n.hosts)
}

func (h *host) close() {
	_ = h.server.Close()
	<-h.ended
}

// listener gives a server the connections of a host.
type listener struct {
	*host
	once sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "pipe"} }

// Dial opens connections, as [Net.Dial] does.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// FlappingDNS does not find a host when when says so, of the n-th dial to it.
func FlappingDNS(dial Dial, when When) Dial {
	var c counter
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if when(address, c.next(address)) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "server misbehaving", Name: address, IsTemporary: true}}
		}
		return dial(ctx, network, address)
	}
}

// Hurried closes each connection after one answer.
func Hurried(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		next.ServeHTTP(w, r)
	})
}
