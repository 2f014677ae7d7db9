package verify

import (
	"context"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
	"lastro/store/vault/repair"
)

// unrepaired is damage and why it is there still.
type unrepaired struct{ found, why error }

func (u *unrepaired) Error() string { return u.found.Error() + "; not repaired: " + u.why.Error() }
func (u *unrepaired) Unwrap() error { return u.found }

// mend looks at something. If it is damaged, and repairs are wanted, it is repaired and
// looked at again: then there is no error, and the problem is noted.
func (r *verify) mend(ctx context.Context, d repair.Damaged, look func() error) error {
	found := look()
	kind, bad := catalog.Damage(found)
	if !bad || kind == "untrusted" || r.repairer == nil {
		return found
	}
	source, why := r.repairer.Repair(ctx, d)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if why == nil {
		why = look()
	}
	if why != nil {
		return &unrepaired{found, why}
	}
	if source != "" { // else it was right all the time
		r.note(Problem{Digest: d.Digest, Kind: kind, Images: []string{}, Error: found.Error(), Repaired: true, Source: source})
		r.Log.Warn("damage in the vault repaired", "vault", r.Name, "digest", d.Digest, "kind", kind, "source", source)
	}
	return nil
}

// small is a content of the vault's own: its size is that of what names it.
func small(d digest.Digest, size int64) repair.Damaged {
	return repair.Damaged{Content: repair.Content{Descriptor: ocispec.Descriptor{Digest: d, Size: size}}}
}

func recordOf(e layout.Entry) repair.Damaged {
	d := small(e.Digest, -1)
	d.Record = e.Record
	return d
}

func manifestOf(repo string, desc ocispec.Descriptor) repair.Damaged {
	return repair.Damaged{Content: repair.Content{Descriptor: desc, Manifest: true}, Repos: []string{repo}}
}

// blob is a content as the images need it.
func (n *need) blob() repair.Damaged {
	repos := map[string]bool{}
	for _, img := range n.images {
		repos[img.in.repo] = true
	}
	d := small(n.digest, n.size)
	d.Repos = slices.Sorted(maps.Keys(repos))
	return d
}

// doubt is what seems wrong with a blob that was not read. Where repairs are wanted it
// is read before anything is done about it.
func (r *verify) doubt(ctx context.Context, n *need, seems error) error {
	return r.found(n.digest, r.mend(ctx, n.blob(), func() error {
		if err := seems; err != nil {
			seems = nil
			return err
		}
		n.proof = read
		return r.hash(ctx, n.digest, n.size)
	}))
}
