package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
)

// Publish makes an image visible whose content was all ingested. The order is
// what makes a crash harmless, with a barrier at each semicolon: edges into the
// ledger; names of content, links of blobs; links of manifests (children
// first); the tag, the event. A manifest that was left out before is absent
// until its link is durable. Publishing what is there already records nothing.
// What a publication made visible is durable when it returns.
func (s *Store) Publish(ctx context.Context, p mirror.Publication) (mirror.Published, error) {
	published, err := s.publish(ctx, p)
	if err != nil {
		return published, fmt.Errorf("publish %s: local registry: %w", name(p), layout.Explain(err))
	}
	return published, nil
}

func name(p mirror.Publication) string {
	if p.Tag == "" {
		return p.Repo + "@" + p.Root.Digest.String()
	}
	return p.Repo + ":" + p.Tag
}

func (s *Store) publish(ctx context.Context, p mirror.Publication) (mirror.Published, error) {
	defer s.gates.enter(p.Repo)()
	before := s.sentences.gone.Load()
	s.tell(p)
	if err := s.checkPublication(ctx, p); err != nil {
		return mirror.Published{}, err
	}
	blobs, err := s.blobs(ctx, p)
	if err != nil {
		return mirror.Published{}, err
	}
	if err := s.record(ctx, p, before); err != nil {
		return mirror.Published{}, err
	}
	if err := s.link(ctx, p, blobs); err != nil {
		return mirror.Published{}, err
	}
	if err := s.endAbsence(ctx, p.Repo, slices.Concat(p.Absent, digests(p.Manifests))...); err != nil {
		return mirror.Published{}, err
	}
	return s.show(ctx, p)
}

// tell takes back what is condemned of what is published.
func (s *Store) tell(p mirror.Publication) {
	for _, m := range p.Manifests {
		s.sentences.tell(p.Repo, m.Descriptor.Digest, s.now)
		for _, r := range m.Refs {
			s.sentences.tell(p.Repo, r.Digest, s.now)
		}
	}
	if p.Tag == "" {
		s.sentences.put(ledger.Review{Held: ledger.Held{Repo: p.Repo, Digest: p.Root.Digest}, Told: s.now(), Due: s.now(), Root: true, Early: p.Kind == ledger.Pushed, Why: "it came without a tag"})
	}
}

// record is the moment from which on what the manifests refer to stays. What went, or
// is going, since it was looked for, because that took longer than a grace, or the clock
// jumped, is missed here.
func (s *Store) record(ctx context.Context, p mirror.Publication, before uint64) error {
	if err := s.ledger.RecordGraph(ctx, p.Repo, p.Manifests, p.Absent); err != nil {
		return err
	}
	if s.sentences.gone.Load() == before {
		return nil
	}
	err := s.checkPublication(ctx, p)
	if err == nil {
		_, err = s.blobs(ctx, p)
	}
	return err
}

// checkPublication refuses names that are none, and an image that is not here.
func (s *Store) checkPublication(ctx context.Context, p mirror.Publication) error {
	if err := layout.CheckRepository(p.Repo); err != nil {
		return err
	}
	if p.Tag != "" {
		if err := layout.CheckTag(p.Tag); err != nil {
			return err
		}
	}
	here := map[digest.Digest]bool{}
	for _, m := range p.Manifests {
		if has, err := s.Has(ctx, m.Descriptor); err != nil || !has {
			return errors.Join(fmt.Errorf("manifest %s is not stored", m.Descriptor.Digest), err)
		}
		for child := range m.Children() {
			if err := s.checkChild(ctx, p, child.Digest, here); err != nil {
				return fmt.Errorf("manifest %s of index %s: %w", child.Digest, m.Descriptor.Digest, err)
			}
		}
		here[m.Descriptor.Digest] = true
	}
	if !here[p.Root.Digest] {
		return fmt.Errorf("manifest %s is not among those to publish", p.Root.Digest)
	}
	return nil
}

