package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"lastro/store/vault/layout"
)

// ErrLost says that what a vault says of itself is lost or damaged. To read, something
// else stands in for it; to remove, nothing does.
var ErrLost = errors.New("nothing is removed by what stands in for it: run `lastro backup` first, which writes it again, and look at `lastro backup list`")

// Stored is the config and the commit point as they lie in the vault, and an etag to
// swap the commit point from; ErrNoVault, ErrLost. It is for those who remove.
func (v *Catalog) Stored(ctx context.Context) (layout.Config, layout.Head, string, error) {
	c, lost, err := v.config(ctx)
	if err == nil && lost {
		err = fmt.Errorf("vault %s: %s: %w", v.Bucket, layout.KeyConfig, ErrLost)
	}
	if err != nil {
		return c, layout.Head{}, "", err
	}
	h, etag, err := load(ctx, v, layout.KeyHead, layout.ParseHead)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, layout.ErrDamaged):
		err = fmt.Errorf("%w: %w", err, ErrLost)
	case err == nil && h.Vault != c.ID:
		err = fmt.Errorf("vault %s: %w: %s is of vault %s, %s of vault %s", v.Bucket, layout.ErrDamaged, layout.KeyHead, h.Vault, layout.KeyConfig, c.ID)
	}
	return c, h, etag, err
}
