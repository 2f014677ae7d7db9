package vault

import (
	"context"
	"fmt"

	"lastro/store/vault/prune"
)

// What a prune is told, and did.
type (
	PruneOptions = prune.Options
	Pruned       = prune.Report
)

// ErrUnread says that nothing is removed, because not all of the vault can be read.
var ErrUnread = prune.ErrUnread

// Prune removes what no snapshot needs; see prune.Run. The store's own manifests save
// reading the vault's, and its ledger learns what is left.
func (v *Vault) Prune(ctx context.Context, st Store, o PruneOptions) (Pruned, error) {
	start, sent := v.Now(), v.requests.Load()
	o.Near = st
	r, err := prune.Run(ctx, v.Catalog, o)
	if err == nil && r.Removed+r.Records > 0 {
		err = v.learnAgain(ctx, st)
	}
	r.Requests, r.TookSeconds = v.requests.Load()-sent, v.Now().Sub(start).Seconds()
	if err != nil {
		return r, fmt.Errorf("prune vault %s: %w", v.Name, err)
	}
	return r, nil
}

// learnAgain tells the ledger what the newest snapshot holds, for until it is told
// nothing is known to be in the vault.
func (v *Vault) learnAgain(ctx context.Context, st Store) (err error) {
	b := v.newBackup(st, "", nil)
	if b.config, err = v.Config(ctx); err != nil {
		return err
	}
	if err := b.look(ctx); err != nil {
		return err
	}
	return b.learn(ctx)
}

// HeldAs is the name under which a ledger knows what lies in the vault now.
func (v *Vault) HeldAs(ctx context.Context) (string, error) {
	h, err := v.Heads(ctx)
	return h.HeldAs(), err
}
