package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"strconv"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/serve/spec"
)

// upload answers all about the sessions of uploads.
func (x *exchange) upload() error {
	if x.Ref == "" {
		if x.r.Method != http.MethodPost {
			return unsupported("POST")
		}
		return x.open()
	}
	query := x.r.URL.Query()
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
		x.app.ServeHTTP(x.w, x.about(x.Ref, query))
		return nil
	case http.MethodPatch, http.MethodPut, http.MethodDelete:
	default:
		return unsupported("GET, HEAD, PATCH, PUT, DELETE")
	}
	release, ok := x.claim(x.Repo, x.Ref)
	if !ok {
		return &spec.Refusal{Status: http.StatusConflict, Code: spec.BlobUploadInvalid, Message: "another request is writing to this upload"}
	}
	defer release()
	if x.r.Method == http.MethodPut {
		return x.finish(x.Ref, query)
	}
	x.app.ServeHTTP(x.w, x.about(x.Ref, query))
	return nil
}

// claim takes a session until release is called, unless somebody else has it.
func (h *handler) claim(repo, session string) (release func(), ok bool) {
	name := repo + "/" + session
	_, busy := h.sessions.LoadOrStore(name, true)
	return func() { h.sessions.Delete(name) }, !busy
}

// about is the request as distribution gets it, about a session. What counts is
// in the URL, where we have looked at it: a form in the body would be read too.
func (x *exchange) about(session string, query url.Values) *http.Request {
	r := x.r.Clone(x.r.Context())
	r.URL = &url.URL{Path: "/v2/" + x.Repo + "/blobs/uploads/" + session, RawQuery: query.Encode()}
	r.Form, r.PostForm = query, url.Values{}
	return r
}

// empty takes the body from a request.
func empty(r *http.Request) *http.Request {
	r.Body, r.ContentLength, r.TransferEncoding = http.NoBody, 0, nil
	r.Header.Set("Content-Length", "0")
	r.Header.Del("Content-Range")
	return r
}

// open begins a session, unless the blob is here and may be mounted, or is the
// body of the request.
func (x *exchange) open() error {
	query := x.r.URL.Query()
	if query.Has("mount") {
		if mounted, err := x.mount(query.Get("mount"), query.Get("from")); err != nil || mounted {
			return err
		}
	}
	if text := query.Get("digest"); text != "" {
		d, err := x.digest(text)
		if err != nil {
			return err
		}
		if x.r.ContentLength != 0 || d == d.Algorithm().FromBytes(nil) {
			return x.atOnce(d)
		}
	}
	x.app.ServeHTTP(x.w, empty(x.about("", url.Values{})))
	return nil
}

// atOnce takes a blob that is the body of the request which begins its session.
// Nobody else is told of the session: with the request it ends.
func (x *exchange) atOnce(d digest.Digest) error {
	answer := &recorder{}
	if x.app.ServeHTTP(answer, empty(x.about("", url.Values{}))); answer.status != http.StatusAccepted {
		return answer.relay(x.w)
	}
	location, err := url.Parse(answer.Header().Get("Location"))
	if err != nil {
		return err
	}
	session, query := path.Base(location.Path), location.Query()
	query.Set("digest", d.String())
	x.r.Method = http.MethodPut
	if release, ok := x.claim(x.Repo, session); ok {
		defer release() // nobody else had it, who could not know of it
	}
	defer x.forget(session)
	return x.finish(session, query)
}

// forget ends a session that only this request knows, if it is there still.
func (x *exchange) forget(session string) {
	if err := x.store.DropUpload(context.WithoutCancel(x.r.Context()), x.Repo, session); err != nil {
		x.log.Warn("unfinished upload not removed", "repo", x.Repo, "err", err)
	}
}

// finish ends a session with what is still in the body. distribution knows
// content by SHA-256 only, and would keep everything else under that name.
func (x *exchange) finish(session string, query url.Values) error {
	d, err := x.digest(query.Get("digest"))
	if err != nil {
		return err
	}
	if d.Algorithm() == digest.SHA256 {
		return x.commit(session, query, d)
	}
	return x.adopt(session, query, d)
}

// commit lets distribution end the session. It leaves a session behind that
// turned out to be something else, and knows nothing of a collector that may be
// about to remove what it finds here already.
func (x *exchange) commit(session string, query url.Values, d digest.Digest) error {
	x.store.Expect(x.Repo, d)
	answer := &recorder{}
	x.app.ServeHTTP(answer, x.about(session, query))
	if answer.code() == spec.DigestInvalid {
		if err := x.store.DropUpload(x.r.Context(), x.Repo, session); err != nil {
			return err
		}
	}
	if answer.status == http.StatusCreated {
		if err := x.store.LinkBlob(x.Repo, d); err != nil {
			return err
		}
	}
	return answer.relay(x.w)
}

// adopt ends the session with content whose name distribution does not know.
func (x *exchange) adopt(session string, query url.Values, d digest.Digest) error {
	query.Del("digest")
	last := x.about(session, query)
	last.Method = http.MethodPatch
	last.Header.Set("Content-Type", "application/octet-stream")
	sent := &recorder{}
	if x.app.ServeHTTP(sent, last); sent.status != http.StatusAccepted {
		return sent.relay(x.w)
	}
	err := x.store.AdoptUpload(x.r.Context(), x.Repo, session, d)
	if errors.Is(err, layout.ErrDigest) {
		return bad(spec.DigestInvalid, "what was uploaded is not %s", d)
	}
	if err != nil {
		return err
	}
	return x.created(spec.Blobs, d)
}

// mount lets the repository serve what another one serves, or any other when
// the client does not say which. What cannot be mounted is uploaded: that is
// not refused, and tells nothing of repositories that the client may not see.
func (x *exchange) mount(text, from string) (mounted bool, err error) {
	d, err := x.digest(text)
	if err != nil {
		return false, err
	}
	if from == "" {
		from, err = x.store.ServedBlob(x.r.Context(), d, func(repo string) bool { return x.o.MayPull(x.r, repo) })
		if err != nil || from == "" {
			return false, err
		}
	}
	if layout.CheckRepository(from) != nil || !x.o.MayPull(x.r, from) {
		return false, nil
	}
	if serves, err := x.store.ServesBlob(x.r.Context(), from, d); err != nil || !serves {
		return false, err
	}
	if err := x.store.Mount(x.r.Context(), from, x.Repo, d); err != nil {
		return false, err
	}
	return true, x.created(spec.Blobs, d)
}

// recorder keeps an answer of distribution's, which is small.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is the answer's.
func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

// WriteHeader keeps the first status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write keeps the body.
func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

// code is that of an error, or "".
func (r *recorder) code() string {
	var body struct{ Errors []struct{ Code string } }
	if r.status < http.StatusBadRequest || json.Unmarshal(r.body.Bytes(), &body) != nil || len(body.Errors) == 0 {
		return ""
	}
	return body.Errors[0].Code
}

// relay gives the answer to the client. None is a fault.
func (r *recorder) relay(w http.ResponseWriter) error {
	if r.status == 0 {
		return errors.New("distribution gave no answer")
	}
	maps.Copy(w.Header(), r.Header())
	w.Header().Set("Content-Length", strconv.Itoa(r.body.Len()))
	w.WriteHeader(r.status)
	_, _ = io.Copy(w, &r.body) // an error is the client's, who has gone
	return nil
}
