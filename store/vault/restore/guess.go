package restore

import (
	"cmp"
	"context"
	"io"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/store/vault/catalog"
)

const (
	samples    = 4       // how many contents are read to see how fast the vault is
	sampleSize = 4 << 20 // bytes of each
)

// add counts a content that is to be fetched.
func (p *Plan) add(desc ocispec.Descriptor) {
	p.Blobs++
	p.Bytes += desc.Size
	p.large = append(p.large, desc)
	if len(p.large) > 2*samples {
		p.large = largest(p.large)
	}
}

func largest(list []ocispec.Descriptor) []ocispec.Descriptor {
	slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	return list[:min(samples, len(list))]
}

// Guess tells how many requests and how long it will take, by what making the plan
// took. It reads the start of some of what is to be fetched.
func (p *Plan) Guess(ctx context.Context, c *catalog.Catalog, requests int64, took time.Duration) error {
	p.Requests = requests + p.reads
	seconds := took.Seconds()
	if requests > 0 {
		seconds += took.Seconds() * float64(p.reads) / float64(requests)
	}
	start := c.Now()
	read, err := p.sample(ctx, c)
	if err != nil {
		return err
	}
	if read > 0 {
		seconds += c.Now().Sub(start).Seconds() * float64(p.Bytes) / float64(read)
	}
	p.Seconds = seconds
	return nil
}

// sample reads from the vault as a restore does: several contents at once. What is
// wrong with one is for the restore to find.
func (p *Plan) sample(ctx context.Context, c *catalog.Catalog) (int64, error) {
	var g errgroup.Group
	list := largest(p.large)
	read := make([]int64, len(list))
	for i, desc := range list {
		g.Go(func() error {
			body, _, err := c.OpenBlob(ctx, desc.Digest, 0)
			if _, bad := catalog.Damage(err); bad {
				return nil
			}
			if err != nil {
				return err
			}
			defer body.Close()
			read[i], err = io.CopyN(io.Discard, body, min(desc.Size, sampleSize))
			if err == io.EOF {
				err = nil
			}
			return err
		})
	}
	err := g.Wait()
	var sum int64
	for _, n := range read {
		sum += n
	}
	return sum, err
}
