package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
)

// traffic is what the upstream was asked, and what it sent.
type traffic struct {
	Requests int            `json:"requests"`
	Kinds    map[string]int `json:"kinds"` // by method and what it is about
	Bytes    int64          `json:"bytes"` // of bodies
}

// counter stands before a registry and counts.
type counter struct {
	proxy http.Handler

	mu   sync.Mutex
	seen traffic
}

// count serves what listens at addr, counted. The caller closes the server.
func count(addr string) (*counter, *httptest.Server) {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	c := &counter{proxy: proxy}
	return c, httptest.NewServer(c)
}

func (c *counter) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	kind := req.Method + " " + about(req.URL.Path)
	c.note(func(t *traffic) {
		if t.Kinds == nil {
			t.Kinds = map[string]int{}
		}
		t.Requests++
		t.Kinds[kind]++
	})
	c.proxy.ServeHTTP(&counted{w, c}, req)
}

// about is the part of a registry's API that a path is of.
func about(path string) string {
	for _, part := range []string{"manifests", "blobs", "referrers"} {
		if strings.Contains(path, "/"+part+"/") {
			return part
		}
	}
	switch {
	case strings.HasSuffix(path, "/tags/list"):
		return "tags"
	case strings.HasSuffix(path, "/_catalog"):
		return "catalog"
	}
	return "other"
}

func (c *counter) note(change func(*traffic)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.seen)
}

// taken is what was seen.
func (c *counter) taken() (t traffic) {
	c.note(func(seen *traffic) { t = *seen })
	return t
}

// counted is an answer on its way.
type counted struct {
	http.ResponseWriter
	c *counter
}

func (w *counted) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.c.note(func(t *traffic) { t.Bytes += int64(n) })
	return n, err
}

// Unwrap lets the proxy flush.
func (w *counted) Unwrap() http.ResponseWriter { return w.ResponseWriter }
