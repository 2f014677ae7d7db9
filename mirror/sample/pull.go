package sample

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Pulled is an image that was read whole; every byte was hashed.
type Pulled struct {
	Digest    digest.Digest
	Content   map[digest.Digest]int64 // sizes of everything below the image and of all that refers to it
	Referrers int                     // manifests that refer to something
	Bytes     int64
}

// Pull reads an image (a tag or a digest of repo) from the registry at base, as
// a client of all its platforms would, and then what refers to it. Content that
// is absent, wrong or of another length than its descriptor says is an error.
func Pull(ctx context.Context, base, repo, ref string) (Pulled, error) {
	p := &pull{url: base + "/v2/" + repo, got: Pulled{Content: map[digest.Digest]int64{}}}
	root, raw, err := p.manifest(ctx, ref)
	if err == nil {
		p.got.Digest = root
		err = p.below(ctx, root, raw)
	}
	if err == nil {
		err = p.referrers(ctx)
	}
	if err != nil {
		return p.got, fmt.Errorf("pull %s %s: %w", repo, ref, err)
	}
	return p.got, nil
}

// Check compares what was pulled with what there should be.
func (e Expect) Check(p Pulled) error {
	var errs []error
	if p.Digest != e.Digest {
		errs = append(errs, fmt.Errorf("%s:%s is %s, not %s", e.Repo, e.Tag, p.Digest, e.Digest))
	}
	unexpected := maps.Clone(p.Content)
	for _, c := range slices.Concat(e.Image, e.Referrers) {
		if size, ok := p.Content[c.Digest]; !ok || size != c.Size {
			errs = append(errs, fmt.Errorf("%s:%s: %s %s is not there", e.Repo, e.Tag, c.MediaType, c.Digest))
		}
		delete(unexpected, c.Digest)
	}
	for _, d := range slices.Sorted(maps.Keys(unexpected)) {
		errs = append(errs, fmt.Errorf("%s:%s: %s is not part of it", e.Repo, e.Tag, d))
	}
	return errors.Join(errs...)
}

type pull struct {
	url       string
	got       Pulled
	manifests []digest.Digest
}

// below reads what a manifest refers to, once.
func (p *pull) below(ctx context.Context, d digest.Digest, raw []byte) error {
	if _, ok := p.got.Content[d]; ok {
		return nil
	}
	p.add(d, int64(len(raw)))
	p.manifests = append(p.manifests, d)
	doc := parse(raw)
	for _, child := range doc.Manifests {
		if err := p.descend(ctx, child); err != nil {
			return err
		}
	}
	doc.Manifests = nil
	for _, desc := range doc.refs() {
		if err := p.blob(ctx, desc); err != nil {
			return err
		}
	}
	return nil
}

func (p *pull) descend(ctx context.Context, desc ocispec.Descriptor) error {
	d, raw, err := p.manifest(ctx, desc.Digest.String())
	if err != nil {
		return err
	}
	if int64(len(raw)) != desc.Size {
		return fmt.Errorf("manifest %s has %d bytes where its parent says %d", d, len(raw), desc.Size)
	}
	return p.below(ctx, d, raw)
}

// referrers asks of every manifest what refers to it; manifests grows meanwhile.
func (p *pull) referrers(ctx context.Context) error {
	for i := 0; i < len(p.manifests); i++ {
		list, err := p.referrersOf(ctx, p.manifests[i])
		if err != nil {
			return err
		}
		for _, desc := range list {
			p.got.Referrers++
			if err := p.descend(ctx, desc); err != nil {
				return fmt.Errorf("referrer of %s: %w", p.manifests[i], err)
			}
		}
	}
	return nil
}

// referrersOf asks the referrers API, or where there is none the fallback tag.
func (p *pull) referrersOf(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	raw, _, err := p.get(ctx, "/referrers/"+d.String())
	if errors.Is(err, errNotFound) {
		raw, _, err = p.get(ctx, "/manifests/"+dashed(d))
	}
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	return parse(raw).Manifests, err
}

// manifest reads a manifest; what it is must be what was asked for and what the
// registry calls it.
func (p *pull) manifest(ctx context.Context, ref string) (digest.Digest, []byte, error) {
	raw, header, err := p.get(ctx, "/manifests/"+ref)
	if err != nil {
		return "", nil, err
	}
	d := digest.FromBytes(raw)
	if strings.Contains(ref, ":") && ref != d.String() {
		return "", nil, fmt.Errorf("manifest %s has the digest %s", ref, d)
	}
	if said := header.Get("Docker-Content-Digest"); said != d.String() {
		return "", nil, fmt.Errorf("manifest %s is called %q by the registry and has the digest %s", ref, said, d)
	}
	return d, raw, nil
}

func (p *pull) blob(ctx context.Context, desc ocispec.Descriptor) error {
	if _, ok := p.got.Content[desc.Digest]; ok {
		return nil
	}
	res, err := p.open(ctx, "/blobs/"+desc.Digest.String())
	if err != nil {
		return err
	}
	defer res.Body.Close()
	h := sha256.New()
	n, err := io.Copy(h, res.Body)
	if err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != desc.Digest.Encoded() || n != desc.Size {
		return fmt.Errorf("blob %s: %d bytes with the digest sha256:%s where there should be %d", desc.Digest, n, sum, desc.Size)
	}
	p.add(desc.Digest, n)
	return nil
}

func (p *pull) add(d digest.Digest, size int64) {
	p.got.Content[d] = size
	p.got.Bytes += size
}

func (p *pull) get(ctx context.Context, path string) ([]byte, http.Header, error) {
	res, err := p.open(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return raw, res.Header, err
}

var errNotFound = errors.New("not found")

func (p *pull) open(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return nil, err
	}
	for _, mediaType := range []string{oci.index, oci.image, docker.index, docker.image} {
		req.Header.Add("Accept", mediaType)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", path, errNotFound)
	}
	return nil, fmt.Errorf("%s: %s", path, res.Status)
}
