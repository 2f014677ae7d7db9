package vault

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/vault/layout"
)

// saveBeside stores what people said of the images, and the configuration.
func (b *backup) saveBeside(ctx context.Context, s *layout.Snapshot) error {
	facts, err := b.facts(ctx)
	if err != nil {
		return err
	}
	if len(facts) > 0 {
		data, err := layout.EncodeState(facts)
		if err == nil {
			s.State, err = b.beside(ctx, data)
		}
		if err != nil {
			return fmt.Errorf("protections and holds: %w", err)
		}
	}
	if len(b.settings) > 0 {
		if s.Config, err = b.beside(ctx, b.settings); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
	}
	return nil
}

func (b *backup) beside(ctx context.Context, data []byte) (*layout.Layer, error) {
	if len(data) > layout.StateMax {
		return nil, fmt.Errorf("%d bytes, where a vault takes %d", len(data), layout.StateMax)
	}
	doc := layout.Document{Desc: ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}, Data: data}
	return &layout.Layer{Digest: doc.Desc.Digest, Size: doc.Desc.Size}, b.put(ctx, doc)
}

// facts are what is said of repositories that are backed up.
func (b *backup) facts(ctx context.Context) (facts []layout.Fact, err error) {
	l := b.st.Ledger()
	for p, err := range l.Protections(ctx, "") {
		if err != nil {
			return nil, err
		}
		if b.includes(p.Repo) {
			facts = append(facts, layout.Fact{Protection: &p})
		}
	}
	for h, err := range l.TagHolds(ctx) {
		if err != nil {
			return nil, err
		}
		if b.includes(h.Repo) {
			facts = append(facts, layout.Fact{Hold: &h})
		}
	}
	return facts, nil
}
