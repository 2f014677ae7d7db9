package vault

import (
	"context"
	"encoding/json"
	"fmt"

	"lastro/mirror"
	"lastro/store/vault/bucket"
	"lastro/store/vault/drill"
	"lastro/store/vault/layout"
)

// What a drill is told, what it needs, and what it found.
type (
	DrillOptions = drill.Options
	Scratch      = drill.Scratch
	Drilled      = drill.Report
)

// report leaves what a drill found in the vault, signed if there is a key, and says
// how it lies there. A vault that takes nothing is no fault of the drill's.
func (v *Vault) report(ctx context.Context, r *Drilled) error {
	data, err := layout.Encode(*r)
	if v.key != nil {
		data, err = layout.Sign(v.key, func(s *layout.Signature) any {
			signed := *r
			signed.Signature = s
			return signed
		})
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, r); err != nil {
		return err
	}
	if data, err = v.SealRecord(data); err != nil {
		return err
	}
	key := layout.DirDrills + r.Time.Format("20060102T150405Z") + "-" + r.ID + ".json"
	if _, err := v.Bucket.Put(ctx, key, bucket.Bytes(data)); err != nil {
		v.Log.Warn("the report of a drill is not in the vault", "vault", v.Name, "err", err)
	}
	return ctx.Err()
}

// Drill restores a sample of a snapshot into scratch, pulls it from there and
// compares; see drill.Run. The report stays in the vault. progress may be nil.
func (v *Vault) Drill(ctx context.Context, scratch Scratch, o DrillOptions, progress mirror.Progress) (Drilled, error) {
	r, err := drill.Run(ctx, v.Catalog, scratch, o, watched(progress))
	if err != nil {
		return r, fmt.Errorf("drill of vault %s: %w", v.Name, err)
	}
	err = v.report(ctx, &r)
	return r, err
}
