package main

import (
	"context"
	"time"

	"lastro/cmd/lastro/internal/schedule"
)

// jobPurge removes the uploads that no client goes on with.
const jobPurge = "purge uploads"

// purgeJob is due once a day, whatever the configuration says.
func (d *daemon) purgeJob() schedule.Job {
	return schedule.Job{Name: jobPurge, Next: func(after time.Time) time.Time { return after.Add(24 * time.Hour) }, Run: d.purgeUploads}
}

// purgedUploads is what the ledger keeps of it.
type purgedUploads struct {
	Uploads int `json:"uploads"`
}

func (d *daemon) purgeUploads(ctx context.Context) error {
	return d.site.record(ctx, jobPurge, func() (runResult, error) {
		n, err := d.pushes.Purge(ctx)
		if n > 0 {
			d.log.Info("abandoned uploads removed", "job", jobPurge, "uploads", n)
		}
		return runResult{record: purgedUploads{n}}, err
	})
}
