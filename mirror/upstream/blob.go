package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/mirror/upstream/field"
)

// errWhole is an upstream that cannot begin where it is asked to.
var errWhole = errors.New("only from the beginning")

// Blob opens content from an offset and returns where the body begins: there,
// or at 0 when the upstream cannot. The caller closes the body and checks what
// it holds. Reading ends in an error when nothing comes for a minute.
func (r *Registry) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	if offset < 0 || offset > desc.Size {
		offset = 0
	}
	if offset == desc.Size && offset > 0 {
		return http.NoBody, offset, nil
	}
	var body io.ReadCloser
	start := offset
	err := r.somewhere(ctx, desc.Digest, func(at *Registry) (err error) {
		start = offset
		body, err = at.resumed(ctx, repo, desc, &start)
		return err
	})
	return body, start, err
}

// resumed opens content at offset, or else at 0, and sets it to where the body
// begins.
func (r *Registry) resumed(ctx context.Context, repo string, desc ocispec.Descriptor, offset *int64) (io.ReadCloser, error) {
	body, err := r.blob(ctx, repo, desc, offset)
	if !errors.Is(err, errWhole) {
		return r.noted(ctx, desc, body), err
	}
	r.log.Info("upstream does not continue a blob, it is fetched from the beginning", "upstream", r.host, "repo", repo, "digest", desc.Digest)
	*offset = 0
	body, err = r.blob(ctx, repo, desc, offset)
	return r.noted(ctx, desc, body), err
}

// noted counts a stream that breaks off, if there is another place for it.
func (r *Registry) noted(ctx context.Context, desc ocispec.Descriptor, body io.ReadCloser) io.ReadCloser {
	if body == nil || len(r.mirrors) == 0 && !r.isMirror {
		return body
	}
	return &noted{body, ctx, &r.breaks, desc.Digest}
}

// blob opens content at offset, and sets it to where the body begins.
func (r *Registry) blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset *int64) (io.ReadCloser, error) {
	c := blobCall(repo, desc)
	if *offset > 0 {
		c = c.part(*offset, desc.Size-1)
	}
	var body io.ReadCloser
	err := r.exchange(ctx, c, func(resp *http.Response) error {
		start, err := begins(resp, *offset, desc.Size)
		if err != nil {
			resp.Body.Close()
			return err
		}
		*offset, body = start, resp.Body
		return nil
	})
	return body, err
}

func blobCall(repo string, desc ocispec.Descriptor) call {
	return call{
		method: http.MethodGet, path: repo + "/blobs/" + desc.Digest.String(), scope: pull(repo),
		name: "blobs/" + desc.Digest.String() + " of " + repo, repo: repo,
	}
}

var _ mirror.Sizer = (*Registry)(nil)

// Size asks how large a blob is; fs.ErrNotExist. Where a HEAD does not say it,
// as behind an address that is signed for GET only, a GET does, whose body is
// not read.
func (r *Registry) Size(ctx context.Context, repo string, d digest.Digest) (size int64, err error) {
	err = r.somewhere(ctx, d, func(at *Registry) (err error) {
		if size, err = at.size(ctx, http.MethodHead, repo, d); errors.Is(err, errNoHead) {
			size, err = at.size(ctx, http.MethodGet, repo, d)
		}
		return err
	})
	return size, err
}

func (r *Registry) size(ctx context.Context, method, repo string, d digest.Digest) (size int64, err error) {
	c := blobCall(repo, ocispec.Descriptor{Digest: d})
	if c.method = method; method == http.MethodHead {
		c.more = []int{http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented}
	}
	err = r.exchange(ctx, c, func(resp *http.Response) error {
		resp.Body.Close()
		if size = resp.ContentLength; resp.StatusCode != http.StatusOK || size < 0 {
			return errNoHead
		}
		return nil
	})
	return size, err
}

// part asks for the bytes from first to last. The range is closed, because
// there are registries that answer 416 to an open one.
func (c call) part(first, last int64) call {
	c.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", first, last)}}
	c.more = []int{http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable}
	return c
}

// Range opens length bytes of a blob from offset on, for readers that fetch
// several parts at once. An upstream that answers with anything else is
// errors.ErrUnsupported. The caller closes the body, which may end early with
// an error, but never has more than length bytes.
func (r *Registry) Range(ctx context.Context, repo string, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length < 1 || length > desc.Size-offset {
		return nil, fmt.Errorf("upstream %s: %s has no %d bytes from %d on", r.host, desc.Digest, length, offset)
	}
	var body io.ReadCloser
	err := r.somewhere(ctx, desc.Digest, func(at *Registry) (err error) {
		body, err = at.part(ctx, repo, desc, field.Range{First: offset, Last: offset + length - 1, Total: desc.Size})
		return err
	})
	return body, err
}

func (r *Registry) part(ctx context.Context, repo string, desc ocispec.Descriptor, want field.Range) (io.ReadCloser, error) {
	var body io.ReadCloser
	err := r.exchange(ctx, blobCall(repo, desc).part(want.First, want.Last), func(resp *http.Response) error {
		if err := isPart(resp, want); err != nil {
			resp.Body.Close()
			return err
		}
		body = &part{io.LimitReader(resp.Body, want.Last-want.First+1), resp.Body}
		return nil
	})
	if errors.Is(err, errWhole) {
		return nil, unsupported{err}
	}
	return body, err
}

// part is a body that ends where it was asked to.
type part struct {
	io.Reader
	io.Closer
}

// isPart checks that an answer is the part of a blob that was asked for.
func isPart(resp *http.Response, want field.Range) error {
	if _, err := begins(resp, want.First, want.Total); err != nil {
		return err
	}
	if got, _ := field.ContentRange(resp.Header.Get("Content-Range")); got.First != want.First || got.Last != want.Last {
		return errWhole
	}
	return nil
}

// begins is where the body of an answer begins. An answer that is not of this
// content at all is an error.
func begins(resp *http.Response, offset, size int64) (int64, error) {
	if resp.StatusCode == http.StatusOK {
		return 0, wrongLength(resp, resp.ContentLength, size)
	}
	got, ok := field.ContentRange(resp.Header.Get("Content-Range"))
	if ok {
		if err := wrongLength(resp, got.Total, size); err != nil {
			return 0, err
		}
	}
	if !ok || resp.StatusCode != http.StatusPartialContent || got.First != offset || got.Last >= size ||
		resp.ContentLength >= 0 && resp.ContentLength != got.Last-got.First+1 {
		return 0, errWhole
	}
	return offset, nil
}

func wrongLength(resp *http.Response, got, want int64) error {
	switch {
	case got < 0 || got == want:
		return nil
	case isHTML(resp.Header, nil):
		return fmt.Errorf("%s sent a web page where the blob should be", resp.Request.URL.Host)
	}
	return fmt.Errorf("wrong length: %s has %d bytes where the manifest says %d", resp.Request.URL.Host, got, want)
}
