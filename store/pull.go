package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
)

// request is what a path below /v2/ asks for.
type request struct{ repo, kind, ref string }

// parseRequest reads a path from its end, because a repository's name may hold
// any word. ok is false for what is none of ours.
func parseRequest(p string) (q request, ok bool) {
	rest, ok := strings.CutPrefix(p, "/v2/")
	if !ok {
		return q, false
	}
	if rest == "_catalog" {
		return request{kind: "catalog"}, true
	}
	if repo, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return request{repo: repo, kind: "tags"}, true
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return q, false
	}
	j := strings.LastIndexByte(rest[:i], '/')
	if j < 0 {
		return q, false
	}
	q = request{repo: rest[:j], kind: rest[j+1 : i], ref: rest[i+1:]}
	return q, q.kind == "manifests" || q.kind == "blobs" || q.kind == "referrers"
}

// refusal is an error with its answer.
type refusal struct {
	status  int
	code    string
	message string
}

func (r *refusal) Error() string { return r.message }

// pulls answers what is stored. What is not here goes to next, and so does what
// is no pull.
func (s *Store) pulls(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, ok := parseRequest(r.URL.Path)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		err := s.answer(w, r, q)
		refused, isRefusal := errors.AsType[*refusal](err)
		switch {
		case err == nil || r.Context().Err() != nil:
		case errors.Is(err, fs.ErrNotExist):
			next.ServeHTTP(w, r)
		case isRefusal:
			refuse(w, refused.status, refused.code, refused.message)
		default:
			s.log.Error("pull", "repo", q.repo, "reference", q.ref, "err", err)
			refuse(w, http.StatusInternalServerError, "UNKNOWN", "internal error")
		}
	})
}

// answer writes an answer or returns an error, never both.
func (s *Store) answer(w http.ResponseWriter, r *http.Request, q request) error {
	if q.kind == "catalog" {
		return s.serveCatalog(w, r)
	}
	if err := layout.CheckRepository(q.repo); err != nil {
		return &refusal{http.StatusBadRequest, "NAME_INVALID", err.Error()}
	}
	switch q.kind {
	case "tags":
		return s.serveTags(w, r, q.repo)
	case "manifests":
		return s.serveManifest(w, r, q)
	}
	d := digest.Digest(q.ref)
	if err := d.Validate(); err != nil {
		return &refusal{http.StatusBadRequest, "DIGEST_INVALID", err.Error()}
	}
	if q.kind == "referrers" {
		return s.serveReferrers(w, r, q.repo, d)
	}
	return s.serveBlob(w, r, q.repo, d)
}

// reference resolves a tag or a digest.
func (s *Store) reference(ctx context.Context, q request) (digest.Digest, error) {
	if !strings.Contains(q.ref, ":") {
		if err := layout.CheckTag(q.ref); err != nil {
			return "", &refusal{http.StatusNotFound, "MANIFEST_UNKNOWN", err.Error()}
		}
		return s.Resolve(ctx, q.repo, q.ref)
	}
	d := digest.Digest(q.ref)
	if err := d.Validate(); err != nil {
		return "", &refusal{http.StatusBadRequest, "DIGEST_INVALID", err.Error()}
	}
	return d, nil
}

// serveManifest serves a manifest as it is stored, whatever the client says it
// accepts: a digest has one answer.
func (s *Store) serveManifest(w http.ResponseWriter, r *http.Request, q request) error {
	d, err := s.reference(r.Context(), q)
	if err != nil {
		return err
	}
	desc, raw, err := s.Manifest(r.Context(), q.repo, d)
	if err != nil {
		return err
	}
	identify(w, r, d)
	w.Header().Set("Content-Type", desc.MediaType)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
	return nil
}

// blobAge is how long a client may keep a blob, in seconds: a digest is for good.
const blobAge = 365 * 24 * 60 * 60

func (s *Store) serveBlob(w http.ResponseWriter, r *http.Request, repo string, d digest.Digest) error {
	if err := s.linked(layout.Layer(repo, d), d); err != nil {
		return err
	}
	f, err := s.tree.OpenFile(layout.Data(d))
	if err != nil {
		return err
	}
	defer f.Close()
	identify(w, r, d)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", blobAge))
	// From a file, the kernel sends it without a copy through us.
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// identify names the content. A client may give the digest without quotes.
func identify(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Etag", `"`+d.String()+`"`)
	if r.Header.Get("If-None-Match") == d.String() {
		r.Header.Set("If-None-Match", `"`+d.String()+`"`)
	}
}
