package demand

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
)

// hub is an upstream in memory. It counts what is asked of it.
type hub struct {
	mu        sync.Mutex
	tags      map[string]digest.Digest // "repo:tag"
	manifests map[string]string        // "repo@digest" → media type
	has       map[string]bool          // blobs, "repo@digest"
	content   map[digest.Digest][]byte
	asked     map[string]int // "HEAD app:1", "GET app@sha256:…", "BLOB …", "SIZE …"

	before func(ctx context.Context, what string) error     // is called for each request; nil: nothing happens
	body   func(ctx context.Context, r io.Reader) io.Reader // of blobs; nil: as they are
}

var (
	_ mirror.Source = (*hub)(nil)
	_ mirror.Sizer  = (*hub)(nil)
)

func newHub() *hub {
	return &hub{tags: map[string]digest.Digest{}, manifests: map[string]string{}, has: map[string]bool{}, content: map[digest.Digest][]byte{}, asked: map[string]int{}}
}

func (h *hub) note(ctx context.Context, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	h.mu.Lock()
	h.asked[what]++
	before := h.before
	h.mu.Unlock()
	if before != nil {
		if err := before(ctx, what); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// count is how many requests began with prefix.
func (h *hub) count(prefix string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for what, times := range h.asked {
		if strings.HasPrefix(what, prefix) {
			n += times
		}
	}
	return n
}

func (h *hub) Requests() int64                                       { return int64(h.count("")) }
func (h *hub) Budget() mirror.Budget                                 { return mirror.Budget{} }
func (h *hub) Repositories(context.Context) iter.Seq2[string, error] { return nil }

func (h *hub) Tags(_ context.Context, repo string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for name := range h.tags {
			if tag, ok := strings.CutPrefix(name, repo+":"); ok && !yield(tag, nil) {
				return
			}
		}
	}
}

func (h *hub) Referrers(context.Context, string, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, nil
}

func (h *hub) Head(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	if err := h.note(ctx, "HEAD %s:%s", repo, ref); err != nil {
		return ocispec.Descriptor{}, err
	}
	return h.find(repo, ref)
}

func (h *hub) find(repo, ref string) (ocispec.Descriptor, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := digest.Digest(ref)
	if d.Validate() != nil {
		d = h.tags[repo+":"+ref]
	}
	mediaType, ok := h.manifests[repo+"@"+d.String()]
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("%s:%s: %w", repo, ref, fs.ErrNotExist)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(h.content[d]))}, nil
}

func (h *hub) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	if err := h.note(ctx, "GET %s@%s", repo, ref); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc, err := h.find(repo, ref)
	h.mu.Lock()
	defer h.mu.Unlock()
	return desc, h.content[desc.Digest], err
}

func (h *hub) Size(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	if err := h.note(ctx, "SIZE %s@%s", repo, d); err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.has[repo+"@"+d.String()] {
		return 0, fs.ErrNotExist
	}
	return int64(len(h.content[d])), nil
}

func (h *hub) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	if err := h.note(ctx, "BLOB %s@%s", repo, desc.Digest); err != nil {
		return nil, 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.has[repo+"@"+desc.Digest.String()] {
		return nil, 0, fs.ErrNotExist
	}
	var r io.Reader = bytes.NewReader(h.content[desc.Digest][offset:])
	if h.body != nil {
		r = h.body(ctx, r)
	}
	return io.NopCloser(r), offset, nil
}

// The rest fills the hub.

func (h *hub) blob(repo, mediaType string, data []byte) ocispec.Descriptor {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := digest.FromBytes(data)
	h.content[d], h.has[repo+"@"+d.String()] = data, true
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (h *hub) layer(repo, text string, size int) ocispec.Descriptor {
	return h.blob(repo, ocispec.MediaTypeImageLayer, bytes.Repeat([]byte(text), size/len(text)+1)[:size])
}

func (h *hub) put(repo, mediaType string, doc any) ocispec.Descriptor {
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	desc := h.blob(repo, mediaType, raw)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.manifests[repo+"@"+desc.Digest.String()] = mediaType
	return desc
}

func (h *hub) image(repo, name string, layers ...ocispec.Descriptor) ocispec.Descriptor {
	config := h.blob(repo, ocispec.MediaTypeImageConfig, []byte(`{"name":"`+name+`"}`))
	return h.put(repo, ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers})
}

