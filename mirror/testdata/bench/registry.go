package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// counts are requests since they were last asked for.
type counts struct{ Head, Tags, Other, Known int }

// registry serves one repository, app, from memory. Blobs are windows of one
// noise, each with a number in front, so that gigabytes take little memory.
type registry struct {
	noise     []byte
	blobs     map[string]blob
	manifests map[string][]byte // by digest
	tags      map[string]string

	mu     sync.Mutex
	counts counts
}

type blob struct {
	number uint64
	size   int
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// generate makes "large:MB", layers of 1 to 120 MB, or "small:N" blobs of 1 to
// 20 KB; ten layers an image.
func generate(spec string) *registry {
	kind, text, _ := strings.Cut(spec, ":")
	var n int
	if _, err := fmt.Sscan(text, &n); err != nil {
		panic(err)
	}
	r := &registry{noise: make([]byte, 128<<20), blobs: map[string]blob{}, manifests: map[string][]byte{}, tags: map[string]string{}}
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(r.noise)
	choice := rand.New(random)
	var layers []descriptor
	for left := n; left > 0; {
		size := 1000 + choice.IntN(19_000)
		if kind == "large" {
			mb := min(left, []int{1, 3, 8, 20, 50, 120}[choice.IntN(6)])
			size, left = mb*1_000_000, left-mb
		} else {
			left--
		}
		layers = append(layers, r.add(size, "application/vnd.oci.image.layer.v1.tar+gzip"))
	}
	number := 0
	for page := range slices.Chunk(layers, 10) {
		number++
		r.image(fmt.Sprintf("v%d", number), page)
	}
	return r
}

func (r *registry) add(size int, mediaType string) descriptor {
	b := blob{uint64(len(r.blobs)), size}
	h := sha256.New()
	head, tail := r.parts(b)
	h.Write(head)
	h.Write(tail)
	d := "sha256:" + hex.EncodeToString(h.Sum(nil))
	r.blobs[d] = b
	return descriptor{mediaType, d, size}
}

func (r *registry) parts(b blob) (head, tail []byte) {
	return binary.BigEndian.AppendUint64(nil, b.number), r.noise[:b.size-8]
}

func (r *registry) image(tag string, layers []descriptor) {
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifestType,
		"config": r.add(500, "application/vnd.oci.image.config.v1+json"), "layers": layers})
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(raw)
	d := "sha256:" + hex.EncodeToString(sum[:])
	r.manifests[d], r.tags[tag] = raw, d
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/counts" {
		r.tell(w)
		return
	}
	name := path.Base(req.URL.Path)
	switch path.Dir(req.URL.Path) {
	case "/v2/app/tags":
		r.count(func(c *counts) { c.Tags++ })
		tags := make([]string, 0, len(r.tags))
		for tag := range r.tags {
			tags = append(tags, tag)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"name": "app", "tags": tags})
	case "/v2/app/manifests":
		r.manifest(w, req, name)
	case "/v2/app/blobs":
		r.count(func(c *counts) { c.Other++ })
		r.blob(w, req, name)
	case "/v2":
		w.WriteHeader(http.StatusOK)
	default:
		r.count(func(c *counts) { c.Other++ })
		http.NotFound(w, req)
	}
}

func (r *registry) manifest(w http.ResponseWriter, req *http.Request, name string) {
	r.count(func(c *counts) {
		if req.Method == http.MethodHead {
			c.Head++
		} else {
			c.Other++
		}
	})
	if d, ok := r.tags[name]; ok {
		name = d
	}
	raw, ok := r.manifests[name]
	if !ok {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", manifestType)
	w.Header().Set("Docker-Content-Digest", name)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(raw))
}

func (r *registry) blob(w http.ResponseWriter, req *http.Request, name string) {
	b, ok := r.blobs[name]
	if !ok {
		http.NotFound(w, req)
		return
	}
	head, tail := r.parts(b)
	w.Header().Set("Content-Length", fmt.Sprint(b.size))
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(head)
	_, _ = w.Write(tail)
}

func (r *registry) count(add func(*counts)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.counts)
}

func (r *registry) tell(w http.ResponseWriter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.Known = len(r.tags)
	_ = json.NewEncoder(w).Encode(r.counts)
	r.counts = counts{}
}
