package collect

import (
	"context"
	"encoding/json"

	"lastro/store/ledger"
)

// jobPolicy is the name under which the ledger remembers what policy was.
const jobPolicy = "policy"

// kept are what the policy of the last run may have kept, when it is another now.
func (r *run) kept(ctx context.Context) (kept []ledger.Review, err error) {
	changed, err := r.changed(ctx)
	if err != nil || !changed {
		return nil, err
	}
	for v, err := range r.Ledger().Reviews(ctx) {
		if err != nil {
			return nil, err
		}
		if v.State == ledger.Waiting && v.ForItself() && v.Due.After(r.now) {
			kept = append(kept, v)
		}
	}
	return kept, nil
}

func (r *run) changed(ctx context.Context) (bool, error) {
	job, err := r.Ledger().Job(ctx, jobPolicy)
	if ignoreAbsent(err) != nil {
		return false, err
	}
	var was string
	if len(job.Result) > 0 {
		err = json.Unmarshal(job.Result, &was)
	} else {
		err = nil
	}
	return was != r.o.Policy, err
}

// askAgain makes what another policy kept due.
func (r *run) askAgain(ctx context.Context) error {
	changed, err := r.changed(ctx)
	if err != nil || !changed {
		return err
	}
	kept, err := r.kept(ctx)
	if err != nil {
		return err
	}
	for i := range kept {
		kept[i].Due = r.now
	}
	if err := r.Ledger().RecordReviews(ctx, kept); err != nil {
		return err
	}
	text, err := json.Marshal(r.o.Policy)
	if err != nil {
		return err
	}
	return r.Ledger().RecordJob(ctx, ledger.Job{Name: jobPolicy, Started: r.now, Ended: r.now, Result: text})
}
