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

// manifest looks at a manifest that the repository serves or should serve, and at
// all that it needs. desc is what is known of it; only the digest is needed.
func (e *exam) manifest(ctx context.Context, desc ocispec.Descriptor) error {
	d := desc.Digest
	if e.seen[d] {
		return nil
	}
	e.seen[d] = true
	m, whole, err := e.read(ctx, desc)
	if err != nil {
		return err
	}
	recorded, err := e.Ledger().Linked(ctx, e.repo, d)
	if err != nil {
		return err
	}
	e.use(m)
	if whole && recorded {
		e.edges.add(e.repo, m)
	}
	// What it needs comes first, so that it is mended first.
	if err := e.references(ctx, m, recorded); err != nil {
		return err
	}
	e.link(m, whole)
	if !whole {
		return nil
	}
	return e.record(ctx, m, recorded)
}

// read is a manifest as it is here, or else as the ledger knows it; whole tells.
func (e *exam) read(ctx context.Context, desc ocispec.Descriptor) (m mirror.Manifest, whole bool, err error) {
	known, raw, err := e.Manifest(ctx, "", desc.Digest)
	if !e.deep { // alone it keeps others waiting
		err = errors.Join(err, e.o.Pace.spend(ctx, len(raw)))
	}
	if err == nil {
		m, err = mirror.ParseManifest(known, raw)
		if err == nil {
			return m, true, nil
		}
	}
	if ctx.Err() != nil {
		return m, false, ctx.Err()
	}
	e.lacks = append(e.lacks, lack{store.Content{Descriptor: e.describe(ctx, desc), Manifest: true}, lackOf(err), err.Error()})
	m.Descriptor = desc
	m.Refs, err = e.Ledger().Children(ctx, desc.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return m, false, err
}

// describe adds what the ledger knows of a manifest.
func (e *exam) describe(ctx context.Context, desc ocispec.Descriptor) ocispec.Descriptor {
	// A manifest that the ledger does not know is fetched without that.
	if node, err := e.Ledger().Manifest(ctx, desc.Digest); err == nil {
		desc.MediaType, desc.Size = node.MediaType, node.Size
	}
	return desc
}

// lackOf is what seems to be wrong with content by the error of reading it.
func lackOf(err error) Kind {
	if errors.Is(err, fs.ErrNotExist) {
		return Missing
	}
	if errors.Is(err, layout.ErrDigest) {
		return Corrupt
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return Unreadable
	}
	return Malformed
}

func (e *exam) references(ctx context.Context, m mirror.Manifest, recorded bool) error {
	sparse := !recorded && e.servesAChild(m)
	for _, r := range m.Refs {
		switch {
		case r.Role != mirror.RoleChild:
			e.blob(ctx, m, r)
		case e.served(r.Digest):
		default:
			if err := e.child(ctx, r, sparse); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *exam) servesAChild(m mirror.Manifest) bool {
	for r := range m.Children() {
		if e.served(r.Digest) {
			return true
		}
	}
	return false
}

// child looks at a manifest that an index lists and that is not served. It may be
// left out on purpose: the ledger says so, or, of an index that it does not know,
// that other children are served.
func (e *exam) child(ctx context.Context, r mirror.Ref, sparse bool) error {
	absent, err := e.Ledger().Absent(ctx, e.repo, r.Digest)
	if err != nil || absent || sparse {
		return err
	}
	return e.manifest(ctx, r.Descriptor)
}

// blob looks at a config or a layer.
func (e *exam) blob(ctx context.Context, m mirror.Manifest, r mirror.Ref) {
	name := layout.Layer(e.repo, r.Digest)
	got, err := e.disk.Link(name)
	if r.Role == mirror.RoleForeign && errors.Is(err, fs.ErrNotExist) {
		return // it is kept elsewhere
	}
	here := e.holds(m, r)
	p := Problem{Kind: Unlinked, Digest: r.Digest, Path: name,
		Detail: fmt.Sprintf("manifest %s needs the %s: %s", m.Descriptor.Digest, r.Role, explainLink(got, err))}
	switch {
	case err == nil && got == r.Digest:
		return
	case err == nil, errors.Is(err, store.ErrLink):
		p.Kind = Malformed
	case !errors.Is(err, fs.ErrNotExist):
		p.Kind = Unreadable
	}
	if !here {
		e.fault(p, nil)
		return
	}
	e.fault(p, func(context.Context) error { return e.Relink(name, r.Digest) })
}

// holds reports whether content is here with the length that is said of it.
func (e *exam) holds(m mirror.Manifest, r mirror.Ref) bool {
	has, err := e.Disk().Has(r.Descriptor)
	if has {
		return true
	}
	l := lack{store.Content{Descriptor: r.Descriptor}, Missing, fmt.Sprintf("manifest %s needs the %s", m.Descriptor.Digest, r.Role)}
	info, statErr := e.disk.Stat(layout.Data(r.Digest))
	switch {
	case err != nil:
		l.kind, l.detail = Unreadable, err.Error()
	case statErr == nil && info.Size() < r.Size:
		l.kind, l.detail = Truncated, fmt.Sprintf("it has %d bytes of the %d that manifest %s says", info.Size(), r.Size, m.Descriptor.Digest)
	case statErr == nil:
		l.kind, l.detail = Corrupt, fmt.Sprintf("it has %d bytes and not the %d that manifest %s says", info.Size(), r.Size, m.Descriptor.Digest)
	}
	e.lacks = append(e.lacks, l)
	return false
}

// link looks at the link of a manifest.
func (e *exam) link(m mirror.Manifest, whole bool) {
	d := m.Descriptor.Digest
	name := layout.Revision(e.repo, d)
	got, err := e.disk.Link(name)
	if err == nil && got == d {
		return
	}
	p := Problem{Kind: Unlinked, Digest: d, Path: name, Detail: explainLink(got, err)}
	switch {
	case err == nil, errors.Is(err, store.ErrLink):
		p.Kind = Malformed
	case !errors.Is(err, fs.ErrNotExist):
		p.Kind = Unreadable
	}
	if !whole {
		e.fault(p, nil)
		return
	}
	e.fault(p, func(ctx context.Context) error { return e.Republish(ctx, e.repo, m) })
}

// record holds what the ledger knows of a manifest against the manifest.
func (e *exam) record(ctx context.Context, m mirror.Manifest, recorded bool) error {
	p := Problem{Kind: Unrecorded, Digest: m.Descriptor.Digest, Detail: "the ledger does not have the manifest in the repository"}
	mend := func(ctx context.Context) error {
		return e.Ledger().RecordGraph(ctx, e.repo, []mirror.Manifest{m}, nil)
	}
	if !recorded {
		if e.served(m.Descriptor.Digest) {
			e.fault(p, mend)
		}
		return nil
	}
	differs, err := e.differs(ctx, m)
	if err != nil || differs == "" {
		return err
	}
	p.Kind, p.Detail = Edges, differs
	e.fault(p, mend)
	return nil
}

// differs says how the ledger's record differs from the manifest; "".
func (e *exam) differs(ctx context.Context, m mirror.Manifest) (string, error) {
	d := m.Descriptor.Digest
	node, err := e.Ledger().Manifest(ctx, d)
	refs, err2 := e.Ledger().Children(ctx, d)
	err = errors.Join(err, err2)
	if errors.Is(err, fs.ErrNotExist) {
		return "the ledger has the manifest in the repository and does not know what it is", nil
	}
	if err != nil {
		return "", err
	}
	var subject digest.Digest
	if m.Subject != nil {
		subject = m.Subject.Digest
	}
	switch {
	case !slices.EqualFunc(refs, m.Refs, sameRef):
		return fmt.Sprintf("the ledger has %d references and the manifest %d, or other ones", len(refs), len(m.Refs)), nil
	case node.Size != m.Descriptor.Size || node.Subject != subject:
		return fmt.Sprintf("the ledger has it with %d bytes and subject %q", node.Size, node.Subject), nil
	}
	if subject != "" {
		if missing, err := e.lacksReferrer(ctx, subject, d); err != nil || missing {
			return "the ledger does not list it among the referrers of its subject", err
		}
	}
	if !e.deep {
		return "", nil
	}
	return e.lacksParent(ctx, m)
}

func sameRef(a, b mirror.Ref) bool {
	return a.Role == b.Role && a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType
}

func (e *exam) lacksReferrer(ctx context.Context, subject, d digest.Digest) (bool, error) {
	list, err := e.Ledger().Referrers(ctx, e.repo, subject)
	return !slices.ContainsFunc(list, func(r ocispec.Descriptor) bool { return r.Digest == d }), err
}

// lacksParent looks at the edges from their other end.
func (e *exam) lacksParent(ctx context.Context, m mirror.Manifest) (string, error) {
	for _, r := range m.Refs {
		parents, err := e.Ledger().Parents(ctx, r.Digest)
		if err != nil {
			return "", err
		}
		if !slices.Contains(parents, m.Descriptor.Digest) {
			return fmt.Sprintf("the ledger does not know that it refers to %s", r.Digest), nil
		}
	}
	for _, stray := range e.strays {
		parents, err := e.Ledger().Parents(ctx, stray)
		if err != nil {
			return "", err
		}
		if slices.Contains(parents, m.Descriptor.Digest) && !refersTo(m.Refs, stray) {
			return strayed + stray.String(), nil
		}
	}
	return "", nil
}

// strayed begins what is said of an edge too much. Only a rebuild removes it.
const strayed = "the ledger says that it refers to what it does not: "

func refersTo(refs []mirror.Ref, d digest.Digest) bool {
	return slices.ContainsFunc(refs, func(r mirror.Ref) bool { return r.Digest == d })
}
