package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/layout"
)

// unitKey names one thing of a repository that is looked at by itself.
type unitKey struct {
	what   unitKind
	repo   string
	tag    string
	digest digest.Digest
}

type unitKind int

const (
	tagUnit      unitKind = iota // a tag, on disk or in the ledger
	manifestUnit                 // a manifest's link on disk
	recordUnit                   // a manifest that the ledger has in the repository
	layerUnit                    // a blob's link on disk
)

// unit is such a thing with what was learned about it.
type unit struct {
	unitKey
	needed bool            // something refers to it
	strays []digest.Digest // what the ledger says that it refers to, and it does not
}

// fault is a problem with what mends it, in [store.Store.Quiet]; nil: nothing does.
type fault struct {
	Problem
	mend func(context.Context) error
}

// lack is content that seems missing or wrong.
type lack struct {
	store.Content
	kind   Kind
	detail string
}

// exam is one look at a unit.
type exam struct {
	*check
	unit
	deep   bool                   // looks at the ledger's edges from the other end too
	seen   map[digest.Digest]bool // manifests
	uses   map[digest.Digest]bool // what they refer to
	faults []fault
	lacks  []lack
}

// examine looks at a unit. Its error is the ledger's, or ctx's.
func (c *check) examine(ctx context.Context, u unit, deep bool) (*exam, error) {
	e := &exam{check: c, unit: u, deep: deep, seen: map[digest.Digest]bool{}}
	if err := ctx.Err(); err != nil {
		return e, err
	}
	switch u.what {
	case tagUnit:
		return e, e.lookAtTag(ctx)
	case manifestUnit:
		return e, e.lookAtManifest(ctx)
	case recordUnit:
		return e, e.lookAtRecord(ctx)
	}
	e.lookAtLayer()
	return e, nil
}

func (e *exam) clean() bool { return len(e.faults) == 0 && len(e.lacks) == 0 }

func (e *exam) fault(p Problem, mend func(context.Context) error) {
	p.Repo = e.repo
	e.faults = append(e.faults, fault{p, mend})
}

// lookAtTag looks at a tag, and at its manifest unless that is served: then it is a
// unit of its own.
func (e *exam) lookAtTag(ctx context.Context) error {
	known, err := e.Ledger().Tag(ctx, e.repo, e.tag)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	name := layout.Tag(e.repo, e.tag)
	at, err := e.disk.Link(name)
	p := Problem{Tag: e.tag, Digest: known.Digest, Path: name}
	back := e.relinkTag(name, known.Digest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e.lostTag(ctx, p, err, back)
	case errors.Is(err, store.ErrLink):
		p.Kind, p.Detail = Malformed, err.Error()
		e.fault(p, back)
		return nil
	case err != nil:
		p.Kind, p.Detail = Unreadable, err.Error()
		e.fault(p, nil)
		return nil
	case at == known.Digest && e.served(at):
		return nil
	case at != known.Digest:
		return e.movedTag(ctx, p, at, back)
	}
	return e.manifest(ctx, ocispec.Descriptor{Digest: at})
}

// lostTag is a tag without a link.
func (e *exam) lostTag(ctx context.Context, p Problem, err error, back func(context.Context) error) error {
	if p.Digest == "" {
		if errors.Is(err, store.ErrEmptyLink) {
			p.Kind, p.Detail = Dangling, "the tag's link is empty, and the ledger does not know the tag"
			e.fault(p, e.dropLink(p.Path))
		}
		return nil
	}
	if !e.served(p.Digest) {
		if err := e.manifest(ctx, ocispec.Descriptor{Digest: p.Digest}); err != nil {
			return err
		}
	}
	p.Kind, p.Detail = Vanished, fmt.Sprintf("the ledger has the tag at %s, and its link is lost or empty", p.Digest)
	e.fault(p, back)
	return nil
}

// movedTag is a tag whose link and whose record differ. The registry says what is,
// unless it says what it does not serve.
func (e *exam) movedTag(ctx context.Context, p Problem, at digest.Digest, back func(context.Context) error) error {
	if e.served(at) {
		previous := p.Digest
		p.Kind, p.Digest, p.Detail = Unrecorded, at, "the ledger does not know the tag"
		if previous != "" {
			p.Detail = fmt.Sprintf("the tag is at %s, and the ledger has it at %s", at, previous)
		}
		e.fault(p, func(ctx context.Context) error { return e.AdoptTag(ctx, e.repo, e.tag, at, previous) })
		return nil
	}
	// A tag moves to what the ledger knows in the repository. Other content is none
	// of it, though it may be here.
	linked, err := e.Ledger().Linked(ctx, e.repo, at)
	if err != nil {
		return err
	}
	if _, err := e.disk.Stat(layout.Data(at)); p.Digest != "" && (!linked || e.served(p.Digest) || errors.Is(err, fs.ErrNotExist)) {
		if !e.served(p.Digest) {
			if err := e.manifest(ctx, ocispec.Descriptor{Digest: p.Digest}); err != nil {
				return err
			}
		}
		p.Kind, p.Detail = Malformed, fmt.Sprintf("the tag's link says %s, which is not served, and the ledger has it at %s", at, p.Digest)
		e.fault(p, back)
		return nil
	}
	return e.manifest(ctx, ocispec.Descriptor{Digest: at})
}

