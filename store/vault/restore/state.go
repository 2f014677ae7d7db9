package restore

import (
	"context"
	"errors"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// state brings back what people said of the images that were meant to be restored.
// What is said here already counts more.
func (r *restore) state(ctx context.Context, choose selection) error {
	facts, err := r.State(ctx, r.plan.record)
	if _, bad := catalog.Damage(err); bad {
		r.report.Failed = append(r.report.Failed, catalog.Failure{Digest: r.plan.record.State.Digest, Error: "protections and holds: " + err.Error()})
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range facts {
		if err := r.fact(ctx, choose, f); err != nil {
			return err
		}
	}
	return nil
}

func (r *restore) fact(ctx context.Context, choose selection, f layout.Fact) error {
	switch {
	case f.Protection != nil && choose.repository(f.Protection.Repo):
		return r.protection(ctx, *f.Protection)
	case f.Hold != nil && choose.tag(f.Hold.Repo, f.Hold.Tag):
		return r.hold(ctx, *f.Hold)
	}
	return nil
}

// protection protects what is here, if it has not the name already.
func (r *restore) protection(ctx context.Context, p ledger.Protection) error {
	l := r.st.Ledger()
	if err := errors.Join(p.Check(), layout.CheckDigest(p.Digest)); err != nil {
		return r.refused(p.Repo, p.Tag, p.Digest, err)
	}
	here, err := l.Linked(ctx, p.Repo, p.Digest)
	if err != nil || !here {
		return err
	}
	all, err := l.ProtectionsOf(ctx, p.Repo, p.Digest)
	if err != nil {
		return err
	}
	for _, known := range all {
		if known.Name == p.Name {
			return nil
		}
	}
	return l.RecordProtection(ctx, p)
}

// hold holds a tag that is where the hold says, and not held here.
func (r *restore) hold(ctx context.Context, h ledger.TagHold) error {
	l := r.st.Ledger()
	if err := errors.Join(h.Check(), layout.CheckDigest(h.Digest)); err != nil {
		return r.refused(h.Repo, h.Tag, h.Digest, err)
	}
	_, held, err := l.TagHold(ctx, h.Repo, h.Tag)
	if err != nil || held {
		return err
	}
	at, err := r.st.Resolve(ctx, h.Repo, h.Tag)
	if errors.Is(err, fs.ErrNotExist) || err == nil && at != h.Digest {
		return nil
	}
	if err != nil {
		return err
	}
	return l.RecordTagHold(ctx, h)
}

// refused lists a fact that no ledger takes.
func (r *restore) refused(repo, tag string, d digest.Digest, err error) error {
	r.report.Failed = append(r.report.Failed, catalog.Failure{Repo: repo, Tag: tag, Digest: d, Error: err.Error()})
	return nil
}
