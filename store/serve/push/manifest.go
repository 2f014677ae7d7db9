package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/serve/spec"
)

// maxTags is how many tags one push by digest may set.
const maxTags = 100

// putManifest stores a manifest and makes it visible, under its tags if it has
// any. It is refused unless all that it refers to is here.
func (x *exchange) putManifest() error {
	tags, err := x.tags()
	if err != nil {
		return err
	}
	raw, err := x.body()
	if err != nil {
		return err
	}
	m, err := x.manifest(raw)
	if err == nil {
		err = x.whole(m)
	}
	if err == nil {
		err = x.store.Ingest(x.r.Context(), m.Descriptor, held(raw))
	}
	if err == nil {
		err = x.publish(m, tags)
	}
	if err != nil {
		return err
	}
	if m.Subject != nil {
		x.w.Header().Set("OCI-Subject", m.Subject.Digest.String())
	}
	if x.ByDigest() {
		for _, tag := range tags {
			x.w.Header().Add("OCI-Tag", tag)
		}
	}
	return x.created(spec.Manifests, m.Descriptor.Digest)
}

// tags are those that the manifest gets: the one of the path, or those of the
// query when it is pushed by digest.
func (x *exchange) tags() ([]string, error) {
	tags := []string{x.Ref}
	if x.ByDigest() {
		tags = x.r.URL.Query()["tag"]
	}
	if len(tags) > maxTags {
		return nil, &spec.Refusal{Status: http.StatusRequestURITooLong, Code: spec.ManifestInvalid, Message: fmt.Sprintf("%d tags are more than the %d that one push may set", len(tags), maxTags)}
	}
	for _, tag := range tags {
		if err := layout.CheckTag(tag); err != nil {
			return nil, bad(spec.ManifestInvalid, "%v", err)
		}
	}
	return tags, nil
}

func (x *exchange) body() ([]byte, error) {
	most := x.o.MaxManifest
	raw, err := io.ReadAll(io.LimitReader(x.r.Body, most+1))
	switch {
	case err != nil:
		return nil, bad(spec.ManifestInvalid, "the manifest broke off after %d bytes", len(raw))
	case int64(len(raw)) > most:
		return nil, &spec.Refusal{Status: http.StatusRequestEntityTooLarge, Code: spec.SizeInvalid, Message: fmt.Sprintf("a manifest may have %d bytes", most)}
	}
	return raw, nil
}

// held is content that is in memory.
func held(raw []byte) mirror.Fetch {
	return func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(raw[offset:])), offset, nil
	}
}

// manifest reads the body as what the client says that it is.
func (x *exchange) manifest(raw []byte) (mirror.Manifest, error) {
	none := mirror.Manifest{}
	d := digest.FromBytes(raw)
	if x.ByDigest() {
		want, err := x.digest(x.Ref)
		if err != nil {
			return none, err
		}
		if d = want.Algorithm().FromBytes(raw); d != want {
			return none, bad(spec.DigestInvalid, "the manifest is %s and was pushed as %s", d, want)
		}
	}
	desc := ocispec.Descriptor{MediaType: x.mediaType(raw), Digest: d, Size: int64(len(raw))}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return none, bad(spec.ManifestInvalid, "%v", err)
	}
	return m, x.sameType(m.Descriptor, raw)
}

// mediaType is the one that the client gives. What has one of its own may come
// with parameters that add nothing to it.
func (x *exchange) mediaType(raw []byte) string {
	given := x.r.Header.Get("Content-Type")
	if own := ownType(raw); own != "" {
		if plain, _, err := mime.ParseMediaType(given); err == nil && plain == own {
			return own
		}
	}
	return given
}

// ownType is what a manifest says that it is.
func ownType(raw []byte) string {
	var doc struct {
		MediaType string `json:"mediaType"`
	}
	_ = json.Unmarshal(raw, &doc) // ParseManifest says what is wrong
	return doc.MediaType
}

