package sample

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// PushTo puts all content into the registry at base ("http://host:port"),
// children before parents.
func (im *Images) PushTo(ctx context.Context, client *http.Client, base string) error {
	for _, r := range im.repos {
		if err := r.push(ctx, client, base, 0); err != nil {
			return err
		}
	}
	return nil
}

// push replays what was put since from.
func (r *repository) push(ctx context.Context, client *http.Client, base string, from int) error {
	for _, p := range r.puts[from:] {
		send := pushBlob
		if p.Manifest {
			send = pushManifest
		}
		if err := send(ctx, client, base+"/v2/"+r.name, p); err != nil {
			return fmt.Errorf("push %s %s %s: %w", r.name, p.tag, p.Digest, err)
		}
	}
	return nil
}

func pushManifest(ctx context.Context, client *http.Client, repo string, p put) error {
	name := p.Digest.String()
	if p.tag != "" {
		name = p.tag
	}
	_, err := send(ctx, client, http.MethodPut, repo+"/manifests/"+name, p.MediaType, p.Raw)
	return err
}

func pushBlob(ctx context.Context, client *http.Client, repo string, p put) error {
	res, err := send(ctx, client, http.MethodPost, repo+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	to, err := res.Location()
	if err != nil {
		return err
	}
	query := to.Query()
	query.Set("digest", p.Digest.String())
	to.RawQuery = query.Encode()
	_, err = send(ctx, client, http.MethodPut, to.String(), "application/octet-stream", p.Raw)
	return err
}

func send(ctx context.Context, client *http.Client, method, to, mediaType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	said, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err == nil && res.StatusCode/100 != 2 {
		err = &url.Error{Op: method, URL: to, Err: fmt.Errorf("%s: %s", res.Status, said)}
	}
	return res, err
}
