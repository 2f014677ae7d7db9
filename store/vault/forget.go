package vault

import (
	"context"
	"fmt"

	"lastro/store/vault/prune"
)

// A snapshot that may go, and what a forget did.
type (
	Candidate     = prune.Candidate
	ForgetOptions = prune.ForgetOptions
	Forgotten     = prune.Forgotten
)

// ErrLast says that a vault or a store would be left without a snapshot.
var ErrLast = prune.ErrLast

// Candidates are the snapshots that may go, the oldest first. It changes nothing.
func (v *Vault) Candidates(ctx context.Context) ([]Candidate, error) {
	all, err := prune.Candidates(ctx, v.Catalog)
	if err != nil {
		return nil, fmt.Errorf("forget in vault %s: %w", v.Name, err)
	}
	return all, nil
}

// Forget takes snapshots off the vault; see prune.Forget.
func (v *Vault) Forget(ctx context.Context, o ForgetOptions) (Forgotten, error) {
	done, err := prune.Forget(ctx, v.Catalog, o)
	if err != nil {
		return done, fmt.Errorf("forget in vault %s: %w", v.Name, err)
	}
	return done, nil
}
