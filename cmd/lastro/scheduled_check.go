package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"lastro/store/check"
)

// scheduledCheck is the daemon's own check.
func (d *daemon) scheduledCheck(ctx context.Context) error {
	report, err := d.site.checkNext(ctx, d.admin.Busy)
	for _, p := range report.Problems {
		logProblem(d.log, p)
	}
	if err != nil {
		return err
	}
	left := 0
	for _, p := range report.Problems {
		if !p.Repaired && !p.Kind.Waste() {
			left++
		}
	}
	if report.Refused != "" {
		d.log.Error("check refused to heal", "job", jobCheck, "because", report.Refused)
	}
	d.log.Info("check done", "job", jobCheck, "part", report.Part, "contents", report.ReadBlobs, "bytes", report.ReadBytes, "problems", left, "repaired", report.Repaired)
	if left > 0 {
		return fmt.Errorf("%d problems are left: lastro status says which, and what to do", left)
	}
	return nil
}

func logProblem(log *slog.Logger, p check.Problem) {
	about := []any{"job", jobCheck, "kind", p.Kind, "repo", p.Repo, "tag", p.Tag, "digest", p.Digest, "path", p.Path, "what", p.Detail, "hurts", p.Images}
	switch {
	case p.Repaired:
		log.Info("problem healed", append(about, "from", p.Source)...)
	case p.Kind.Waste():
		log.Debug("waste found", append(about, "next", p.Next)...)
	default:
		log.Warn("problem found", append(about, "next", p.Next)...)
	}
}

// checkNext checks everything, and reads the part that is longest unread.
func (s *site) checkNext(ctx context.Context, busy func() bool) (report check.Report, err error) {
	var known rotation
	err = s.record(ctx, jobCheck, func() (runResult, error) {
		job, err := s.job(ctx, jobCheck)
		if err != nil {
			return runResult{}, err
		}
		cfg, began := s.cfg().Check, s.now()
		known = rotationOf(job).divided(cfg.Part, began)
		part := known.next()
		report, err = check.Run(ctx, s.store, check.Options{
			Part: part, Parts: cfg.Part, Again: known.Again, Quarantine: true, Repair: cfg.Repair, Cautious: true, Sources: s.contentSources(),
			Pace: check.NewPace(cfg.Bandwidth, busy), Share: s.share, Log: s.log, Now: s.now,
		})
		if err != nil {
			return runResult{}, err
		}
		known = known.after(part, began, s.now(), report)
		return runResult{record: known, failed: known.left()}, nil
	})
	if err != nil {
		return report, err
	}
	job, err := s.job(ctx, jobCheck)
	s.witness.Checked(known.web(job.LastOK), report.ReadBytes, report.Repaired)
	return report, err
}

// checkStatus is what the daemon's last check has left.
func (s *site) checkStatus(ctx context.Context, st *status) error {
	job, err := s.job(ctx, jobCheck)
	if err != nil {
		return err
	}
	known := rotationOf(job)
	if !known.Ended.IsZero() {
		st.LastCheck, st.OldestUnread = latest(nil, known.Ended), latest(nil, known.oldest())
	}
	if job.Err != "" {
		st.Problems = append(st.Problems, "the last check of the store ended with: "+job.Err)
	}
	if known.Refused != "" {
		st.Problems = append(st.Problems, "the last check refused to heal: "+known.Refused)
	}
	for _, p := range known.Worst {
		st.Problems = append(st.Problems, problemLine(p))
	}
	if n := known.left() - len(known.Worst); n > 0 {
		st.Problems = append(st.Problems, fmt.Sprintf("and %d more problems of what is stored (lastro check)", n))
	}
	return nil
}

// problemLine is a problem of what is stored in one line.
func problemLine(p check.Problem) string {
	hurts := ""
	if p.Hurt > 0 {
		hurts = ", hurts " + p.Images[0]
		if p.Hurt > 1 {
			hurts += fmt.Sprintf(" and %d more", p.Hurt-1)
		}
	}
	return fmt.Sprintf("%s is %s: %s%s (%s)", p.Subject(), p.Kind, strings.TrimSuffix(p.Detail, "\n"), hurts, p.Next)
}
