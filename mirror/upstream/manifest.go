package upstream

import (
	"context"
	_ "crypto/sha512" // digests may be SHA-512
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// accepted are all manifests there are: without a type of it in Accept, a
// registry may convert an image into another one, or hide it.
var accepted = http.Header{"Accept": {
	ocispec.MediaTypeImageIndex,
	"application/vnd.docker.distribution.manifest.list.v2+json",
	ocispec.MediaTypeImageManifest,
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.oci.artifact.manifest.v1+json",
	"*/*;q=0.1",
}}

func pull(repo string) string { return "repository:" + repo + ":pull" }

// errNoHead is a HEAD whose answer does not say enough.
var errNoHead = errors.New("HEAD says nothing")

// manifestCall asks for a manifest, or after it.
func manifestCall(method, repo, ref string) call {
	return call{
		method: method, path: repo + "/manifests/" + ref, header: accepted, scope: pull(repo),
		name: "manifests/" + ref + " of " + repo, repo: repo, manifest: true,
	}
}

// Head resolves a tag or digest. Size and media type are zero where the
// upstream does not say; fs.ErrNotExist. An upstream without a useful HEAD
// costs a GET.
func (r *Registry) Head(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	err := r.somewhere(ctx, digestOf(ref), func(at *Registry) (err error) {
		desc, err = at.head(ctx, repo, ref)
		return err
	})
	return desc, err
}

func (r *Registry) head(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	return r.headBy(ctx, manifestCall(http.MethodHead, repo, ref), ref)
}

// headBy is head by a call for ref.
func (r *Registry) headBy(ctx context.Context, c call, ref string) (ocispec.Descriptor, error) {
	c.more = []int{http.StatusMethodNotAllowed, http.StatusNotImplemented}
	var desc ocispec.Descriptor
	err := r.exchange(ctx, c, func(resp *http.Response) error {
		resp.Body.Close()
		var err error
		desc, err = described(resp, ref)
		return err
	})
	if errors.Is(err, errNoHead) {
		c.method, c.more = http.MethodGet, nil
		desc, _, err = r.manifestBy(ctx, c, ref)
	}
	return desc, err
}

// described is what the header of an answer says of a manifest.
func described(resp *http.Response, ref string) (ocispec.Descriptor, error) {
	d := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if resp.StatusCode != http.StatusOK || d.Validate() != nil || isHTML(resp.Header, nil) {
		return ocispec.Descriptor{}, errNoHead
	}
	if isDigest(ref) && d.String() != ref && d.Algorithm() == digest.Digest(ref).Algorithm() {
		return ocispec.Descriptor{}, fmt.Errorf("the upstream has %s under this digest", d)
	}
	if isDigest(ref) {
		d = digest.Digest(ref)
	}
	return ocispec.Descriptor{MediaType: mediaType(resp.Header), Digest: d, Size: max(0, resp.ContentLength)}, nil
}

func isDigest(ref string) bool { return strings.Contains(ref, ":") }

// digestOf is ref when it is a digest, else "".
func digestOf(ref string) digest.Digest {
	if isDigest(ref) {
		return digest.Digest(ref)
	}
	return ""
}

// mediaType is the type that an answer names, if it says anything: those that
// servers put on any file leave it to the manifest.
func mediaType(h http.Header) string {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	switch kind {
	case "application/json", "application/octet-stream", "binary/octet-stream", "text/plain":
		return ""
	}
	if err != nil {
		return ""
	}
	return kind
}

// Manifest reads a manifest of at most mirror.MaxManifest bytes and checks it:
// against ref when that is a digest, else against the digest that the upstream
// names, if it does.
func (r *Registry) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	var desc ocispec.Descriptor
	var raw []byte
	err := r.somewhere(ctx, digestOf(ref), func(at *Registry) (err error) {
		desc, raw, err = at.manifest(ctx, repo, ref)
		return err
	})
	return desc, raw, err
}

func (r *Registry) manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	return r.manifestBy(ctx, manifestCall(http.MethodGet, repo, ref), ref)
}

// manifestBy is manifest by a call for ref.
func (r *Registry) manifestBy(ctx context.Context, c call, ref string) (ocispec.Descriptor, []byte, error) {
	var desc ocispec.Descriptor
	var raw []byte
	err := r.exchange(ctx, c, func(resp *http.Response) error {
		var err error
		if raw, err = readAll(resp, mirror.MaxManifest); err != nil {
			return err
		}
		desc, err = verified(resp, ref, raw)
		return err
	})
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return desc, raw, nil
}

// verified describes a manifest that has the digest it should have.
func verified(resp *http.Response, ref string, raw []byte) (ocispec.Descriptor, error) {
	if isHTML(resp.Header, raw) {
		return ocispec.Descriptor{}, notJSON(resp, raw)
	}
	want := digest.Digest(ref)
	if !isDigest(ref) {
		want = digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	}
	if want == "" {
		want = digest.FromBytes(raw)
	}
	if err := want.Validate(); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("digest %q: %w", plain(want.String()), err)
	}
	if got := want.Algorithm().FromBytes(raw); got != want {
		return ocispec.Descriptor{}, fmt.Errorf("wrong digest: %d bytes came that are %s, not %s", len(raw), got, want)
	}
	return ocispec.Descriptor{MediaType: mediaType(resp.Header), Digest: want, Size: int64(len(raw))}, nil
}
