package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/ledger"
)

// Asked again after these when something keeps what nothing needs.
const (
	afterDoubt  = time.Hour
	afterPolicy = 24 * time.Hour
)

// judge answers questions that wait. What is condemned already is passed over.
func (r *run) judge(ctx context.Context, due []ledger.Review) (answers []ledger.Review, err error) {
	var asked []ledger.Review
	var hs []ledger.Held
	for _, v := range due {
		if v.State == ledger.Waiting {
			asked, hs = append(asked, v), append(hs, v.Held)
		}
	}
	whys, err := r.Ledger().Needs(ctx, hs, r.now, r.except)
	if err != nil {
		return nil, err
	}
	for i, v := range asked {
		a, err := r.judgeOne(ctx, v, whys[i])
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			r.doubt(v.Repo, fmt.Errorf("%s: %w", v.Held, err))
			a = r.later(v, r.now.Add(afterDoubt))
		}
		answers = append(answers, a)
	}
	return answers, nil
}

// judgeOne is one answer; an error is a doubt.
func (r *run) judgeOne(ctx context.Context, v ledger.Review, why string) (ledger.Review, error) {
	switch spared := v.Told.Add(r.o.Grace); {
	case why != "":
		v.State, v.Due = "", r.now.Add(7*afterPolicy)
		return v, nil
	case !v.Told.IsZero() && spared.After(r.now):
		return r.later(v, spared), nil
	}
	if err := r.known(ctx, v); err != nil {
		return v, err
	}
	answer, err := r.policy(ctx, v)
	switch {
	case err != nil:
		return v, err
	case answer.Keep && answer.Until.After(r.now) && answer.Until.Before(r.now.Add(afterPolicy)):
		return r.later(v, answer.Until), nil
	case answer.Keep:
		return r.later(v, r.now.Add(afterPolicy)), nil
	}
	// From now, and not from when the run began: somebody may be told meanwhile.
	now := r.o.Now()
	v.State, v.Since, v.Due = ledger.Condemned, now, now.Add(max(r.o.Grace, r.o.Undo))
	v.Size, err = r.size(v.Held)
	return v, err
}

func (r *run) later(v ledger.Review, t time.Time) ledger.Review {
	v.Due = t
	return v
}

// known refuses where the disk may know of a reason that the ledger does not.
func (r *run) known(ctx context.Context, v ledger.Review) error {
	if r.doubtful[v.Repo] {
		return errDoubt
	}
	if v.Repo == "" {
		return nil
	}
	tagged, err := r.isTagged(ctx, v.Held)
	if err != nil || !tagged {
		return err
	}
	// A tag is on disk some syncs before the ledger knows.
	return r.Quiet(v.Repo, "", func() error { return r.knownNow(ctx, v) })
}

// knownNow is known while nobody publishes into the repository.
func (r *run) knownNow(ctx context.Context, v ledger.Review) error {
	whys, err := r.Ledger().Needs(ctx, []ledger.Held{v.Held}, r.now, r.except)
	if err != nil || whys[0] != "" {
		return err
	}
	tagged, err := r.isTagged(ctx, v.Held)
	if err == nil && tagged {
		err = errUnknownTag
	}
	return err
}

var errUnknownTag = errors.New("a tag on disk is at it, and the ledger does not know: run lastro check --repair")

// isTagged looks at a tag again before it says yes: it may have moved since, or gone
// with what it is named after.
func (r *run) isTagged(ctx context.Context, h ledger.Held) (bool, error) {
	tagged, err := r.tagsOnDisk(ctx, h.Repo)
	for _, tag := range tagged[h.Digest] {
		now, err := r.Resolve(ctx, h.Repo, tag)
		if ignoreAbsent(err) != nil || now == h.Digest {
			return true, err
		}
	}
	return false, err
}

// tagsOnDisk are the tags that are at each digest, read once in a run.
func (r *run) tagsOnDisk(ctx context.Context, repo string) (map[digest.Digest][]string, error) {
	if tagged := r.tagged[repo]; tagged != nil {
		return tagged, nil
	}
	tagged := map[digest.Digest][]string{}
	for tag, err := range r.Tags(ctx, repo) {
		if err != nil {
			r.doubtful[repo] = true
			return nil, fmt.Errorf("the tags of %s cannot all be read: %w: %w", repo, err, errDoubt)
		}
		tagged[tag.Digest] = append(tagged[tag.Digest], tag.Name)
	}
	r.tagged[repo] = tagged
	return tagged, nil
}

// policy is asked about manifests that are nobody's part: what was part of another
// goes as that does.
func (r *run) policy(ctx context.Context, v ledger.Review) (Answer, error) {
	if v.Repo == "" || r.o.Keep == nil || !v.ForItself() {
		return Answer{}, nil
	}
	manifest, err := r.Ledger().Linked(ctx, v.Repo, v.Digest)
	if err != nil || !manifest {
		return Answer{}, err
	}
	return r.o.Keep(ctx, Question{v.Repo, v.Digest, v.Left, v.Gone, v.Since})
}

func (r *run) size(h ledger.Held) (int64, error) {
	if h.Repo != "" {
		return 0, nil
	}
	info, err := r.Disk().Stat(layout.Data(h.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
