package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/ledger"
	"lastro/store/vault/layout"
)

// AtOnce is how many objects are read or written at the same time.
const AtOnce = 8

// blob reads a small content whole and checks it. kind is what it is.
func (v *Catalog) blob(ctx context.Context, kind string, d digest.Digest, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("vault %s: %s %s: %d bytes, where at most %d are read: %w", v.Bucket, kind, d, size, limit, errBeyond)
	}
	r, info, err := v.OpenBlob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if info.Size != size {
		return nil, v.damaged(kind, d, fmt.Errorf("%d bytes, not %d", info.Size, size))
	}
	data, err := io.ReadAll(io.LimitReader(r, size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != size || d.Algorithm().FromBytes(data) != d {
		return nil, v.damaged(kind, d, errors.New("its bytes do not match its digest"))
	}
	return data, nil
}

func (v *Catalog) damaged(kind string, d digest.Digest, err error) error {
	return fmt.Errorf("vault %s: %s %s: %w: %w", v.Bucket, kind, d, layout.ErrDamaged, err)
}

// Manifest reads a manifest from the vault.
func (v *Catalog) Manifest(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, []byte, error) {
	raw, err := v.blob(ctx, "manifest", desc.Digest, desc.Size, mirror.MaxManifest)
	if err != nil {
		return mirror.Manifest{}, nil, err
	}
	m, err := v.parseManifest(desc, raw)
	if err != nil {
		return m, nil, v.damaged("manifest", desc.Digest, err)
	}
	return m, raw, nil
}

// parseManifest reads large ones one at a time: those of next to nothing but empty
// values take up forty times their length while they are read.
func (v *Catalog) parseManifest(desc ocispec.Descriptor, raw []byte) (mirror.Manifest, error) {
	if len(raw) > 1<<20 {
		v.large.Lock()
		defer v.large.Unlock()
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err == nil {
		err = checkDigests(m)
	}
	return m, err
}

// checkDigests refuses references that no store can follow.
func checkDigests(m mirror.Manifest) error {
	for _, r := range m.Refs {
		if err := layout.CheckDigest(r.Digest); err != nil {
			return err
		}
	}
	if m.Subject == nil {
		return nil
	}
	return layout.CheckDigest(m.Subject.Digest)
}

// ManifestNear prefers the store's own copy to the vault's.
func (v *Catalog) ManifestNear(ctx context.Context, st mirror.Destination, desc ocispec.Descriptor) (mirror.Manifest, error) {
	if _, raw, err := st.Manifest(ctx, "", desc.Digest); err == nil && int64(len(raw)) == desc.Size {
		if m, err := mirror.ParseManifest(desc, raw); err == nil {
			return m, nil
		}
	}
	m, _, err := v.Manifest(ctx, desc)
	return m, err
}

// Index reads an index of ours.
func (v *Catalog) Index(ctx context.Context, desc ocispec.Descriptor) (ocispec.Index, error) {
	data, err := v.blob(ctx, "index", desc.Digest, desc.Size, layout.MaxIndex)
	if err != nil {
		return ocispec.Index{}, err
	}
	idx, err := layout.ParseIndex(data)
	if err != nil {
		return idx, fmt.Errorf("vault %s: index %s: %w", v.Bucket, desc.Digest, err)
	}
	return idx, nil
}

// Events reads a segment of the history back.
func (v *Catalog) Events(ctx context.Context, s layout.Segment) ([]ledger.Event, error) {
	data, err := v.blob(ctx, "history", s.Digest, s.Size, layout.SegmentMax)
	if err != nil {
		return nil, err
	}
	var events []ledger.Event
	for e, err := range layout.ParseSegment(data) {
		if err != nil {
			return nil, fmt.Errorf("vault %s: history %s: %w", v.Bucket, s.Digest, err)
		}
		events = append(events, e)
	}
	if len(events) != s.Events {
		return nil, v.damaged("history", s.Digest, fmt.Errorf("%d events, not %d", len(events), s.Events))
	}
	return events, nil
}

// State reads what people said of images; nothing is fine.
func (v *Catalog) State(ctx context.Context, s layout.Snapshot) ([]layout.Fact, error) {
	if s.State == nil {
		return nil, nil
	}
	data, err := v.blob(ctx, "state", s.State.Digest, s.State.Size, layout.StateMax)
	if err != nil {
		return nil, err
	}
	facts, err := layout.ParseState(data)
	if err != nil {
		return nil, fmt.Errorf("vault %s: %s: %w", v.Bucket, s.State.Digest, err)
	}
	return facts, nil
}

// Configuration reads the configuration that a snapshot was made with; "" is none.
func (v *Catalog) Configuration(ctx context.Context, s layout.Snapshot) (string, error) {
	if s.Config == nil {
		return "", nil
	}
	data, err := v.blob(ctx, "configuration", s.Config.Digest, s.Config.Size, layout.StateMax)
	return string(data), err
}

// Damage tells what is wrong in the vault from a vault that cannot be reached.
func Damage(err error) (kind string, ok bool) {
	switch {
	case err == nil:
		return "", false
	case errors.Is(err, layout.ErrDamaged):
		return "corrupt", true
	case errors.Is(err, layout.ErrUntrusted):
		return "untrusted", true
	case errors.Is(err, fs.ErrNotExist):
		return "missing", true
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return "unreadable", true
	}
	return "", false
}

// Failure is an image that could not be taken along as it is.
type Failure struct {
	Repo   string        `json:"repo"`
	Tag    string        `json:"tag,omitempty"`
	Digest digest.Digest `json:"digest"`
	Error  string        `json:"error"`
	Kept   digest.Digest `json:"kept,omitempty"` // what a new snapshot has in its place, from the one before
}
