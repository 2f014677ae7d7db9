package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/retention"
	"lastro/store/ledger"
)

// protectionReport is a list of protections.
type protectionReport struct {
	Protections []shownProtection `json:"protections"`
}

type shownProtection struct {
	ledger.Protection
	Expired bool `json:"expired"`
}

func (s *site) shownProtections(all []ledger.Protection) []shownProtection {
	shown := []shownProtection{}
	for _, p := range all {
		shown = append(shown, shownProtection{p, !p.Active(s.now())})
	}
	return shown
}

// person is who typed the verb.
func (c *cli) person() string { return cmp.Or(c.user, "unknown") }

// protection is what a person wants to give to images.
func (c *cli) protection(name string, f protectFlags) (ledger.Protection, error) {
	if err := ledger.CheckProtectionName(name); err != nil {
		return ledger.Protection{}, usageError{err}
	}
	ends, err := c.ends(f)
	return ledger.Protection{Name: name, Owner: cmp.Or(f.owner, c.person()), Reason: f.reason, Expires: ends}, err
}

// protect gives p to images, when all of them are here.
func (s *site) protect(ctx context.Context, p ledger.Protection, refs []string) (report protectionReport, err error) {
	release, err := s.share(ctx)
	if err != nil {
		return report, err
	}
	defer release()
	var all []ledger.Protection
	for _, text := range refs {
		ref, err := s.heldReference(ctx, text)
		if err != nil {
			return report, err
		}
		p.Repo, p.Tag, p.Digest = ref.repo, ref.tag, ref.digest
		all = append(all, p)
	}
	for i, p := range all {
		if err := s.ledger().RecordProtection(ctx, p); err != nil {
			return report, err
		}
		held, err := s.ledger().ProtectionsOf(ctx, p.Repo, p.Digest)
		if err != nil {
			return report, err
		}
		j := slices.IndexFunc(held, func(o ledger.Protection) bool { return o.Name == p.Name })
		if j < 0 {
			return report, fmt.Errorf("protect %s@%s: somebody removed it at once", p.Repo, p.Digest)
		}
		all[i] = held[j]
	}
	return protectionReport{s.shownProtections(all)}, nil
}

// heldReference is a manifest that is here, and the tag that a person named.
func (s *site) heldReference(ctx context.Context, text string) (localRef, error) {
	ref, err := s.localReference(ctx, text)
	if err != nil {
		return ref, err
	}
	if ref.digest == "" {
		state, err := s.ledger().Tag(ctx, ref.repo, ref.tag)
		if err != nil {
			return ref, s.explainMissing(ctx, ref, time.Time{}, err)
		}
		ref.digest = state.Digest
	}
	if _, _, err := s.store.Manifest(ctx, ref.repo, ref.digest); err != nil {
		return ref, s.explainMissing(ctx, ref, time.Time{}, err)
	}
	return ref, nil
}

func (s *site) protections(ctx context.Context, name string) (protectionReport, error) {
	var all []ledger.Protection
	for p, err := range s.ledger().Protections(ctx, name) {
		if err != nil {
			return protectionReport{}, fmt.Errorf("protections in the ledger: %w", err)
		}
		all = append(all, p)
	}
	if len(all) == 0 && name != "" {
		return protectionReport{}, fmt.Errorf("nothing is protected as %q (see: lastro protect list)", name)
	}
	return protectionReport{s.shownProtections(all)}, nil
}

// unprotect takes a name from images, or from all that have it.
func (s *site) unprotect(ctx context.Context, name string, refs []string, by string) (protectionReport, error) {
	all, err := s.protections(ctx, name)
	if err != nil {
		return all, err
	}
	if len(refs) > 0 {
		if all.Protections, err = s.namedBy(ctx, all.Protections, refs); err != nil {
			return all, err
		}
	}
	for _, p := range all.Protections {
		if err := s.ledger().RemoveProtection(ctx, name, p.Repo, p.Digest, by); ignoreMissing(err) != nil {
			return all, err
		}
	}
	return all, nil
}

// namedBy are the protections that references mean.
func (s *site) namedBy(ctx context.Context, all []shownProtection, refs []string) (meant []shownProtection, err error) {
	for _, text := range refs {
		ref, err := s.localReference(ctx, text)
		if err != nil {
			return nil, err
		}
		at := ref.digest
		if at == "" {
			state, err := s.ledger().Tag(ctx, ref.repo, ref.tag)
			if ignoreMissing(err) != nil {
				return nil, err
			}
			at = state.Digest
		}
		found := false
		for _, p := range all {
			if p.Repo == ref.repo && (p.Digest == at || ref.digest == "" && p.Tag == ref.tag) {
				meant, found = append(meant, p), true
			}
		}
		if !found {
			return nil, fmt.Errorf("%s is not protected as %q (see: lastro protect list %s)", ref, all[0].Name, all[0].Name)
		}
	}
	return meant, nil
}

