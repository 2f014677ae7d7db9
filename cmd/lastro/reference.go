package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/ledger"
)

// localRef is an image of the local registry as a person named it.
type localRef struct {
	repo, tag string
	digest    digest.Digest
}

func (r localRef) String() string {
	if r.tag == "" {
		return fmt.Sprintf("%s@%s", r.repo, r.digest)
	}
	return r.repo + ":" + r.tag
}

// taggedReference is localReference for verbs that speak of a tag; a missing
// tag is "latest", as in every client.
func (s *site) taggedReference(ctx context.Context, text string) (localRef, error) {
	ref, err := s.localReference(ctx, text)
	if err != nil {
		return ref, err
	}
	if ref.digest != "" {
		return ref, usageError{fmt.Errorf("%q names a digest: give a tag, and no digest", text)}
	}
	return ref, nil
}

// localReference finds the repository that a person means: its name in the
// local registry, with or without the registry's address, or the name of the
// upstream image that a rule copies there.
func (s *site) localReference(ctx context.Context, text string) (localRef, error) {
	found, candidates, err := s.candidates(text)
	if err != nil {
		return found, err
	}
	for _, found.repo = range candidates {
		if s.holdsRepository(ctx, found.repo) || s.heardOf(ctx, found) {
			return found, nil
		}
	}
	found.repo = candidates[0]
	return found, nil
}

// candidates reads what a person typed: the image, without its repository, and
// the local repositories that may be meant.
func (s *site) candidates(text string) (image localRef, repositories []string, err error) {
	text = strings.TrimPrefix(text, s.cfg().Registry.Listen+"/")
	ref, err := mirror.ParseReference(text)
	if err != nil {
		return image, nil, usageError{err}
	}
	image = localRef{tag: ref.Tag, digest: ref.Digest}
	if image.tag == "" && image.digest == "" {
		image.tag = "latest"
	}
	return image, append([]string{ref.Local(), typedRepository(text)}, s.mirroredAs(ref)...), nil
}

// typedRepository is text without tag and digest, for repositories whose local
// name is not an upstream's.
func typedRepository(text string) string {
	text, _, _ = strings.Cut(text, "@")
	if i := strings.LastIndexByte(text, ':'); i > strings.LastIndexByte(text, '/') {
		text = text[:i]
	}
	return text
}

// mirroredAs lists where rules put an upstream repository.
func (s *site) mirroredAs(ref mirror.Reference) []string {
	var names []string
	for _, m := range s.cfg().Mirror {
		if name, ok := m.Rule.LocalName(ref); ok {
			names = append(names, name)
		}
	}
	return names
}

func (s *site) holdsRepository(ctx context.Context, repo string) bool {
	for _, err := range s.ledger().Tags(ctx, repo) {
		return err == nil
	}
	return false
}

// heardOf reports whether the history speaks of a tag, which may never have
// been here: it may be held back.
func (s *site) heardOf(ctx context.Context, ref localRef) bool {
	events, err := s.ledger().History(ctx, ref.repo, ref.tag)
	return err == nil && ref.tag != "" && len(events) > 0
}

// explainMissing turns "does not exist" into what a person can act on.
func (s *site) explainMissing(ctx context.Context, ref localRef, at time.Time, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", ref, err)
	}
	events, _ := s.ledger().History(ctx, ref.repo, ref.tag)
	switch {
	case len(events) > 0 && !at.IsZero() && at.Before(events[0].Time):
		return fmt.Errorf("%s was not known here at %s: the ledger begins with %s", ref, stamp(at), stamp(events[0].Time))
	case len(events) > 0 && lastMove(events).Event == "":
		last := events[len(events)-1]
		return fmt.Errorf("%s was never here: %s (%s)", ref, last.Event, last.Reason)
	case len(events) > 0:
		last := lastMove(events)
		return fmt.Errorf("%s does not exist: it was %s at %s by %s (%s)", ref, last.Event, stamp(last.Time), last.By, last.Reason)
	case s.holdsRepository(ctx, ref.repo):
		return fmt.Errorf("%s: the local registry has the repository but not the tag (see: lastro list %s)", ref, ref.repo)
	}
	return fmt.Errorf("%s: the local registry has no such repository (see: lastro list)", ref)
}

// ledger is the site's record of what happened.
func (s *site) ledger() *ledger.Ledger { return s.store.Ledger() }
