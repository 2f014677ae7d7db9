package restore

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/layout"
)

// tell has the head list what was found damaged, as a verification does: the next backup
// of a store that has it sends it again, and would else believe it to be there. Who may
// only read the vault, or is not alone where one has to be, leaves it as it is.
func (r *restore) tell(ctx context.Context) {
	if len(r.broken) == 0 {
		return
	}
	config, _, _, err := r.Stored(ctx)
	if err == nil && config.Mode() != layout.Strict {
		err = errors.New("another one may be writing it at this moment")
	}
	if err == nil {
		err = r.ChangeHead(ctx, config, func(h *layout.Head) error {
			h.Damaged = slices.Concat(h.Damaged, slices.DeleteFunc(slices.Sorted(maps.Keys(r.broken)), func(d digest.Digest) bool { return slices.Contains(h.Damaged, d) }))
			return nil
		})
	}
	if err != nil {
		r.Log.Warn("what is damaged could not be noted in the vault; run `lastro backup verify`, so that a backup repairs it", "vault", r.Name, "err", err)
	}
}
