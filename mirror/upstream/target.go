package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// Target is a registry that images are put into. It may be used from many
// goroutines. Requests are tried again here and nowhere else. An error with a
// method Refused that returns true is the registry's answer about one thing.
type Target struct {
	r      *Registry
	prefix string // of all repositories there

	mu    sync.Mutex
	homes map[digest.Digest]string // a repository there that has a blob

	listing sync.Mutex // held while a tag that lists referrers is changed
}

// OpenTarget prepares to put images into the registry that images call host, below
// a path there, "" for none. Nothing is sent. The error is of the settings, of which
// mirrors and reserve are of no account.
func OpenTarget(host, prefix string, s Settings, o Options) (*Target, error) {
	s.Mirrors, s.Reserve = nil, 0
	r, err := Open(host, s, o)
	if err != nil {
		return nil, err
	}
	r.kind = "registry"
	return &Target{r: r, prefix: prefix, homes: map[digest.Digest]string{}}, nil
}

// Close gives back idle connections.
func (t *Target) Close() { t.r.Close() }

func (t *Target) String() string {
	return t.r.endpoint.Scheme + "://" + path.Join(t.r.host, t.prefix)
}

func (t *Target) name(repo string) string { return path.Join(t.prefix, repo) }

// push is the right to read as well: what is there is looked at first.
func push(repo string) string { return "repository:" + repo + ":pull,push" }

func pushing(c call, repo string) call {
	c.scope = push(repo)
	return c
}

// Resolve returns what a tag points at; fs.ErrNotExist.
func (t *Target) Resolve(ctx context.Context, repo, tag string) (digest.Digest, error) {
	repo = t.name(repo)
	desc, err := t.r.headBy(ctx, pushing(manifestCall(http.MethodHead, repo, tag), repo), tag)
	return desc.Digest, err
}

// Has reports whether a repository has a content.
func (t *Target) Has(ctx context.Context, repo string, desc ocispec.Descriptor, manifest bool) (has bool, err error) {
	name := t.name(repo)
	if manifest {
		_, err = t.r.headBy(ctx, pushing(manifestCall(http.MethodHead, name, desc.Digest.String()), name), desc.Digest.String())
		has = err == nil
	} else {
		has, err = t.hasBlob(ctx, name, desc)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return has, err
}

// hasBlob takes a redirect for a yes: what it leads to is often signed for GET only.
func (t *Target) hasBlob(ctx context.Context, name string, desc ocispec.Descriptor) (has bool, err error) {
	c := pushing(blobCall(name, desc), name)
	c.method, c.more = http.MethodHead, []int{http.StatusForbidden}
	err = t.r.exchange(ctx, c, func(resp *http.Response) error {
		here := sameOrigin(resp.Request.URL, t.r.endpoint)
		if here && resp.StatusCode != http.StatusOK {
			return refusal(resp)
		}
		has = !here || resp.ContentLength < 0 || resp.ContentLength == desc.Size
		return resp.Body.Close()
	})
	if has {
		t.note(name, desc.Digest)
	}
	return has, err
}

func (t *Target) note(name string, d digest.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.homes[d] = name
}

// Blob sends a blob, or has the registry take it from another repository there.
// open is called for each time that it is sent.
func (t *Target) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, open func(context.Context) (io.ReadCloser, error)) error {
	name := t.name(repo)
	for n := 1; ; n++ {
		err := t.blob(ctx, name, desc, open)
		if err == nil {
			t.note(name, desc.Digest)
			return nil
		}
		if n == maxAttempts || ctx.Err() != nil || !transient(err) {
			return err
		}
		t.r.log.Info("a blob is sent again", "registry", t.r.host, "repo", name, "digest", desc.Digest, "attempt", n, "err", err)
		if err := sleep(ctx, backoff(n)); err != nil {
			return err
		}
		// The answer may be all that was lost.
		if has, err := t.Has(ctx, repo, desc, false); err == nil && has {
			return nil
		}
	}
}

func (t *Target) blob(ctx context.Context, name string, desc ocispec.Descriptor, open func(context.Context) (io.ReadCloser, error)) error {
	to, err := t.begin(ctx, name, desc.Digest)
	if err != nil || to == nil {
		return err
	}
	to.RawQuery = strings.TrimPrefix(to.RawQuery+"&digest="+url.QueryEscape(desc.Digest.String()), "&")
	c := call{
		method: http.MethodPut, to: to, scope: push(name), name: "blobs/" + desc.Digest.String() + " to " + name, repo: name,
		header: http.Header{"Content-Type": {"application/octet-stream"}}, more: []int{http.StatusCreated, http.StatusNoContent},
		body: &upload{size: desc.Size, open: open}, once: true,
	}
	return t.r.exchange(ctx, c, func(resp *http.Response) error { drain(resp); return nil })
}

