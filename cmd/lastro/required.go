package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/retention"
	"lastro/store/ledger"
)

// requirement knows which vaults hold what, for rules that require a backup. It
// is of one run: a vault is asked once who it is.
type requirement struct {
	site   *site
	rules  []retention.Compiled
	vaults map[string]string // by name, the id under which the ledger knows it; "": it did not answer
}

func (s *site) requirement(rules []retention.Compiled) *requirement {
	return &requirement{s, rules, map[string]string{}}
}

// of are the vaults that rules require for a repository, by name.
func (r *requirement) of(ctx context.Context, repo string) map[string]string {
	ids := map[string]string{}
	for _, name := range retention.Required(repo, r.rules) {
		if _, asked := r.vaults[name]; !asked {
			r.vaults[name] = r.id(ctx, name)
		}
		if id := r.vaults[name]; id != "" {
			ids[name] = id
		}
	}
	return ids
}

// id is empty for a vault that does not answer: nothing is known to be in it.
func (r *requirement) id(ctx context.Context, name string) string {
	v, err := r.site.vault(ctx, name)
	if err == nil {
		known, unread := v.HeldAs(ctx)
		if unread == nil {
			return known
		}
		err = unread
	}
	r.site.log.Warn("nothing that a rule requires to be in a vault goes: the vault does not say which one it is", "vault", name, "err", err)
	return ""
}

// backups are the vaults that hold all of an image: its closure, and what tags
// attach to any of it. What cannot be read is in none.
func (r *requirement) backups(ctx context.Context, repo string, d digest.Digest, ids map[string]string, attached map[digest.Digest][]digest.Digest) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	whole, err := r.site.everythingOf(ctx, repo, d, attached)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r.site.log.Warn("an image that a rule requires to be in a vault does not go: it does not read whole", "repo", repo, "digest", d, "err", err)
		return nil, nil
	}
	var names []string
	for name, id := range ids {
		held, err := r.site.ledger().Held(ctx, id, whole)
		if err != nil {
			return nil, err
		}
		if len(held) == len(whole) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// everythingOf is the closure of an image, with what tags attach to its
// manifests. Each digest is there once.
func (s *site) everythingOf(ctx context.Context, repo string, d digest.Digest, attached map[digest.Digest][]digest.Digest) ([]digest.Digest, error) {
	seen, done := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	var all []digest.Digest
	for todo := []digest.Digest{d}; len(todo) > 0; {
		d, todo = todo[0], todo[1:]
		if done[d] {
			continue
		}
		done[d] = true
		closure, err := s.store.Closure(ctx, repo, d)
		if err != nil {
			return nil, err
		}
		for _, content := range closure {
			if !seen[content.Digest] {
				seen[content.Digest], all = true, append(all, content.Digest)
				todo = append(todo, attached[content.Digest]...)
			}
		}
	}
	return all, nil
}

// attachedDigests are what tags attach, by what it is attached to.
func attachedDigests(tags []ledger.TagState) map[digest.Digest][]digest.Digest {
	all := map[digest.Digest][]digest.Digest{}
	for _, t := range tags {
		if subject, ok := mirror.AttachedTag(t.Tag); ok {
			all[subject] = append(all[subject], t.Digest)
		}
	}
	return all
}

// below are the manifests that an image leads to, itself left out.
func (s *site) below(ctx context.Context, repo string, d digest.Digest) (below []string, err error) {
	seen := map[digest.Digest]bool{d: true}
	for todo := []digest.Digest{d}; len(todo) > 0; {
		d, todo = todo[0], todo[1:]
		next, err := s.oneBelow(ctx, repo, d)
		if err != nil {
			return nil, err
		}
		for _, d := range next {
			if !seen[d] {
				seen[d], todo, below = true, append(todo, d), append(below, d.String())
			}
		}
	}
	return below, nil
}

// oneBelow are the manifests of an index, and the referrers of a manifest.
func (s *site) oneBelow(ctx context.Context, repo string, d digest.Digest) (next []digest.Digest, err error) {
	children, err := s.ledger().Children(ctx, d)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, child := range children {
		if child.Role == mirror.RoleChild {
			next = append(next, child.Digest)
		}
	}
	referrers, err := s.ledger().Referrers(ctx, repo, d)
	for _, r := range referrers {
		next = append(next, r.Digest)
	}
	return next, err
}
