package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/ledger"
)

// rollback puts a tag back to d, or to what it was at a time. The hold comes
// first: a sync that looks after it leaves the tag alone, and one that looked
// before does not move a tag that has moved since.
func (s *site) rollback(ctx context.Context, text string, d digest.Digest, at time.Time, h ledger.TagHold) (back rolledBack, err error) {
	release, err := s.share(ctx)
	if err != nil {
		return back, err
	}
	defer release()
	ref, err := s.taggedReference(ctx, text)
	if err != nil {
		return back, err
	}
	if d == "" {
		state, err := s.ledger().At(ctx, ref.repo, ref.tag, at)
		if err != nil {
			return back, s.explainMissing(ctx, ref, at, err)
		}
		d = state.Digest
	}
	p, err := s.publication(ctx, ref.repo, d)
	if err != nil {
		return back, err
	}
	h.Repo, h.Tag, h.Digest, h.Since = ref.repo, ref.tag, d, s.now().UTC()
	p.Tag, p.Kind, p.By, p.Reason = ref.tag, ledger.RolledBack, h.By, h.Reason
	back.TagHold = h
	back.Previous, err = s.putBack(ctx, p, h)
	return back, err
}

// publication is an image that is here as a whole, to be published again.
func (s *site) publication(ctx context.Context, repo string, d digest.Digest) (p mirror.Publication, err error) {
	closure, err := s.store.Closure(ctx, repo, d)
	if err != nil {
		return p, fmt.Errorf("%s@%s does not read whole: %w\nto bring it back: lastro restore %s, or lastro check %s --repair", repo, d, err, repo, repo)
	}
	p.Repo = repo
	for _, content := range closure {
		if !content.Manifest {
			continue
		}
		m, err := s.parsed(ctx, repo, content.Descriptor)
		if err != nil {
			return p, err
		}
		p.Manifests = append(p.Manifests, m)
		if content.Digest == d {
			p.Root = content.Descriptor
		}
	}
	return p, nil
}

func (s *site) parsed(ctx context.Context, repo string, desc ocispec.Descriptor) (mirror.Manifest, error) {
	_, raw, err := s.store.Manifest(ctx, repo, desc.Digest)
	if err != nil {
		return mirror.Manifest{}, err
	}
	return mirror.ParseManifest(desc, raw)
}

// putBack holds the tag and then moves it. When it cannot be moved, what held it
// before does again.
func (s *site) putBack(ctx context.Context, p mirror.Publication, h ledger.TagHold) (previous digest.Digest, err error) {
	old, wasHeld, err := s.ledger().TagHold(ctx, h.Repo, h.Tag)
	if err != nil {
		return "", err
	}
	if err := s.ledger().RecordTagHold(ctx, h); err != nil {
		return "", err
	}
	published, err := s.store.Publish(ctx, p)
	if err != nil {
		return "", errors.Join(err, s.holdAgain(context.WithoutCancel(ctx), h, old, wasHeld))
	}
	if !published.Changed {
		err = s.ledger().RecordEvent(ctx, ledger.Event{Repo: h.Repo, Tag: h.Tag, Digest: h.Digest, Event: ledger.RolledBack, By: h.By, Reason: h.Reason})
	}
	return published.Previous, err
}

func (s *site) holdAgain(ctx context.Context, failed, old ledger.TagHold, wasHeld bool) error {
	if wasHeld {
		return s.ledger().RecordTagHold(ctx, old)
	}
	return s.ledger().RecordTagReleased(ctx, failed.Repo, failed.Tag, failed.By, "it could not be put back")
}

func (s *site) releaseTag(ctx context.Context, text, by, reason string) (released, error) {
	ref, err := s.taggedReference(ctx, text)
	if err != nil {
		return released{}, err
	}
	h, ok, err := s.ledger().TagHold(ctx, ref.repo, ref.tag)
	if err == nil && !ok {
		err = fmt.Errorf("%s is not held (see: lastro rollback --list)", ref)
	}
	if err == nil {
		err = s.ledger().RecordTagReleased(ctx, ref.repo, ref.tag, by, reason)
	}
	return released{h}, err
}

func (s *site) tagHolds(ctx context.Context) (heldTags, error) {
	held := heldTags{Held: []ledger.TagHold{}}
	for h, err := range s.ledger().TagHolds(ctx) {
		if err != nil {
			return held, fmt.Errorf("held tags in the ledger: %w", err)
		}
		held.Held = append(held.Held, h)
	}
	return held, nil
}

// heldBack tells a sync why a tag stays where it is, or "".
func (s *site) heldBack(ctx context.Context, repo, tag string) (reason string, err error) {
	h, ok, err := s.ledger().TagHold(ctx, repo, tag)
	if !ok {
		return "", err
	}
	return fmt.Sprintf("%s; to let it go: lastro rollback --release %s:%s", h, repo, tag), nil
}
