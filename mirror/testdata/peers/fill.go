package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// image is a tag of an OCI layout.
type image struct {
	repo, tag string
	desc      ocispec.Descriptor
}

// imagesOf are those of a layout's index that are named repo:tag, with one of
// the prefixes.
func imagesOf(layout string, prefixes []string) ([]image, error) {
	raw, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", layout, err)
	}
	var images []image
	for _, desc := range index.Manifests {
		repo, tag, ok := strings.Cut(desc.Annotations[ocispec.AnnotationRefName], ":")
		if ok && hasPrefix(repo, prefixes) {
			images = append(images, image{repo, tag, desc})
		}
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("%s has no images named repo:tag under %v", layout, prefixes)
	}
	return images, nil
}

func hasPrefix(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// pusher sends images of a layout to a registry.
type pusher struct {
	layout, url string

	mu   sync.Mutex
	from map[digest.Digest]string // blobs that the registry has, and one repository of each
}

// pushAll sends images, those of a repository one after the other.
func pushAll(ctx context.Context, layout, addr string, images []image) error {
	p := &pusher{layout: layout, url: "http://" + addr + "/v2/", from: map[digest.Digest]string{}}
	byRepo := map[string][]image{}
	for _, i := range images {
		byRepo[i.repo] = append(byRepo[i.repo], i)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for repo, images := range byRepo {
		g.Go(func() error {
			done := map[digest.Digest]bool{}
			for _, i := range images {
				if err := p.manifest(ctx, repo, i.tag, i.desc, done); err != nil {
					return fmt.Errorf("fill the upstream: %s:%s: %w", repo, i.tag, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (p *pusher) path(d digest.Digest) string {
	return filepath.Join(p.layout, "blobs", d.Algorithm().String(), d.Encoded())
}

// manifest sends all below a manifest, then itself. done is what the
// repository has.
func (p *pusher) manifest(ctx context.Context, repo, ref string, desc ocispec.Descriptor, done map[digest.Digest]bool) error {
	raw, err := os.ReadFile(p.path(desc.Digest))
	if err != nil {
		return err
	}
	var m struct {
		Config            *ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, l := range m.Layers {
		if len(l.URLs) > 0 || done[l.Digest] {
			continue
		}
		if err := p.blob(ctx, repo, l); err != nil {
			return err
		}
		done[l.Digest] = true
	}
	for _, c := range m.Manifests {
		if done[c.Digest] {
			continue
		}
		if err := p.manifest(ctx, repo, c.Digest.String(), c, done); err != nil {
			return err
		}
	}
	done[desc.Digest] = true
	_, err = p.send(ctx, http.MethodPut, p.url+repo+"/manifests/"+ref, desc.MediaType, bytes.NewReader(raw), int64(len(raw)), http.StatusCreated)
	return err
}

// blob sends a blob, or has it mounted.
func (p *pusher) blob(ctx context.Context, repo string, desc ocispec.Descriptor) error {
	p.mu.Lock()
	from := p.from[desc.Digest]
	p.mu.Unlock()
	start := p.url + repo + "/blobs/uploads/"
	if from != "" {
		start += "?" + url.Values{"mount": {desc.Digest.String()}, "from": {from}}.Encode()
	}
	resp, err := p.send(ctx, http.MethodPost, start, "", nil, 0, http.StatusAccepted, http.StatusCreated)
	if err != nil || resp.StatusCode == http.StatusCreated {
		return err
	}
	to, err := resp.Location()
	if err != nil {
		return err
	}
	query := to.Query()
	query.Set("digest", desc.Digest.String())
	to.RawQuery = query.Encode()
	f, err := os.Open(p.path(desc.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := p.send(ctx, http.MethodPut, to.String(), "application/octet-stream", f, desc.Size, http.StatusCreated); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from[desc.Digest] = repo
	return nil
}

// send wants one of the statuses. The answer's body is read.
func (p *pusher) send(ctx context.Context, method, to, kind string, body io.Reader, size int64, want ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if slices.Contains(want, resp.StatusCode) {
		return resp, nil
	}
	return nil, fmt.Errorf("%s %s: %s: %s", method, to, resp.Status, tail(string(said)))
}