// begin opens an upload; nil: the registry has taken the blob from elsewhere.
func (t *Target) begin(ctx context.Context, name string, d digest.Digest) (*url.URL, error) {
	t.mu.Lock()
	from := t.homes[d]
	t.mu.Unlock()
	if from != "" && from != name {
		to, err := t.open(ctx, name, push(name)+" "+pull(from), url.Values{"mount": {d.String()}, "from": {from}})
		if !refused(err) {
			return to, err
		}
	}
	return t.open(ctx, name, push(name), nil)
}

func (t *Target) open(ctx context.Context, name, scope string, mount url.Values) (to *url.URL, err error) {
	c := call{
		method: http.MethodPost, path: name + "/blobs/uploads/", query: mount.Encode(), scope: scope,
		name: "an upload to " + name, repo: name, more: []int{http.StatusCreated, http.StatusAccepted},
	}
	err = t.r.exchange(ctx, c, func(resp *http.Response) error {
		drain(resp)
		if resp.StatusCode == http.StatusCreated && mount != nil {
			return nil
		}
		to, err = t.location(resp)
		return err
	})
	return to, err
}

// location is where an upload goes on.
func (t *Target) location(resp *http.Response) (*url.URL, error) {
	to, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	switch {
	case err != nil || resp.Header.Get("Location") == "" || to.Host == "" || to.User != nil:
		return nil, fmt.Errorf("%s does not say where an upload goes on", resp.Request.URL.Host)
	case to.Host == t.r.endpoint.Host:
		to.Scheme = t.r.endpoint.Scheme // a proxy in between does not always tell it
	case to.Scheme != "https" && t.r.endpoint.Scheme == "https":
		return nil, fmt.Errorf("%s wants the upload at %s://%s, which is refused", resp.Request.URL.Host, to.Scheme, to.Host)
	}
	return to, nil
}

// Manifest sends a manifest whose contents are there.
func (t *Target) Manifest(ctx context.Context, repo string, desc ocispec.Descriptor, raw []byte) error {
	_, err := t.put(ctx, t.name(repo), desc.Digest.String(), desc, raw)
	return err
}

// Publish sends a manifest under a tag, or without one. Where the registry has no
// list of referrers, what refers to another manifest is put into a tag of that one,
// as the distribution-spec has it.
func (t *Target) Publish(ctx context.Context, repo, tag string, desc ocispec.Descriptor, raw []byte) error {
	ref := tag
	if ref == "" {
		ref = desc.Digest.String()
	}
	listed, err := t.put(ctx, t.name(repo), ref, desc, raw)
	if err != nil || listed {
		return err
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil || m.Subject == nil {
		return err
	}
	return t.list(ctx, t.name(repo), m)
}

// Flush has nothing to do.
func (t *Target) Flush(context.Context, string) error { return nil }

// put sends a manifest. listed says that the registry knows it as a referrer.
func (t *Target) put(ctx context.Context, name, ref string, desc ocispec.Descriptor, raw []byte) (listed bool, err error) {
	c := pushing(manifestCall(http.MethodPut, name, ref), name)
	c.header, c.more, c.manifest = http.Header{"Content-Type": {desc.MediaType}}, []int{http.StatusCreated, http.StatusAccepted}, false
	c.body = &upload{size: int64(len(raw)), open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }}
	err = t.r.exchange(ctx, c, func(resp *http.Response) error {
		drain(resp)
		listed = resp.Header.Get("OCI-Subject") != ""
		if got := digest.Digest(resp.Header.Get("Docker-Content-Digest")); got != "" && got.Algorithm() == desc.Digest.Algorithm() && got != desc.Digest {
			return fmt.Errorf("the registry has made it %s, where %s was sent", plain(got.String()), desc.Digest)
		}
		return nil
	})
	return listed, err
}

// list puts a referrer into the list that a tag of its subject is.
func (t *Target) list(ctx context.Context, name string, m mirror.Manifest) error {
	t.listing.Lock()
	defer t.listing.Unlock()
	tag := strings.Replace(m.Subject.Digest.String(), ":", "-", 1)
	var idx ocispec.Index
	_, raw, err := t.r.manifestBy(ctx, pushing(manifestCall(http.MethodGet, name, tag), name), tag)
	if err == nil {
		err = json.Unmarshal(raw, &idx)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list of referrers %s: %w", tag, err)
	}
	if slices.ContainsFunc(idx.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == m.Descriptor.Digest }) {
		return nil
	}
	desc := m.Descriptor
	desc.Annotations = m.Annotations
	idx.Versioned, idx.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex
	idx.Manifests = append(idx.Manifests, desc)
	if raw, err = json.Marshal(idx); err != nil {
		return err
	}
	_, err = t.put(ctx, name, tag, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw)
	return err
}