// relinkTag puts a tag back to where the ledger has it.
func (e *exam) relinkTag(name string, d digest.Digest) func(context.Context) error {
	if d == "" {
		return nil
	}
	return func(context.Context) error {
		if !e.served(d) {
			return fmt.Errorf("%s is not served", d)
		}
		return e.Relink(name, d)
	}
}

func (e *exam) dropLink(name string) func(context.Context) error {
	return func(context.Context) error { return e.DropLink(name) }
}

// served reports whether the repository's link of a manifest is whole.
func (e *exam) served(d digest.Digest) bool {
	got, err := e.disk.Link(layout.Revision(e.repo, d))
	return err == nil && got == d
}

// lookAtManifest looks at a manifest whose folder is in the repository. What is
// not served and is needed is looked at with what needs it.
func (e *exam) lookAtManifest(ctx context.Context) error {
	name := layout.Revision(e.repo, e.digest)
	got, err := e.disk.Link(name)
	if err == nil && got == e.digest {
		return e.manifest(ctx, ocispec.Descriptor{Digest: e.digest})
	}
	if e.needed || errors.Is(err, fs.ErrNotExist) && !errors.Is(err, store.ErrEmptyLink) {
		return nil
	}
	p := Problem{Digest: e.digest, Path: name, Detail: explainLink(got, err)}
	switch {
	case errors.Is(err, store.ErrEmptyLink):
		p.Kind = Dangling
		e.fault(p, e.dropLink(name))
	case err == nil, errors.Is(err, store.ErrLink):
		return e.manifest(ctx, ocispec.Descriptor{Digest: e.digest})
	default:
		p.Kind = Unreadable
		e.fault(p, nil)
	}
	return nil
}

// lookAtRecord looks at a manifest that the ledger has in the repository.
func (e *exam) lookAtRecord(ctx context.Context) error {
	linked, err := e.Ledger().Linked(ctx, e.repo, e.digest)
	if err != nil || !linked || e.served(e.digest) || e.needed {
		return err
	}
	if _, err := e.disk.Link(layout.Revision(e.repo, e.digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // its link is looked at by itself
	}
	p := Problem{Kind: Vanished, Digest: e.digest, Path: layout.Revision(e.repo, e.digest),
		Detail: "the ledger has the manifest in the repository, which does not serve it"}
	e.fault(p, e.endRecord)
	return e.blobsOfRecord(ctx)
}

// blobsOfRecord looks at the blobs of a manifest that only the ledger knows. When
// its bytes are gone as well that is no loss: its removal was cut short.
func (e *exam) blobsOfRecord(ctx context.Context) error {
	m, _, err := e.read(ctx, descriptor(e.digest))
	e.lacks = slices.DeleteFunc(e.lacks, func(l lack) bool { return l.kind == Missing })
	for _, r := range m.Refs {
		if r.Role != mirror.RoleChild {
			e.blob(ctx, m, r)
		}
	}
	return err
}

// endRecord serves a manifest again that only the ledger knows, or, when it is not
// here at all, says that it went.
func (e *exam) endRecord(ctx context.Context) error {
	desc, raw, err := e.Manifest(ctx, "", e.digest)
	if errors.Is(err, fs.ErrNotExist) {
		return e.Ledger().RecordUnlinked(ctx, e.repo, e.digest)
	}
	if err != nil {
		return err
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return err
	}
	return e.Republish(ctx, e.repo, m)
}

// lookAtLayer looks at a blob's link. One that is needed is looked at with what
// needs it.
func (e *exam) lookAtLayer() {
	if e.needed {
		return
	}
	name := layout.Layer(e.repo, e.digest)
	got, err := e.disk.Link(name)
	p := Problem{Digest: e.digest, Path: name, Detail: explainLink(got, err)}
	_, statErr := e.disk.Stat(layout.Data(e.digest))
	switch {
	case errors.Is(err, store.ErrEmptyLink):
		p.Kind = Dangling
		e.fault(p, e.dropLink(name))
	case errors.Is(err, fs.ErrNotExist):
	case err != nil && !errors.Is(err, store.ErrLink):
		p.Kind = Unreadable
		e.fault(p, nil)
	case err == nil && got == e.digest && errors.Is(statErr, fs.ErrNotExist):
		p.Kind, p.Detail = Dangling, "the blob is not here, and no manifest of the repository needs it"
		e.fault(p, e.dropLink(name))
	case err == nil && got == e.digest:
	default:
		p.Kind = Malformed
		e.fault(p, e.mendLayer(name, statErr == nil))
	}
}

func (e *exam) mendLayer(name string, here bool) func(context.Context) error {
	if !here {
		return e.dropLink(name)
	}
	return func(context.Context) error { return e.Relink(name, e.digest) }
}

func explainLink(got digest.Digest, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the link says %s", got)
}