// activeProtections are the protections of a manifest that have not expired.
func (s *site) activeProtections(ctx context.Context, repo string, d digest.Digest) ([]ledger.Protection, error) {
	all, err := s.ledger().ProtectionsOf(ctx, repo, d)
	return slices.DeleteFunc(all, func(p ledger.Protection) bool { return !p.Active(s.now()) }), err
}

// protectedWith is a protection of a manifest itself, of one of whose image it is
// a part, or of one that it is attached to. Without one ok is false.
func (s *site) protectedWith(ctx context.Context, repo string, d digest.Digest) (p ledger.Protection, ok bool, err error) {
	seen := map[digest.Digest]bool{d: true}
	for todo := []digest.Digest{d}; len(todo) > 0; {
		d, todo = todo[0], todo[1:]
		active, err := s.activeProtections(ctx, repo, d)
		if err != nil || len(active) > 0 {
			return append(active, p)[0], err == nil, err
		}
		above, err := s.above(ctx, d)
		if err != nil {
			return p, false, err
		}
		for _, d := range above {
			if !seen[d] {
				seen[d], todo = true, append(todo, d)
			}
		}
	}
	return p, false, nil
}

// above are the manifests that refer to d, and the one that d is attached to.
func (s *site) above(ctx context.Context, d digest.Digest) ([]digest.Digest, error) {
	above, err := s.ledger().Parents(ctx, d)
	if err != nil {
		return nil, err
	}
	node, err := s.ledger().Manifest(ctx, d)
	if errors.Is(err, fs.ErrNotExist) {
		return above, nil
	}
	if node.Subject != "" {
		above = append(above, node.Subject)
	}
	return above, err
}

// shields are the protections of a tag, as retention sees them. One that was
// rolled back is protected until it is released, and what is attached to
// something is protected with it.
func (s *site) shields(ctx context.Context, repo, tag string, d digest.Digest) (all []retention.Protection, err error) {
	own, err := s.ledger().ProtectionsOf(ctx, repo, d)
	for _, p := range own {
		all = append(all, retention.Protection{Why: p.String(), Until: p.Expires})
	}
	if err != nil {
		return nil, err
	}
	held, err := s.heldBack(ctx, repo, tag)
	if held != "" {
		all = append(all, retention.Protection{Why: held})
	}
	subject, attached := mirror.AttachedTag(tag)
	if err != nil || !attached {
		return all, err
	}
	p, ok, err := s.protectedWith(ctx, repo, subject)
	if ok {
		all = append(all, retention.Protection{Why: fmt.Sprintf("attached to what is %s", p), Until: p.Expires})
	}
	return all, err
}

// addedProtections and removedProtections say in words what was done.
type (
	addedProtections   struct{ protectionReport }
	removedProtections struct{ protectionReport }
)

func (r addedProtections) Print(w io.Writer) error {
	for _, p := range r.Protections {
		if _, err := fmt.Fprintf(w, "%s is %s\n", p.image(), p); err != nil {
			return err
		}
	}
	return nil
}

func (r removedProtections) Print(w io.Writer) error {
	for _, p := range r.Protections {
		if _, err := fmt.Fprintf(w, "%s is no longer %s\n", p.image(), p); err != nil {
			return err
		}
	}
	return nil
}

func (p shownProtection) image() string {
	if p.Tag == "" {
		return fmt.Sprintf("%s@%s", p.Repo, p.Digest)
	}
	return fmt.Sprintf("%s:%s@%s", p.Repo, p.Tag, p.Digest)
}

// words say of an image what it is.
func (p shownProtection) words() string {
	if p.Expired {
		return "no longer " + p.String()
	}
	return p.String()
}

func (p shownProtection) end() string {
	switch {
	case p.Expires.IsZero():
		return "-"
	case p.Expired:
		return "expired " + stamp(p.Expires)
	}
	return stamp(p.Expires)
}

func (r protectionReport) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "NAME\tIMAGE\tOWNER\tCREATED\tUNTIL\tREASON\n")
	for _, p := range r.Protections {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.image(), p.Owner, stamp(p.Created), p.end(), cmp.Or(p.Reason, "-"))
	}
	return t.Flush()
}
