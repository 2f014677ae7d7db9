package serve

import (
	"context"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/serve/spec"
)

// manifest is a manifest with the headers that go with it.
type manifest struct {
	raw                            []byte
	digest                         digest.Digest
	mediaType, length, etag, named []string
}

func newManifest(mediaType string, d digest.Digest, raw []byte) *manifest {
	return &manifest{raw, d, []string{mediaType}, []string{strconv.Itoa(len(raw))}, []string{etag(d)}, []string{d.String()}}
}

func etag(d digest.Digest) string { return `"` + d.String() + `"` }

// manifest serves a manifest as it is stored, whatever the client says it
// accepts: a digest has one answer.
func (x *exchange) manifest() error {
	m, err := x.findManifest()
	if err != nil {
		return err
	}
	h := x.w.Header()
	h["Docker-Content-Digest"], h["Etag"] = m.named, m.etag
	if status := precondition(x.r.Header, m.etag[0]); status != 0 {
		x.begin()
		x.w.WriteHeader(status)
		return nil
	}
	h["Content-Type"], h["Content-Length"] = m.mediaType, m.length
	if err := x.write(m.raw); err != nil {
		return err
	}
	if x.r.Method == http.MethodGet {
		x.pulled(m.digest)
	}
	return nil
}

func (x *exchange) pulled(d digest.Digest) {
	if x.o.Pulled == nil {
		return
	}
	tag := ""
	if !x.ByDigest() {
		tag = x.Ref
	}
	x.o.Pulled(x.r, x.repo, tag, d)
}

func (x *exchange) findManifest() (*manifest, error) {
	if err := x.checkReference(); err != nil {
		return nil, err
	}
	if x.o.Demand != nil {
		desc, raw, err := x.o.Demand.Manifest(x.r.Context(), x.repo, x.Ref)
		if err != nil {
			return nil, x.demanded(err)
		}
		if desc.Digest != "" {
			return newManifest(desc.MediaType, desc.Digest, raw), nil
		}
	}
	return x.localManifest()
}

// checkReference refuses what is neither a tag nor a digest.
func (x *exchange) checkReference() error {
	if x.ByDigest() {
		_, err := x.Digest()
		return err
	}
	if err := layout.CheckTag(x.Ref); err != nil {
		return &spec.Refusal{Status: http.StatusNotFound, Code: spec.ManifestUnknown, Message: err.Error()}
	}
	return nil
}

func (x *exchange) localManifest() (*manifest, error) {
	if x.ByDigest() {
		return x.served(x.r.Context(), x.repo, digest.Digest(x.Ref))
	}
	return x.tagged(x.r.Context(), x.repo, x.Ref)
}

// tagged is the manifest that a tag of the repository is at; fs.ErrNotExist.
func (h *Handler) tagged(ctx context.Context, repo, tag string) (*manifest, error) {
	d, err := h.store.Resolve(ctx, repo, tag)
	if err != nil {
		return nil, err
	}
	return h.served(ctx, repo, d)
}

// served is a manifest that the repository serves; fs.ErrNotExist.
func (h *Handler) served(ctx context.Context, repo string, d digest.Digest) (*manifest, error) {
	if err := h.store.ServesManifest(repo, d); err != nil {
		return nil, err
	}
	if m, ok := h.manifests.get(d); ok {
		return m, nil
	}
	desc, raw, err := h.store.Manifest(ctx, "", d)
	if err != nil {
		return nil, err
	}
	m := newManifest(desc.MediaType, d, raw)
	h.manifests.put(m)
	return m, nil
}