// sameType refuses a manifest that does not say what it is and is known as
// something else: whoever pulls the digest gets one answer.
func (x *exchange) sameType(desc ocispec.Descriptor, raw []byte) error {
	if ownType(raw) != "" {
		return nil
	}
	known, err := x.store.Ledger().Manifest(x.r.Context(), desc.Digest)
	if errors.Is(err, fs.ErrNotExist) || err == nil && known.MediaType == desc.MediaType {
		return nil
	}
	if err != nil {
		return err
	}
	return bad(spec.ManifestInvalid, "manifest %s does not say what it is; it is known here as %q and was pushed as %q", desc.Digest, known.MediaType, desc.MediaType)
}

// whole refuses a manifest of which something is not in the repository. A
// subject may come later, and foreign layers stay where they are.
func (x *exchange) whole(m mirror.Manifest) error {
	for _, ref := range m.Refs {
		if ref.Role == mirror.RoleForeign {
			continue
		}
		here, err := x.here(ref)
		if err != nil {
			return err
		}
		if !here {
			return bad(spec.ManifestBlobUnknown, "%s %s of %d bytes is not in %s: push it first", ref.Role, ref.Digest, ref.Size, x.Repo)
		}
	}
	return nil
}

func (x *exchange) here(ref mirror.Ref) (bool, error) {
	if ref.Role != mirror.RoleChild {
		return x.store.Linked(x.r.Context(), x.Repo, ref.Descriptor, false)
	}
	here, err := x.store.Linked(x.r.Context(), x.Repo, ref.Descriptor, true)
	if err != nil || here {
		return here, err
	}
	return x.store.Absent(x.r.Context(), x.Repo, ref.Digest)
}

// publish makes the manifest visible under each of its tags, or by its digest
// when it has none.
func (x *exchange) publish(m mirror.Manifest, tags []string) error {
	for _, tag := range tags {
		if err := x.movable(tag, m.Descriptor.Digest); err != nil {
			return err
		}
	}
	if len(tags) == 0 {
		tags = []string{""}
	}
	for _, tag := range tags {
		if err := x.publishAs(m, tag); err != nil {
			return err
		}
	}
	return nil
}

func (x *exchange) publishAs(m mirror.Manifest, tag string) error {
	if tag != "" && x.o.Immutable(x.Repo, tag) {
		defer x.settled.lock(x.Repo + ":" + tag)()
		if err := x.movable(tag, m.Descriptor.Digest); err != nil {
			return err
		}
	}
	p := mirror.Publication{Repo: x.Repo, Tag: tag, Root: m.Descriptor, Manifests: []mirror.Manifest{m}, By: x.by(), Kind: ledger.Pushed}
	published, err := x.store.Publish(x.r.Context(), p)
	if err != nil {
		// What it refers to may have been deleted meanwhile.
		return errors.Join(x.whole(m), err)
	}
	if published.Changed {
		x.log.Info("image pushed", "repo", x.Repo, "tag", tag, "digest", m.Descriptor.Digest)
	}
	return nil
}

// movable refuses to move a tag that does not move.
func (x *exchange) movable(tag string, to digest.Digest) error {
	if !x.o.Immutable(x.Repo, tag) {
		return nil
	}
	now, err := x.store.Resolve(x.r.Context(), x.Repo, tag)
	if errors.Is(err, fs.ErrNotExist) || err == nil && now == to {
		return nil
	}
	if err != nil {
		return err
	}
	return denied(http.StatusConflict, fmt.Sprintf("tag %s of %s is immutable and is %s: push under another tag", tag, x.Repo, now))
}

// stripes let one request at a time settle a name. The zero value is ready.
type stripes [64]sync.Mutex

func (s *stripes) lock(name string) (unlock func()) {
	h := fnv.New32a()
	_, _ = io.WriteString(h, name) // it does not fail
	m := &s[h.Sum32()%uint32(len(s))]
	m.Lock()
	return m.Unlock
}
