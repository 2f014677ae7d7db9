package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// connections is how many ask at once.
const connections = 8

// result is what one measurement found.
type result struct {
	cost     time.Duration // processor time of the server, of a request or a GB
	rate     float64       // requests a second
	p50, p99 time.Duration
}

// measure asks a server the same over and over.
func measure(s *server, lines []string, length time.Duration, perGB bool) (result, error) {
	if _, err := asks(s, lines, length/10); err != nil { // what is read once is read
		return result{}, err
	}
	before, err := s.usage()
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	got, err := asks(s, lines, length)
	took := time.Since(began)
	if err != nil {
		return result{}, err
	}
	after, err := s.usage()
	if err != nil {
		return result{}, err
	}
	n := len(got.latencies)
	slices.Sort(got.latencies)
	r := result{rate: float64(n) / took.Seconds(), p50: got.latencies[n/2].Round(time.Microsecond), p99: got.latencies[n*99/100].Round(time.Microsecond)}
	if perGB {
		r.cost = time.Duration(float64(after-before) / float64(got.bytes) * 1e9).Round(time.Millisecond)
	} else {
		r.cost = ((after - before) / time.Duration(n)).Round(100 * time.Nanosecond)
	}
	return r, nil
}

// received is what came.
type received struct {
	latencies []time.Duration
	bytes     int64
}

// asks asks over all connections until the time is over.
func asks(s *server, lines []string, length time.Duration) (all received, err error) {
	each := make([]received, connections)
	until := time.Now().Add(length)
	var g errgroup.Group
	for i := range each {
		g.Go(func() error {
			c, err := dial(s.address)
			if err != nil {
				return err
			}
			defer c.Close()
			for n := i; time.Now().Before(until) || len(each[i].latencies) == 0; n++ {
				began := time.Now()
				size, err := c.ask(lines[n%len(lines)])
				if err != nil {
					return err
				}
				each[i].bytes += size
				each[i].latencies = append(each[i].latencies, time.Since(began))
			}
			return nil
		})
	}
	err = g.Wait()
	for _, one := range each {
		all.latencies = append(all.latencies, one.latencies...)
		all.bytes += one.bytes
	}
	return all, err
}

// conn is a connection that costs the client little: what it gets is not parsed
// but for its length, nor kept.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func dial(address string) (*conn, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &conn{c, bufio.NewReaderSize(c, 256<<10)}, nil
}

// ask sends a request and takes the answer.
func (c *conn) ask(line string) (size int64, err error) {
	const accept = "application/vnd.oci.image.manifest.v1+json"
	if _, err := io.WriteString(c, line+" HTTP/1.1\r\nHost: registry\r\nAccept: "+accept+"\r\n\r\n"); err != nil {
		return 0, err
	}
	size, err = c.head(line)
	if err != nil || strings.HasPrefix(line, "HEAD ") {
		return 0, err
	}
	for left := size; left > 0; {
		n, err := c.r.Discard(int(min(left, 256<<10)))
		if err != nil {
			return 0, err
		}
		left -= int64(n)
	}
	return size, nil
}

// head reads up to the body, and finds its length.
func (c *conn) head(asked string) (size int64, err error) {
	size = -1
	status, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if !bytes.Contains(status, []byte(" 200 ")) {
		return 0, fmt.Errorf("%s: %s", asked, bytes.TrimSpace(status))
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) == 2 {
			return size, nil
		}
		if key, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(key, []byte("Content-Length")) {
			if size, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return 0, err
			}
		}
	}
}

// pullAtOnce has so many clients pull the same, and returns the most memory that
// the server had.
func pullAtOnce(s *server, line string, clients int) (peak int64, err error) {
	if err := s.forgetPeak(); err != nil {
		return 0, err
	}
	var g errgroup.Group
	for range clients {
		g.Go(func() error {
			c, err := dial(s.address)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.ask(line)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return s.peak()
}
