package repair

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/vault/bucket"
)

// Content is a blob or a manifest.
type Content struct {
	ocispec.Descriptor
	Manifest bool
}

// Source has contents.
type Source interface {
	// Fetch opens content from its start; fs.ErrNotExist when the source has it not.
	// The repositories are those that serve it. What comes is hashed before it is used.
	Fetch(ctx context.Context, repos []string, c Content) (io.ReadCloser, error)
	// String names the source to people.
	String() string
}

// Store is the local registry. *store.Store is one.
type Store interface {
	OpenContent(ctx context.Context, d digest.Digest) (*os.File, error)
}

// local is the local registry as a source.
type local struct{ Store }

func (local) String() string { return "local store" }

func (l local) Fetch(ctx context.Context, _ []string, c Content) (io.ReadCloser, error) {
	f, err := l.OpenContent(ctx, c.Digest)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// older is one version of an object.
type older struct {
	r    *Repairer
	info bucket.Info
}

func (older) String() string { return "older version" }

func (o older) Fetch(ctx context.Context, _ []string, c Content) (io.ReadCloser, error) {
	body, err := o.r.Server.GetVersion(ctx, o.info)
	if err != nil || o.info.Key != o.r.BlobKey(c.Digest) {
		return body, err // a record is put back as it lies there
	}
	return o.r.Unseal(c.Digest, body, o.info.Size)
}

// unlisted says why there are no versions to look at.
type unlisted struct{ error }

func (unlisted) String() string { return "older version" }

func (u unlisted) Fetch(context.Context, []string, Content) (io.ReadCloser, error) {
	return nil, u.error
}

// versions are those of an object, the newest first, as they are listed.
func (r *Repairer) versions(ctx context.Context, key string) (list []Source) {
	if r.Server == nil {
		return nil
	}
	for info, err := range r.Server.Versions(ctx, key) {
		if err != nil {
			return append(list, unlisted{err})
		}
		if mark := info.ETag == ""; info.Version != "" && !mark {
			list = append(list, older{r, info})
		}
	}
	return list
}

// NoSourceError says why no source could help.
type NoSourceError struct{ Tried []Tried }

// Tried is a source and why it was of no use.
type Tried struct {
	Source string
	Err    error
}

func (e *NoSourceError) Error() string {
	if len(e.Tried) == 0 {
		return "there is nowhere else to take it from"
	}
	said := map[string]bool{}
	var all []string
	for _, t := range e.Tried {
		if text := fmt.Sprintf("%s: %s", t.Source, reason(t.Err)); !said[text] {
			said[text] = true
			all = append(all, text)
		}
	}
	return strings.Join(all, "; ")
}

func reason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "does not have it"
	}
	return err.Error()
}