// checkChild refuses an index before its children. A child may be published
// with it, be here from before, or be left out on purpose.
func (s *Store) checkChild(ctx context.Context, p mirror.Publication, d digest.Digest, here map[digest.Digest]bool) error {
	if here[d] || slices.Contains(p.Absent, d) {
		return nil
	}
	err := s.revision(p.Repo, d)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	absent, err := s.ledger.Absent(ctx, p.Repo, d)
	if err == nil && !absent {
		err = errors.New("it is not published, nor left out on purpose")
	}
	return err
}

// blobs are what an image's manifests refer to, and the repository is to serve.
func (s *Store) blobs(ctx context.Context, p mirror.Publication) (ds []digest.Digest, err error) {
	for _, m := range p.Manifests {
		for _, r := range m.Refs {
			if r.Role == mirror.RoleChild {
				continue
			}
			has, err := s.Has(ctx, r.Descriptor)
			if err != nil {
				return nil, err
			}
			switch {
			case has && s.mayLink(p, r):
				ds = append(ds, r.Digest)
			case !has && r.Role != mirror.RoleForeign:
				return nil, fmt.Errorf("%s %s of manifest %s is not stored", r.Role, r.Digest, m.Descriptor.Digest)
			}
		}
	}
	return ds, nil
}

// mayLink reports whether the repository may serve content that is held. A
// client that pushes could name as foreign what it may not pull elsewhere.
func (s *Store) mayLink(p mirror.Publication, r mirror.Ref) bool {
	return r.Role != mirror.RoleForeign || p.Kind != ledger.Pushed || s.linked(layout.Layer(p.Repo, r.Digest), r.Digest) == nil
}

// link lets the repository serve blobs and manifests by digest.
func (s *Store) link(ctx context.Context, p mirror.Publication, blobs []digest.Digest) error {
	if err := s.tree.Settle(slices.Concat(blobs, digests(p.Manifests))...); err != nil {
		return err
	}
	// distribution's collector needs the folder, in a repository of indexes only too.
	if err := s.tree.Folder(layout.Layers(p.Repo)); err != nil {
		return err
	}
	for _, d := range blobs {
		if err := s.tree.Link(layout.Layer(p.Repo, d), d); err != nil {
			return err
		}
	}
	return s.linkManifests(ctx, p)
}

func (s *Store) linkManifests(ctx context.Context, p mirror.Publication) error {
	// Who asks by digest sees a manifest from its link on: what it refers to
	// comes before it, in a power cut too.
	if err := s.tree.Barrier(); err != nil {
		return err
	}
	for _, m := range p.Manifests {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.tree.Link(layout.Revision(p.Repo, m.Descriptor.Digest), m.Descriptor.Digest); err != nil {
			return err
		}
	}
	return nil
}

func digests(ms []mirror.Manifest) (ds []digest.Digest) {
	for _, m := range ms {
		ds = append(ds, m.Descriptor.Digest)
	}
	return ds
}

// endAbsence takes the mark off every manifest that was left out and is served
// now, whoever linked it. The mark goes last: until then a crash leaves the
// image sparse as before.
func (s *Store) endAbsence(ctx context.Context, repo string, ds ...digest.Digest) error {
	var came []digest.Digest
	for _, d := range ds {
		absent, err := s.ledger.Absent(ctx, repo, d)
		if err != nil {
			return err
		}
		if absent && s.revision(repo, d) == nil {
			came = append(came, d)
		}
	}
	if len(came) == 0 {
		return nil
	}
	if err := s.tree.Barrier(); err != nil {
		return err
	}
	return s.ledger.RecordServed(ctx, repo, came...)
}

// show makes the manifests' links durable, and with a tag, that.
func (s *Store) show(ctx context.Context, p mirror.Publication) (mirror.Published, error) {
	if p.Tag == "" {
		if err := s.tree.Barrier(); err != nil {
			return mirror.Published{}, err
		}
		return mirror.Published{}, s.noteChecked(ctx, p)
	}
	return s.moveTag(ctx, p)
}

