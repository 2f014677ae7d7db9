package vault

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/catalog"
	"lastro/store/vault/seal"
)

// What keeps a vault from being used that is sealed.
var (
	ErrNoIdentity = seal.ErrNoIdentity // it can be written to, and not read
	ErrOthers     = seal.ErrOthers     // the identity is none of its recipients
)

// unreadable tells what is wrong in the vault, or that nobody here may read it.
func unreadable(err error) (kind string, ok bool) {
	if errors.Is(err, ErrNoIdentity) {
		return "encrypted", true
	}
	return catalog.Damage(err)
}

// bad tells whether a content is damaged in the vault, and not to be repaired from here.
func (b *backup) bad(d digest.Digest) bool { return len(b.damaged) > 0 && b.damaged[b.NameOf(d)] }

// digestsOf finds out which contents of the store a vault calls so. In one that is not
// sealed these are the same.
func (b *backup) digestsOf(ctx context.Context, names map[digest.Digest]bool) (map[digest.Digest]digest.Digest, error) {
	found := map[digest.Digest]digest.Digest{}
	if b.Sealed == nil || len(names) == 0 {
		for name := range names {
			found[name] = name
		}
		return found, nil
	}
	try := func(d digest.Digest) {
		if name := b.NameOf(d); names[name] {
			found[name] = d
		}
	}
	l := b.st.Ledger()
	for repo, err := range l.Repositories(ctx) {
		if err != nil {
			return nil, err
		}
		for d, err := range l.Links(ctx, repo) {
			if err != nil {
				return nil, err
			}
			try(d)
			refs, err := l.Children(ctx, d)
			if err != nil {
				return nil, err
			}
			for _, r := range refs {
				try(r.Digest)
			}
		}
	}
	return found, nil
}
