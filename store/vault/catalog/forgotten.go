package catalog

import (
	"context"

	"lastro/store/vault/layout"
)

// forgotten are the snapshots whose records lie there still, while what they need may
// not. It also tells the head which prune was the last, so that what was known of the
// vault before that counts no more.
func (v *Catalog) forgotten(ctx context.Context, h *layout.Head) (map[string]bool, error) {
	ids := map[string]bool{}
	for info, err := range v.Bucket.List(ctx, layout.DirForgotten) {
		if err != nil {
			return nil, err
		}
		ids[layout.ForgottenIDOf(info.Key)] = true
	}
	for info, err := range v.Bucket.List(ctx, layout.DirPrune) {
		if err != nil {
			return nil, err
		}
		h.Swept = max(h.Swept, layout.PlanIDOf(info.Key))
	}
	return ids, nil
}
