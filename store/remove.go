package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/ledger"
)

// Told writes to the ledger what of the condemned somebody was told is here since,
// and what came without anything that needs it. Close does so, too. complete is
// false when there was more than memory may take: then a survey is due.
func (s *Store) Told(ctx context.Context) (complete bool, err error) {
	s.sentences.mu.Lock()
	over := s.sentences.over
	s.sentences.over = false
	s.sentences.mu.Unlock()
	err = s.sentences.flush(ctx, s.ledger)
	if over && err != nil {
		s.sentences.mu.Lock()
		s.sentences.over = true
		s.sentences.mu.Unlock()
	}
	return !over, err
}

// TakenBack is how often since Open somebody asked for what was condemned.
func (s *Store) TakenBack() uint64 { return s.sentences.back.Load() }

// Condemn records answers to reviews, see [ledger.Ledger.RecordAnswers]. What it
// condemns is served as before, and whoever asks for it takes it back. What time
// went by since they were condemned is added to when they are due: whoever was told
// meanwhile is not known.
func (s *Store) Condemn(ctx context.Context, answers []ledger.Review, now time.Time) ([]ledger.Review, error) {
	var added []ledger.Held
	for _, a := range answers {
		if a.State == ledger.Condemned && s.sentences.add(a.Held) {
			added = append(added, a.Held)
		}
	}
	condemned, err := s.ledger.RecordAnswers(ctx, s.postponed(answers), now)
	is := map[ledger.Held]bool{}
	for _, r := range condemned {
		is[r.Held] = true
	}
	for _, h := range added {
		if !is[h] && err == nil {
			s.sentences.drop(h)
		}
	}
	return condemned, err
}

// postponed are answers with the condemned condemned as of this moment.
func (s *Store) postponed(answers []ledger.Review) []ledger.Review {
	answers, now := slices.Clone(answers), s.now()
	for i, a := range answers {
		if late := now.Sub(a.Since); a.State == ledger.Condemned && late > 0 {
			answers[i].Since, answers[i].Due = now, a.Due.Add(late)
		}
	}
	return answers
}

// ErrNoMore says that what was condemned is so no more.
var ErrNoMore = errors.New("it is condemned no more: it is gone, or something needs it after all")

// TakeBack takes a condemned digest back, in every repository and its content, and
// says in which: "" is the content. What is not condemned is in none. What is being
// removed is waited for, and is in none either; when that was all it is [ErrNoMore].
func (s *Store) TakeBack(ctx context.Context, d digest.Digest) (repos []string, err error) {
	repos, late := s.sentences.tellAll(d, s.now)
	if late {
		return nil, fmt.Errorf("take %s back: %w", d, ErrNoMore)
	}
	_, err = s.Told(ctx)
	return repos, err
}

// Spare takes back what is condemned because of something that the ledger does not
// know. It stays for a grace, and is asked about again then.
func (s *Store) Spare(ctx context.Context, h ledger.Held) error {
	s.sentences.spare(h, s.now())
	return s.sentences.flush(ctx, s.ledger)
}

// Hold keeps everything that is here from going until it is released. Whoever
// reads an image for long holds.
func (s *Store) Hold() (release func()) {
	s.holds.RLock()
	return s.holds.RUnlock
}

// Removed is what became of one digest that was to go.
type Removed struct {
	ledger.Held
	Size int64  // of content
	Part bool   // it went with something that it was a part of, or with its links
	Why  string // it was condemned
	Err  error  // it stays as it is, or goes the next time
}

// RemoveLinks takes what is condemned and due out of repositories. Each was looked at
// once more before, in the ledger's transaction that says that it goes, while nobody
// publishes into its repository. Whoever asks for it from then on waits until it is
// gone: for all of hs, which should be few, and share two transactions. What somebody
// was told of after asked stays, and is not in gone. What is in gone without an Err is
// gone even with an error, which says that the ledger does not know of it yet.
func (s *Store) RemoveLinks(ctx context.Context, hs []ledger.Held, now, asked time.Time) (gone []Removed, err error) {
	repos := map[string]bool{}
	for _, h := range hs {
		repos[h.Repo] = true
	}
	return s.remove(ctx, hs, now, asked, func(doom func() ([]ledger.Review, error)) ([]ledger.Review, error) {
		// Who began before has ended, and who begins after finds what is claimed.
		defer s.gates.shut(slices.Collect(maps.Keys(repos))...)()
		return doom()
	})
}

