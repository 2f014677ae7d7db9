package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
	body, err := r.blob(ctx, repo, desc, &offset)
	if errors.Is(err, errWhole) {
		r.log.Info("upstream does not continue a blob, it is fetched from the beginning", "upstream", r.host, "repo", repo, "digest", desc.Digest)
		offset = 0
		body, err = r.blob(ctx, repo, desc, &offset)
	}
	return body, offset, err
}

// blob opens content at offset, and sets it to where the body begins.
func (r *Registry) blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset *int64) (io.ReadCloser, error) {
	c := call{
		method: http.MethodGet, path: repo + "/blobs/" + desc.Digest.String(), scope: pull(repo),
		name: "blobs/" + desc.Digest.String() + " of " + repo,
	}
	if *offset > 0 {
		// Closed, because there are registries that answer 416 to an open range.
		c.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", *offset, desc.Size-1)}}
		c.more = []int{http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable}
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

// begins is where the body of an answer begins. An answer that is not of this
// content at all is an error.
func begins(resp *http.Response, offset, size int64) (int64, error) {
	if resp.StatusCode == http.StatusOK {
		return 0, wrongLength(resp, resp.ContentLength, size)
	}
	got, ok := parseContentRange(resp.Header.Get("Content-Range"))
	if ok {
		if err := wrongLength(resp, got.total, size); err != nil {
			return 0, err
		}
	}
	if !ok || resp.StatusCode != http.StatusPartialContent || got.first != offset || got.last >= size ||
		resp.ContentLength >= 0 && resp.ContentLength != got.last-got.first+1 {
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

// contentRange is a header of that name; -1 stands for what it leaves open.
type contentRange struct{ first, last, total int64 }

func parseContentRange(text string) (contentRange, bool) {
	text, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(text)), "bytes ")
	span, total, ok2 := strings.Cut(text, "/")
	if !ok || !ok2 {
		return contentRange{}, false
	}
	got := contentRange{-1, -1, -1}
	if total != "*" {
		if got.total, ok = number(total); !ok {
			return contentRange{}, false
		}
	}
	if span == "*" {
		return got, got.total >= 0
	}
	first, last, _ := strings.Cut(span, "-")
	if got.first, ok = number(first); !ok {
		return contentRange{}, false
	}
	got.last, ok = number(last)
	return got, ok && got.first <= got.last && (got.total < 0 || got.last < got.total)
}

// number reads digits and nothing else.
func number(text string) (int64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 63)
	return int64(n), err == nil
}