func (s *Store) moveTag(ctx context.Context, p mirror.Publication) (mirror.Published, error) {
	defer s.tags.lock(p.Repo + ":" + p.Tag)()
	previous, err := s.Resolve(ctx, p.Repo, p.Tag)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return mirror.Published{}, err
	}
	if previous == p.Root.Digest {
		// Its manifests may have come again, and referrers with them.
		if err := s.tree.Barrier(); err != nil {
			return mirror.Published{}, err
		}
		return mirror.Published{Previous: previous}, s.noteUnmoved(ctx, p)
	}
	if err := ctx.Err(); err != nil {
		return mirror.Published{}, err
	}
	if err := s.tree.LinkDurably(layout.Tag(p.Repo, p.Tag), p.Root.Digest); err != nil {
		return mirror.Published{}, err
	}
	// The tag has moved: from here on the record is due even if ctx ends.
	err = s.noteEvent(context.WithoutCancel(ctx), p, previous)
	return mirror.Published{Previous: previous, Changed: true}, err
}

// noteUnmoved records what a restore says of a tag that its history had
// already brought back, and the event of a tag that the ledger does not know.
func (s *Store) noteUnmoved(ctx context.Context, p mirror.Publication) error {
	known, err := s.ledger.Tag(ctx, p.Repo, p.Tag)
	if err == nil && known.Digest == p.Root.Digest {
		return s.noteChecked(ctx, p)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.noteEvent(ctx, p, known.Digest)
}

// noteChecked records that the upstream was asked for referrers, if it was.
// Until what it said is durable it is to be asked again.
func (s *Store) noteChecked(ctx context.Context, p mirror.Publication) error {
	if !p.Checked {
		return nil
	}
	return s.ledger.RecordReferrersChecked(ctx, p.Repo, s.now(), p.Root.Digest)
}

// noteEvent records the event, and that with it.
func (s *Store) noteEvent(ctx context.Context, p mirror.Publication, previous digest.Digest) error {
	if !p.Checked {
		return s.ledger.RecordEvent(ctx, s.event(p, previous))
	}
	return s.ledger.RecordPublished(ctx, s.event(p, previous))
}

func (s *Store) event(p mirror.Publication, previous digest.Digest) ledger.Event {
	kind := p.Kind
	switch {
	case kind == "" && previous == "":
		kind = ledger.Seen
	case kind == "":
		kind = ledger.Moved
	}
	return ledger.Event{Time: s.now(), Repo: p.Repo, Tag: p.Tag, Digest: p.Root.Digest, Previous: previous, Event: kind, By: p.By, Reason: p.Reason}
}

// Untag removes a tag, durably, and then records e as its removal. A tag that
// is neither on disk nor in the ledger is fs.ErrNotExist.
func (s *Store) Untag(ctx context.Context, repo, tag string, e ledger.Event) error {
	if err := s.untag(ctx, repo, tag, e); err != nil {
		return fmt.Errorf("untag %s:%s: local registry: %w", repo, tag, layout.Explain(err))
	}
	return nil
}

func (s *Store) untag(ctx context.Context, repo, tag string, e ledger.Event) error {
	defer s.tags.lock(repo + ":" + tag)()
	previous, err := s.Resolve(ctx, repo, tag)
	if errors.Is(err, fs.ErrNotExist) {
		// An earlier call may have removed it and failed to say so.
		known, lerr := s.ledger.Tag(ctx, repo, tag)
		previous, err = known.Digest, lerr
	}
	if err != nil {
		return err
	}
	if err := s.tree.Remove(path.Join(layout.Tags(repo), tag)); err != nil {
		return err
	}
	e.Time, e.Repo, e.Tag, e.Digest, e.Previous, e.Event = s.now(), repo, tag, "", previous, ledger.Removed
	return s.ledger.RecordEvent(context.WithoutCancel(ctx), e)
}

// tagLocks lets one writer at a time move a tag.
type tagLocks struct {
	stripes [64]sync.Mutex
}

func (l *tagLocks) lock(name string) (unlock func()) {
	m := &l.stripes[stripe(name)%uint32(len(l.stripes))]
	m.Lock()
	return m.Unlock
}

// stripe spreads names.
func stripe(name string) uint32 {
	var h uint32 = 2166136261
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h
}
