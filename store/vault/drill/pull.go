package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/layout"
)

const (
	// patience is how long the scratch registry may take to begin an answer.
	patience = time.Minute
	// maxDepth is how deep indexes may lie in each other.
	maxDepth = 32
	// maxTags is how long a list of tags may be, in bytes.
	maxTags = 64 << 20
)

// pull serves the scratch store on this machine alone and pulls what was chosen.
func (d *drill) pull(ctx context.Context) (err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("scratch registry: %w", err)
	}
	server := &http.Server{Handler: d.scratch, ReadHeaderTimeout: patience}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	transport := &http.Transport{ResponseHeaderTimeout: patience} // no proxy: it is here
	defer func() {
		transport.CloseIdleConnections()
		err = errors.Join(err, server.Close())
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}()
	p := &puller{drill: d, base: "http://" + l.Addr().String(), client: &http.Client{Transport: transport}, kept: d.foreign()}
	return p.run(ctx)
}

// puller is a client.
type puller struct {
	*drill
	base   string
	client *http.Client
	kept   func(mirror.Ref) bool
	pulled map[digest.Digest]bool // in the repository
}

func (p *puller) run(ctx context.Context) error {
	root, err := p.Index(ctx, p.record.Root)
	if err != nil {
		return p.damaged(err)
	}
	for _, desc := range root.Manifests {
		repo := repositoryOf(desc)
		if repo != p.sample.whole && p.sample.tags[repo] == nil {
			continue
		}
		list, err := p.images(ctx, desc)
		if err == nil {
			err = p.repository(ctx, repo, list)
		}
		if err = p.damaged(err); err != nil {
			return err
		}
	}
	return nil
}

// repository pulls what was chosen of a repository. An error is that it was stopped.
func (p *puller) repository(ctx context.Context, repo string, list []ocispec.Descriptor) error {
	p.pulled = map[digest.Digest]bool{}
	tags := map[string]bool{}
	for _, desc := range list {
		tag := layout.TagOf(desc)
		if !p.sample.has(repo, tag) {
			continue
		}
		if p.failed[nameOf(repo, tag, desc.Digest)] {
			continue // it is told already
		}
		if tag != "" {
			tags[tag] = true
			p.report.Tags++
		}
		if err := p.image(ctx, repo, tag, desc); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			p.problem(nameOf(repo, tag, desc.Digest), desc.Digest, err)
		}
	}
	if repo != p.sample.whole {
		return nil
	}
	if err := p.compareTags(ctx, repo, tags); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.problem(repo, "", err)
	}
	return nil
}

func (p *puller) image(ctx context.Context, repo, tag string, desc ocispec.Descriptor) error {
	absent := map[digest.Digest]bool{}
	for _, d := range layout.AbsentOf(desc) {
		absent[d] = true
	}
	if tag != "" { // it has to lead to the digest, whether that was pulled before or not
		if _, err := p.manifest(ctx, repo, tag, desc); err != nil {
			return err
		}
	}
	return p.tree(ctx, repo, desc, absent, 0)
}

// tree pulls a manifest and all below it by digest, each once in a repository.
func (p *puller) tree(ctx context.Context, repo string, desc ocispec.Descriptor, absent map[digest.Digest]bool, depth int) error {
	if p.pulled[desc.Digest] {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: indexes inside each other more than %d deep", desc.Digest, maxDepth)
	}
	m, err := p.manifest(ctx, repo, desc.Digest.String(), desc)
	if err != nil {
		return err
	}
	for _, r := range m.Refs {
		switch {
		case r.Role == mirror.RoleChild && !absent[r.Digest]:
			err = p.tree(ctx, repo, r.Descriptor, absent, depth+1)
		case r.Role == mirror.RoleChild, p.pulled[r.Digest], r.Role == mirror.RoleForeign && !p.kept(r):
		default:
			err = p.blob(ctx, repo, r.Descriptor)
		}
		if err != nil {
			return err
		}
	}
	p.pulled[desc.Digest] = true
	return nil
}

func (p *puller) manifest(ctx context.Context, repo, ref string, desc ocispec.Descriptor) (mirror.Manifest, error) {
	body, header, err := p.get(ctx, "/v2/"+repo+"/manifests/"+ref)
	if err != nil {
		return mirror.Manifest{}, err
	}
	raw, err := io.ReadAll(io.LimitReader(body, mirror.MaxManifest+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return mirror.Manifest{}, fmt.Errorf("manifest %s: %w", ref, err)
	}
	if got := desc.Digest.Algorithm().FromBytes(raw); got != desc.Digest {
		return mirror.Manifest{}, fmt.Errorf("manifest %s: it has the digest %s, and the snapshot says %s", ref, got, desc.Digest)
	}
	if got := header.Get("Content-Type"); got != desc.MediaType {
		return mirror.Manifest{}, fmt.Errorf("manifest %s: it has the media type %q, and the snapshot says %q", ref, got, desc.MediaType)
	}
	p.report.Manifests++
	p.report.Bytes += int64(len(raw))
	return mirror.ParseManifest(desc, raw)
}

func (p *puller) blob(ctx context.Context, repo string, desc ocispec.Descriptor) error {
	body, _, err := p.get(ctx, "/v2/"+repo+"/blobs/"+desc.Digest.String())
	if err != nil {
		return err
	}
	hash := desc.Digest.Algorithm().Digester()
	n, err := io.Copy(hash.Hash(), io.LimitReader(body, desc.Size+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if n != desc.Size || hash.Digest() != desc.Digest {
		return fmt.Errorf("blob %s: it has %d bytes with the digest %s, and the manifest says %d", desc.Digest, n, hash.Digest(), desc.Size)
	}
	p.pulled[desc.Digest] = true
	p.report.Blobs++
	p.report.Bytes += n
	return nil
}

// compareTags holds the registry's list of tags against the snapshot's.
func (p *puller) compareTags(ctx context.Context, repo string, want map[string]bool) error {
	if len(want) == 0 {
		return nil
	}
	body, _, err := p.get(ctx, "/v2/"+repo+"/tags/list")
	if err != nil {
		return err
	}
	var got struct {
		Tags []string `json:"tags"`
	}
	err = errors.Join(json.NewDecoder(io.LimitReader(body, maxTags)).Decode(&got), body.Close())
	if err != nil {
		return fmt.Errorf("list of tags: %w", err)
	}
	if all := slices.Sorted(maps.Keys(want)); !slices.Equal(slices.Sorted(slices.Values(got.Tags)), all) {
		return fmt.Errorf("it lists %d tags, and the snapshot has %d", len(got.Tags), len(all))
	}
	return nil
}

func (p *puller) get(ctx context.Context, path string) (io.ReadCloser, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "*/*")
	res, err := p.client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, nil, errors.Join(fmt.Errorf("%s: the restored registry answers %s", path, res.Status), res.Body.Close())
	}
	return res.Body, res.Header, nil
}
