package vault

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
)

// hides tells whether a damaged content may hide more damage: nobody looks below a
// manifest or an index that does not read. Of what neither store nor ledger knows, it is
// not known that it is none.
func (b *backup) hides(ctx context.Context, d digest.Digest) (bool, error) {
	refs, err := b.st.Ledger().Children(ctx, d)
	if len(refs) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	f, err := b.st.OpenContent(ctx, d)
	if errors.Is(err, fs.ErrNotExist) {
		return b.parent == nil || !slices.Contains(b.parent.Beside(), d), nil
	}
	if err != nil {
		return true, nil
	}
	return false, f.Close()
}

// distrust takes out of what the vault is known to hold what is not right there. It is
// replaced, and not only sent.
func (b *backup) distrust(ctx context.Context, known map[digest.Digest]bool) error {
	if !b.hidden {
		return nil
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(catalog.AtOnce)
	for d, size := range b.all {
		if !known[d] {
			continue
		}
		g.Go(func() error {
			right, err := b.right(gctx, d, size, b.manifests[d])
			mu.Lock()
			defer mu.Unlock()
			if err == nil && !right {
				b.wrong[d] = true
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for d := range b.wrong {
		delete(known, d)
	}
	return nil
}

// right looks at what the vault holds: a document is read and hashed, of the rest the
// bucket tells the length and, if it knows, the hash; what is sealed tells its length
// when it is opened.
func (b *backup) right(ctx context.Context, d digest.Digest, size int64, document bool) (bool, error) {
	info, err := b.Bucket.Head(ctx, b.BlobKey(d))
	if err != nil {
		_, damaged := catalog.Damage(err)
		return false, unless(damaged, err)
	}
	if !b.Fits(info.Size, size) || b.Sealed == nil && !matches(info, d) {
		return false, nil
	}
	if !document && b.Sealed == nil {
		return true, nil
	}
	right, err := b.reads(ctx, d, size, document)
	if errors.Is(err, ErrNoIdentity) {
		return true, nil
	}
	_, damaged := catalog.Damage(err)
	return right, unless(damaged, err)
}

// reads opens a content, and reads and hashes a document.
func (b *backup) reads(ctx context.Context, d digest.Digest, size int64, document bool) (bool, error) {
	body, info, err := b.OpenBlob(ctx, d, 0)
	if err != nil {
		return false, err
	}
	v := d.Verifier()
	if document {
		_, err = io.Copy(v, io.LimitReader(body, size+1))
	}
	err = errors.Join(err, body.Close())
	return err == nil && info.Size == size && (!document || v.Verified()), err
}

func unless(yes bool, err error) error {
	if yes {
		return nil
	}
	return err
}

func matches(info bucket.Info, d digest.Digest) bool {
	return info.SHA256 == "" || d.Algorithm() != digest.SHA256 || info.SHA256 == d.Encoded()
}

// settleWrong says of what was wrong whether it is right now.
func (b *backup) settleWrong() {
	for d := range b.wrong {
		if name := b.NameOf(d); b.failed[d] != nil {
			b.damaged[name] = true
		} else {
			b.repaired[name] = true
		}
	}
}
