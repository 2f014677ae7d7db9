package serve

import (
	"bytes"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/serve/spec"
)

// manifest serves a manifest as it is stored, whatever the client says it
// accepts: a digest has one answer.
func (x *exchange) manifest() error {
	d, err := x.reference()
	if err != nil {
		return err
	}
	desc, raw, err := x.store.Manifest(x.r.Context(), x.Repo, d)
	if err != nil {
		return err
	}
	x.identify(d)
	x.w.Header().Set("Content-Type", desc.MediaType)
	x.begun = true
	http.ServeContent(x.w, x.r, "", time.Time{}, bytes.NewReader(raw))
	return nil
}

// reference resolves a tag or a digest.
func (x *exchange) reference() (digest.Digest, error) {
	if x.ByDigest() {
		return x.Digest()
	}
	if err := layout.CheckTag(x.Ref); err != nil {
		return "", &spec.Refusal{Status: http.StatusNotFound, Code: spec.ManifestUnknown, Message: err.Error()}
	}
	return x.store.Resolve(x.r.Context(), x.Repo, x.Ref)
}

// forGood lets a client keep a blob for a year: a digest has one content.
const forGood = "max-age=31536000"

func (x *exchange) blob(d digest.Digest) error {
	f, err := x.store.OpenBlob(x.Repo, d)
	if err != nil {
		return err
	}
	defer f.Close()
	x.identify(d)
	x.w.Header().Set("Content-Type", "application/octet-stream")
	x.w.Header().Set("Cache-Control", forGood)
	x.begun = true
	// From a file, the kernel sends it without a copy through us.
	http.ServeContent(x.w, x.r, "", time.Time{}, f)
	return nil
}

// identify names the content. A client may give the digest without quotes.
func (x *exchange) identify(d digest.Digest) {
	x.w.Header().Set("Docker-Content-Digest", d.String())
	x.w.Header().Set("Etag", `"`+d.String()+`"`)
	if x.r.Header.Get("If-None-Match") == d.String() {
		x.r.Header.Set("If-None-Match", `"`+d.String()+`"`)
	}
}
