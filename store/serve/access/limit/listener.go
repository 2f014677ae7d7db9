package limit

import (
	"io"
	"net"
	"sync"
	"time"
)

// Listener bounds connections. TLS belongs above it.
func (l *Limiter) Listener(inner net.Listener) net.Listener { return &listener{inner, l} }

type listener struct {
	net.Listener
	*Limiter
}

// Accept is the next connection that is not too many.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who := whose(c.RemoteAddr())
		if !l.connections.take(who) {
			l.refused.Add(1)
			l.refuse(c)
			continue
		}
		give := sync.OnceFunc(func() { l.connections.give(who) })
		if t, ok := c.(*net.TCPConn); ok {
			return &tcpConn{t, give}, nil
		}
		return &conn{c, give}, nil
	}
}

// tcpConn is still a TCP connection to who wants to send a file.
type tcpConn struct {
	*net.TCPConn
	give func()
}

func (c *tcpConn) Close() error {
	defer c.give()
	return c.TCPConn.Close()
}

type conn struct {
	net.Conn
	give func()
}

func (c *conn) Close() error {
	defer c.give()
	return c.Conn.Close()
}

const unavailable = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: application/json\r\nContent-Length: 87\r\n\r\n" +
	`{"errors":[{"code":"UNAVAILABLE","message":"too many connections: come in a second"}` + "]}\n"

// refuse ends a connection, and tells why if that is not too much as well. It
// does not wait.
func (l *Limiter) refuse(c net.Conn) {
	t, ok := c.(*net.TCPConn)
	if !ok || l.tls {
		c.Close()
		return
	}
	select {
	case l.lingering <- struct{}{}:
		go func() {
			defer func() { <-l.lingering }()
			tell(t)
		}()
	default:
		c.Close()
	}
}

// tell takes what the client says before it closes: else the answer would be
// lost with the connection.
func tell(c *net.TCPConn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second)) // of the kernel's clock
	if _, err := io.WriteString(c, unavailable); err == nil {
		_ = c.CloseWrite() // an error shows in the next line
		_, _ = io.CopyN(io.Discard, c, 64<<10)
	}
}
