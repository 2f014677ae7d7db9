package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/ledger"
)

// jobSurvey is the name under which the ledger records surveys.
const jobSurvey = "survey"

// surveyEvery is how long questions that nobody asked may stay unasked.
const surveyEvery = 7 * 24 * time.Hour

// surveyDue says whether something may be here that nobody asked about.
func (r *run) surveyDue(ctx context.Context) (bool, error) {
	job, err := r.Ledger().Job(ctx, jobSurvey)
	if ignoreAbsent(err) != nil {
		return false, err
	}
	unclean, err := r.LastUnclean(ctx)
	return !job.LastOK.After(unclean) || r.now.Sub(job.LastOK) >= surveyEvery, err
}

// survey asks about all that is here and that nothing needs. What it cannot read
// keeps, and makes it be repeated.
func (r *run) survey(ctx context.Context) error {
	began := r.now
	doubts := len(r.report.Problems)
	err := r.Survey(ctx, store.Surveyed{
		Repository: func(repo string, manifests, blobs []digest.Digest) error {
			return r.askRepository(ctx, repo, manifests, blobs)
		},
		Contents: func(ds []digest.Digest) error { return r.ask(ctx, "", ds, nil) },
		Doubt: func(repo string, err error) {
			r.doubtful[repo] = true
			// What a manifest refers to that nobody can read may be anything.
			r.doubtful[""] = true
			r.doubt(repo, err)
		},
	})
	if err != nil {
		return fmt.Errorf("survey: %w", err)
	}
	if len(r.report.Problems) > doubts {
		return nil
	}
	return r.Ledger().RecordJob(ctx, ledger.Job{Name: jobSurvey, Started: began, Ended: r.o.Now(), LastOK: began})
}

func (r *run) askRepository(ctx context.Context, repo string, manifests, blobs []digest.Digest) error {
	err := r.ask(ctx, repo, manifests, func(ds map[digest.Digest]bool) (map[digest.Digest]ledger.Review, error) {
		return r.Ledger().LeftAt(ctx, repo, ds)
	})
	if err != nil {
		return err
	}
	return r.ask(ctx, repo, blobs, nil)
}

// ask asks about those of ds that nothing needs and nobody asked about. Manifests
// are asked about for their own sake; what left says tells since when.
func (r *run) ask(ctx context.Context, repo string, ds []digest.Digest, left func(map[digest.Digest]bool) (map[digest.Digest]ledger.Review, error)) error {
	unneeded, err := r.unasked(ctx, repo, ds)
	if err != nil || len(unneeded) == 0 {
		return err
	}
	history := map[digest.Digest]ledger.Review{}
	if left != nil {
		if history, err = left(unneeded); err != nil {
			return err
		}
	}
	var questions []ledger.Review
	for d := range unneeded {
		q := ledger.Review{Held: ledger.Held{Repo: repo, Digest: d}, Due: r.now, Why: "nothing needs it"}
		if h, ok := history[d]; ok {
			q.Left, q.Gone, q.Why = h.Left, h.Gone, h.Why
		} else {
			// Whoever brought it may be about to say what for.
			q.Root, q.Told = left != nil, r.now
		}
		questions = append(questions, q)
	}
	return r.Ledger().RecordReviews(ctx, questions)
}

func (r *run) unasked(ctx context.Context, repo string, ds []digest.Digest) (map[digest.Digest]bool, error) {
	var hs []ledger.Held
	for _, d := range ds {
		hs = append(hs, ledger.Held{Repo: repo, Digest: d})
	}
	whys, err := r.Ledger().Needs(ctx, hs, r.now, nil)
	if err != nil {
		return nil, err
	}
	unneeded := map[digest.Digest]bool{}
	for i, h := range hs {
		if whys[i] != "" {
			continue
		}
		_, asked, err := r.Ledger().Review(ctx, h)
		if err != nil {
			return nil, err
		}
		if !asked {
			unneeded[h.Digest] = true
		}
	}
	return unneeded, nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