// RemoveContents is RemoveLinks for what is held without a repository: content, which
// it takes off the disk.
func (s *Store) RemoveContents(ctx context.Context, hs []ledger.Held, now, asked time.Time) (gone []Removed, err error) {
	return s.remove(ctx, hs, now, asked, func(doom func() ([]ledger.Review, error)) ([]ledger.Review, error) {
		// Links are gone for good before what they point at.
		if err := s.tree.Barrier(); err != nil {
			return nil, err
		}
		return doom()
	})
}

// remove takes away those of hs that go, unless somebody reads. last calls doom, which
// claims them and records that they go.
func (s *Store) remove(ctx context.Context, hs []ledger.Held, now, asked time.Time, last func(doom func() ([]ledger.Review, error)) ([]ledger.Review, error)) (gone []Removed, err error) {
	if !s.holds.TryLock() {
		return nil, nil // the next time
	}
	defer s.holds.Unlock()
	s.taking.Lock()
	defer s.taking.Unlock()
	var claimed []ledger.Held
	// After a panic, too: nobody waits for ever.
	defer func() { s.sentences.release(claimed) }()
	deleting, err := last(func() ([]ledger.Review, error) {
		claimed = s.sentences.claim(hs)
		return s.ledger.RecordDeleting(ctx, claimed, now, asked)
	})
	if err != nil {
		return nil, err
	}
	defer s.sentences.settleAll(ctx, s.ledger, claimed)
	return s.takeAll(ctx, deleting, now)
}

// takeAll stops when ctx ends: what it began to take is gone and recorded then, and the
// rest goes the next time.
func (s *Store) takeAll(ctx context.Context, deleting []ledger.Review, now time.Time) (gone []Removed, err error) {
	var hs []ledger.Held
	for _, r := range deleting {
		size, err := s.take(context.WithoutCancel(ctx), r.Held)
		if err != nil {
			err = fmt.Errorf("remove %s: local registry: %w", r.Held, layout.Explain(err))
		} else {
			hs = append(hs, r.Held)
		}
		gone = append(gone, Removed{r.Held, size, !r.ForItself(), r.Why, err})
		if ctx.Err() != nil {
			break
		}
	}
	if err := s.ledger.RecordDeleted(context.WithoutCancel(ctx), hs, now); err != nil {
		return gone, err
	}
	for _, h := range hs {
		s.sentences.forget(h)
	}
	return gone, nil
}

func (s *Store) take(ctx context.Context, h ledger.Held) (size int64, err error) {
	if h.Repo == "" {
		return s.takeContent(h.Digest)
	}
	for _, link := range []string{layout.Revision(h.Repo, h.Digest), layout.Layer(h.Repo, h.Digest)} {
		if err := s.tree.Drop(path.Dir(link)); err != nil {
			return 0, err
		}
	}
	return 0, s.untagAttached(ctx, h)
}

func (s *Store) takeContent(d digest.Digest) (size int64, err error) {
	info, err := s.tree.Stat(layout.Data(d))
	if err == nil {
		size = info.Size()
	}
	if err := ignoreGone(err); err != nil {
		return 0, err
	}
	return size, s.tree.Drop(path.Dir(layout.Data(d)))
}

// untagAttached removes the tags that are named after a manifest that is gone:
// signatures, attestations, and the list of its referrers. It asks the ledger, and
// not whether the manifest was here: a crash may have come in between, or a client
// that removed it.
func (s *Store) untagAttached(ctx context.Context, h ledger.Held) error {
	name := strings.Replace(h.Digest.String(), ":", "-", 1)
	for _, tag := range []string{name, name + ".sig", name + ".att", name + ".sbom"} {
		_, err := s.ledger.Tag(ctx, h.Repo, tag)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = s.untag(ctx, h.Repo, tag, ledger.Event{By: "collect", Reason: "what it is about is gone: " + h.Digest.String()})
		}
		if err := ignoreGone(err); err != nil {
			return err
		}
	}
	return nil
}
