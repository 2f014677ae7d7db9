package store

import (
	"context"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
)

var _ mirror.Memory = (*Store)(nil)

// bySync is who records what a sync saw.
const bySync = "sync"

// Known is when the upstream of repo was first seen to have d.
func (s *Store) Known(ctx context.Context, repo string, d digest.Digest) (time.Time, error) {
	return s.ledger.Known(ctx, repo, d)
}

// Asked is when the upstream was last asked for an immutable tag.
func (s *Store) Asked(ctx context.Context, repo, tag string) (time.Time, error) {
	return s.ledger.Asked(ctx, repo, tag)
}

// Remember records that now the upstream of repo was asked for tags, and was
// seen to have digests.
func (s *Store) Remember(ctx context.Context, repo string, asked []string, seen []digest.Digest) error {
	return s.ledger.RecordUpstream(ctx, repo, s.now(), asked, seen)
}

// Had is when a tag last left d; the zero time when it never was there, or is
// there now.
func (s *Store) Had(ctx context.Context, repo, tag string, d digest.Digest) (left time.Time, err error) {
	events, err := s.ledger.History(ctx, repo, tag)
	if err != nil {
		return time.Time{}, err
	}
	there := false
	for _, e := range events {
		if e.Digest == "" && e.Event != ledger.Removed {
			continue
		}
		if there && e.Digest != d {
			left = e.Time
		}
		there = e.Digest == d
	}
	if there {
		return time.Time{}, nil
	}
	return left, nil
}

// Mirrored yields the names of a repository's tags, ordered. It reads no links:
// a tag may be broken, or gone by now.
func (s *Store) Mirrored(ctx context.Context, repo string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := layout.CheckRepository(repo); err != nil {
			yield("", err)
			return
		}
		entries, err := s.tree.Entries(layout.Tags(repo))
		if err != nil {
			yield("", err)
			return
		}
		for _, e := range entries {
			if layout.CheckTag(e.Name()) == nil && !yield(e.Name(), nil) {
				return
			}
		}
	}
}

// Note records an event that moves no tag. One that the tag's newest event
// says already is not recorded again.
func (s *Store) Note(ctx context.Context, repo, tag, event, reason string) error {
	events, err := s.ledger.History(ctx, repo, tag)
	if err != nil {
		return err
	}
	if n := len(events); n > 0 && events[n-1].Event == event && events[n-1].Reason == reason {
		return nil
	}
	return s.ledger.RecordEvent(ctx, ledger.Event{Time: s.now(), Repo: repo, Tag: tag, Event: event, By: bySync, Reason: reason})
}

// Room is how many bytes the disk of the registry can take. It is for plans:
// what is free now may be gone when it is needed.
func (s *Store) Room(context.Context) (int64, error) { return s.tree.Room() }

// Retire removes a tag that the upstream has no more. What it pointed at stays
// and can be pulled by digest.
func (s *Store) Retire(ctx context.Context, repo, tag, reason string) error {
	return s.Untag(ctx, repo, tag, ledger.Event{By: bySync, Reason: reason})
}
