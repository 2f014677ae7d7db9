package main

import (
	"io"
	"net"
	"sync"
	"time"
)

// far makes what listens at addr as far away as a round trip says. The caller
// closes the listener, which ends no connection.
func far(addr string, trip time.Duration) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go join(c.(*net.TCPConn), addr, trip)
		}
	}()
	return l, nil
}

// join carries one connection until both directions have ended.
func join(client *net.TCPConn, addr string, trip time.Duration) {
	defer client.Close()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	server := c.(*net.TCPConn)
	defer server.Close()
	shaken := time.Now().Add(trip) // the client could not have written before
	var both sync.WaitGroup
	both.Go(func() {
		carry(server, client, trip/2, shaken)
		_ = server.CloseWrite()
	})
	both.Go(func() {
		carry(client, server, trip/2, time.Time{})
		_ = client.CloseWrite()
	})
	both.Wait()
}

const (
	pieceSize = 128 << 10
	// onTheWay is how many pieces may be: at 20 ms, three gigabytes a second.
	onTheWay = 512
)

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// piece is what was read at once, and when it arrives.
type piece struct {
	buf *[pieceSize]byte
	n   int
	due time.Time
}

// carry brings each byte to dst a delay after it was read from src, and not
// before it could have been sent. It returns when src has ended and all has
// arrived, or dst takes no more.
func carry(dst io.Writer, src io.Reader, delay time.Duration, sent time.Time) {
	way := make(chan piece, onTheWay)
	gone := make(chan struct{})
	defer close(gone)
	go func() {
		defer close(way)
		for {
			p := piece{buf: pieces.Get().(*[pieceSize]byte)}
			var err error
			p.n, err = src.Read(p.buf[:])
			p.due = later(time.Now(), sent).Add(delay)
			select {
			case way <- p:
			case <-gone:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range way {
		time.Sleep(time.Until(p.due))
		_, err := dst.Write(p.buf[:p.n])
		pieces.Put(p.buf)
		if err != nil {
			return
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
