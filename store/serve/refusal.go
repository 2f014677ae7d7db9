package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lastro/mirror"
	"lastro/store/serve/spec"
)

// refusal is what a client is told about an error.
func (x *exchange) refusal(err error) *spec.Refusal {
	if refused, ok := errors.AsType[*spec.Refusal](err); ok {
		return refused
	}
	if errors.Is(err, fs.ErrNotExist) {
		return x.unknown()
	}
	x.o.Log.Error("pull", "repo", x.repo, "reference", x.Ref, "err", err)
	return &spec.Refusal{Status: http.StatusInternalServerError, Code: spec.Unknown, Message: "internal error"}
}

// unknown says in the spec's words that what is asked for is not here.
func (x *exchange) unknown() *spec.Refusal {
	switch x.Kind {
	case spec.Manifests:
		return &spec.Refusal{Status: http.StatusNotFound, Code: spec.ManifestUnknown, Message: fmt.Sprintf("%s has no manifest %s", x.Repo, x.Ref)}
	case spec.Blobs:
		return &spec.Refusal{Status: http.StatusNotFound, Code: spec.BlobUnknown, Message: fmt.Sprintf("%s has no blob %s", x.Repo, x.Ref)}
	}
	return x.unknownName()
}

func (x *exchange) unknownName() *spec.Refusal {
	return &spec.Refusal{Status: http.StatusNotFound, Code: spec.NameUnknown, Message: fmt.Sprintf("there is no repository %s", x.Repo)}
}

// demanded is the answer to what could not be brought. Only what is not to be
// had is 404, which sends a client to its next registry; whoever asks for what
// an upstream cannot give just now is to come back.
func (x *exchange) demanded(err error) error {
	withheld, isWithheld := errors.AsType[*mirror.WithheldError](err)
	throttled, isThrottled := errors.AsType[*mirror.ThrottledError](err)
	_, isSaid := errors.AsType[*spec.Refusal](err)
	switch {
	case err == nil, isSaid, errors.Is(err, fs.ErrNotExist), errors.Is(err, context.Canceled):
		return err
	case isWithheld:
		refusal := x.unknown()
		refusal.Message = withheld.Error()
		return refusal
	case isThrottled:
		return x.comeBack(throttled)
	}
	x.o.Log.Warn("pull from upstream", "repo", x.repo, "reference", x.Ref, "err", err)
	return &spec.Refusal{Status: http.StatusBadGateway, Code: spec.Unavailable,
		Message: fmt.Sprintf("%s is not here, and its upstream cannot give it now: %s: try again later, or sync it when the upstream answers", x.Ref, withoutSecrets(err))}
}

func (x *exchange) comeBack(t *mirror.ThrottledError) error {
	seconds := max(1, (t.Until.Sub(x.o.Now())+time.Second-1)/time.Second)
	return &spec.Refusal{Status: http.StatusTooManyRequests, Code: spec.TooManyRequests,
		Message: fmt.Sprintf("%s is not here: upstream %s limits requests: try again in %d s, or give lastro an account there", x.Ref, t.Host, seconds),
		Header:  http.Header{"Retry-After": {strconv.FormatInt(int64(seconds), 10)}}}
}

// withoutSecrets is the text of an error without the query of an address: it
// may hold a signature that is not the client's.
func withoutSecrets(err error) string {
	text := err.Error()
	if of, ok := errors.AsType[*url.Error](err); ok {
		bare, _, _ := strings.Cut(of.URL, "?")
		text = strings.ReplaceAll(text, of.URL, bare)
	}
	return mirror.Line(text, 400)
}
