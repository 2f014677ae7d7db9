package vault

import (
	"context"
	"fmt"

	"lastro/mirror"
	"lastro/store/vault/drill"
)

// What a drill is told, what it needs, and what it found.
type (
	DrillOptions = drill.Options
	Scratch      = drill.Scratch
	Drilled      = drill.Report
)

// Drill restores a sample of a snapshot into scratch, pulls it from there and
// compares; see drill.Run. progress may be nil.
func (v *Vault) Drill(ctx context.Context, scratch Scratch, o DrillOptions, progress mirror.Progress) (Drilled, error) {
	r, err := drill.Run(ctx, v.Catalog, scratch, o, watched(progress))
	if err != nil {
		return r, fmt.Errorf("drill of vault %s: %w", v.Name, err)
	}
	return r, nil
}
