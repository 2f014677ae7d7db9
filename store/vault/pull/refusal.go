package pull

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/serve/spec"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// retryAfter is how long a client is to leave a vault alone that does not answer.
const retryAfter = "5"

var errUnreachable = errors.New("cannot be fetched now")

func damaged(err error) error { return fmt.Errorf("%w: %w", layout.ErrDamaged, err) }

// explain tells what is wrong in a vault from a vault that cannot be reached. What
// is missing is missing when the rest is there.
func (s *Snapshot) explain(ctx context.Context, err error) error {
	if errors.Is(err, mirror.ErrContent) {
		return damaged(err)
	}
	kind, bad := catalog.Damage(err)
	if kind == "missing" {
		_, gone := s.catalog.Bucket.Load(ctx, layout.KeyConfig)
		bad = gone == nil
	}
	if bad {
		return damaged(err)
	}
	return fmt.Errorf("%w: %w", errUnreachable, err)
}

// refused is what a client is told about what could not be read.
func (s *Snapshot) refused(ctx context.Context, repo string, d digest.Digest, err error) error {
	if refusal, ok := errors.AsType[*spec.Refusal](err); ok {
		return refusal
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	why := s.explain(ctx, err)
	s.log.Warn("pull from the vault", "repo", repo, "digest", d, "bucket", s.catalog.Bucket.String(), "err", why)
	if errors.Is(why, errUnreachable) {
		return &spec.Refusal{Status: http.StatusServiceUnavailable, Code: spec.Unavailable, Header: http.Header{"Retry-After": {retryAfter}},
			Message: fmt.Sprintf("it is not here, and cannot be fetched from vault %s now: try again in %s s", s.catalog.Name, retryAfter)}
	}
	return &spec.Refusal{Status: http.StatusBadGateway, Code: spec.Unavailable,
		Message: fmt.Sprintf("it is damaged in vault %s, snapshot %s: the log says what; another snapshot or vault may have it whole", s.catalog.Name, s.Record.ID)}
}
