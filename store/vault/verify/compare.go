package verify

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// proof is how far a content was proven right.
type proof int

const (
	unproven proof = iota
	byLength       // its name and length are right
	byHash         // the server's own SHA-256 is its digest
	read           // and hashed
)

// asks is how many contents are asked for at a time.
const asks = 16

// compare proves what is not going to be read by what the bucket says of it.
func (r *verify) compare(ctx context.Context) error {
	switch r.o.level() {
	case Full:
		return nil
	case Head:
		return r.ask(ctx)
	}
	return r.list(ctx)
}

// unread is what is not going to be read.
func (r *verify) unread() (list []*need) {
	for d, n := range r.needs {
		if n.proof == unproven && !r.meant(d) {
			list = append(list, n)
		}
	}
	return list
}

// list compares with what the bucket lists.
func (r *verify) list(ctx context.Context) error {
	sizes, err := sizesBelow(ctx, r.Bucket, layout.DirBlobs)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(catalog.AtOnce)
	for _, n := range r.unread() {
		size, there := sizes[r.BlobKey(n.digest)]
		err := r.long(n, size)
		if !there {
			err = fmt.Errorf("vault %s: blob %s: it is not listed: %w", r.Bucket, n.digest, fs.ErrNotExist)
		}
		n.proof = byLength
		if err != nil {
			g.Go(func() error { return r.doubt(gctx, n, err) })
		}
	}
	return g.Wait()
}

func (r *verify) long(n *need, size int64) error {
	if r.Fits(size, n.size) {
		return nil
	}
	return fmt.Errorf("vault %s: blob %s: %w: it has %d bytes, not %d", r.Bucket, n.digest, layout.ErrDamaged, size, n.size)
}

// ask asks for each content alone, many at once.
func (r *verify) ask(ctx context.Context) error {
	list := r.unread()
	r.progress.Plan(len(list), 0)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(asks)
	for _, n := range list {
		g.Go(func() error {
			info, err := r.Bucket.Head(gctx, r.BlobKey(n.digest))
			if err == nil {
				n.proof, err = r.weigh(n, info)
			}
			if err != nil {
				err = r.doubt(gctx, n, err)
			}
			r.progress.Done(n.digest.String(), err)
			return err
		})
	}
	return g.Wait()
}

// weigh compares what the server says. Its hash counts where the bucket was seen to
// refuse what is not what its hash says.
func (r *verify) weigh(n *need, info bucket.Info) (proof, error) {
	if err := r.long(n, info.Size); err != nil {
		return unproven, err
	}
	if !r.hashes || info.SHA256 == "" || n.digest.Algorithm() != digest.SHA256 {
		return byLength, nil
	}
	if info.SHA256 != n.digest.Encoded() {
		return unproven, fmt.Errorf("vault %s: blob %s: %w: the server says that its SHA-256 is %s", r.Bucket, n.digest, layout.ErrDamaged, info.SHA256)
	}
	return byHash, nil
}