func (h *hub) index(repo string, children ...ocispec.Descriptor) ocispec.Descriptor {
	return h.put(repo, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children})
}

func (h *hub) tag(repo, tag string, d digest.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tags[repo+":"+tag] = d
}

func (h *hub) gate(before func(ctx context.Context, what string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = before
}

// bench is a store that clients pull from, and what brings what it has not.
type bench struct {
	*Demand
	hub    *hub
	store  *store.Store
	engine *mirror.Engine
	clock  atomic.Int64 // seconds that passed
}

func newBench(t testing.TB, h *hub, o Options, rules ...mirror.Rule) *bench {
	t.Helper()
	b := &bench{hub: h}
	start := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	now := func() time.Time { return start.Add(time.Duration(b.clock.Load()) * time.Second) }
	var err error
	if b.store, err = store.Open(t.TempDir(), store.Options{Now: now}); err != nil {
		t.Fatal(err)
	}
	b.engine = &mirror.Engine{Dest: b.store, Memory: b.store, Now: now, Traffic: new(mirror.Traffic), Source: func(string) (mirror.Source, error) { return h, nil }}
	b.Demand = New(func() *mirror.Engine { return b.engine }, directory(t, rules...), o)
	t.Cleanup(func() {
		b.Close()
		if err := b.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) pass(d time.Duration) { b.clock.Add(int64(d / time.Second)) }

// settle waits until nothing runs.
func (b *bench) settle(t testing.TB) {
	t.Helper()
	for {
		b.mu.Lock()
		var wait <-chan struct{}
		for _, r := range b.runs {
			wait = r.finished
		}
		for _, task := range b.tasks {
			wait = task.done
		}
		b.mu.Unlock()
		if wait == nil {
			return
		}
		select {
		case <-wait:
		case <-t.Context().Done():
			t.Fatal("it runs on")
		}
	}
}

// at is where a local tag is, empty when it is nowhere.
func (b *bench) at(t testing.TB, repo, tag string) digest.Digest {
	t.Helper()
	d, err := b.store.Resolve(t.Context(), repo, tag)
	if err != nil {
		return ""
	}
	return d
}

// ask is the digest that a client is answered with; empty: what is here.
func (b *bench) ask(t testing.TB, ref string) (digest.Digest, error) {
	t.Helper()
	desc, raw, err := b.Manifest(t.Context(), app, ref)
	if err == nil && desc.Digest != "" && (digest.FromBytes(raw) != desc.Digest || desc.Size != int64(len(raw)) || desc.MediaType == "") {
		t.Errorf("%s: %+v does not describe the %d bytes", ref, desc, len(raw))
	}
	return desc.Digest, err
}

func (b *bench) mustAsk(t testing.TB, ref string) digest.Digest {
	t.Helper()
	d, err := b.ask(t, ref)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// pull reads a blob to its end.
func (b *bench) pull(t testing.TB, repo string, d digest.Digest) ([]byte, error) {
	t.Helper()
	s, err := b.Blob(t.Context(), repo, d)
	if err != nil {
		return nil, err
	}
	body, err := s.Open(t.Context(), 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err == nil && (int64(len(raw)) != s.Size || digest.FromBytes(raw) != d) {
		t.Errorf("%s: %d of %d bytes came to a good end, and are wrong", d, len(raw), s.Size)
	}
	return raw, err
}

const app = "reg.test/app"

var onMiss = mirror.Rule{Name: "app", From: app, OnDemand: true, TTL: 10 * time.Minute}
