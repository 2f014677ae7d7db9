package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/ledger"
)

// Options say how long things stay. Now is required.
type Options struct {
	Grace   time.Duration // how long what somebody was told of stays, at least
	Undo    time.Duration // how long what is condemned can be taken back, at least
	Observe bool          // nothing is removed
	// Keep decides about manifests that no tag, protection or other manifest needs.
	// An error keeps. Nil keeps none.
	Keep func(context.Context, Question) (Answer, error)
	// Policy changes with what Keep would answer: everything that it kept is asked
	// about again then, and not after a day.
	Policy string
	Now    func() time.Time
	Log    *slog.Logger // nil: nothing is logged
}

// Question is about a manifest of a repository.
type Question struct {
	Repo   string
	Digest digest.Digest
	Left   time.Time // when a tag was last at it; zero: never, as far as is known
	Gone   bool      // that tag was removed, and did not move
	Since  time.Time // since when it is asked
}

// Answer is what policy says. The zero Answer keeps nothing.
type Answer struct {
	Keep  bool
	Until time.Time // zero: it is asked again after a day
	Why   string
}

// Item is one digest of a report.
type Item struct {
	ledger.Held
	State string    `json:"state"`          // condemned or deleted, or in a plan: condemned already, to condemn, to delete
	Part  bool      `json:"part,omitempty"` // it goes with what it is a part of, or with its links
	Size  int64     `json:"size,omitempty"`
	Due   time.Time `json:"due,omitzero"` // when it goes, if nobody asks for it
	Why   string    `json:"why,omitempty"`
}

// The states of items.
const (
	StateCondemned = "condemned"
	StateDeleted   = "deleted"
	StateToCondemn = "to condemn"
	StateToDelete  = "to delete"
)

func item(v ledger.Review, state string) Item {
	return Item{v.Held, state, !v.ForItself(), v.Size, v.Due, v.Why}
}

// Report is what a run did, or what it would do. Counts are of digests, in however
// many repositories.
type Report struct {
	Condemned   int      `json:"condemned"`     // by this run
	Deleted     int      `json:"deleted"`       // by this run
	FreedBytes  int64    `json:"freed_bytes"`   // of content that is gone
	KeptByDoubt int      `json:"kept_by_doubt"` // of what could not be decided
	Waiting     int      `json:"waiting"`       // condemned, and not due yet
	TakenBack   uint64   `json:"taken_back"`    // since the registry was opened
	Items       []Item   `json:"items"`         // what was condemned or removed; in a plan also what is condemned
	Problems    []string `json:"problems"`      // why there was doubt
	// PausedUntil is set when nothing is removed because of an unclean end.
	PausedUntil time.Time `json:"paused_until,omitzero"`
}

// maxItems bounds a report.
const maxItems = 10_000

// maxRounds bounds a run. Each round goes at least one level of an image deeper.
const maxRounds = 200

// run is one run of the collector.
type run struct {
	*store.Store
	o         Options
	now       time.Time
	except    func(ledger.Held) bool // as good as condemned, in a plan
	report    Report
	condemned map[digest.Digest]bool
	deleted   map[digest.Digest]bool
	doubtful  map[string]bool // repositories that lose nothing; "" is everything's content
	tagged    map[string]map[digest.Digest][]string
	left      map[ledger.Held]bool // could not be removed
	final     map[ledger.Held]bool // policy said again that they may go
	pace      pace
}

// Run answers the questions that are due and removes what is condemned and due. What
// could not be decided is in the report; an error ended the run, and the next goes
// on where it was.
func Run(ctx context.Context, s *store.Store, o Options) (Report, error) {
	r := newRun(s, o)
	err := r.prepare(ctx)
	for round, last := 0, 0; err == nil && round < maxRounds; round++ {
		var answered, due, removed int
		var condemned []ledger.Review
		if answered, condemned, err = r.answer(ctx); err != nil {
			break
		}
		// What was found to be needed after all may need other things.
		if due, removed, err = r.remove(ctx, condemned); answered+removed == 0 && (due == 0 || due == last) {
			break
		}
		last = due
	}
	if err == nil {
		err = r.count(ctx)
	}
	r.report.TakenBack = s.TakenBack()
	if err != nil {
		return r.report, fmt.Errorf("collect: %w", err)
	}
	return r.report, nil
}

func newRun(s *store.Store, o Options) *run {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &run{Store: s, o: o, now: o.Now(), report: Report{Items: []Item{}, Problems: []string{}},
		condemned: map[digest.Digest]bool{}, deleted: map[digest.Digest]bool{},
		doubtful: map[string]bool{}, tagged: map[string]map[digest.Digest][]string{}, left: map[ledger.Held]bool{}, final: map[ledger.Held]bool{}, pace: pace{s.Published, fewest}}
}

// prepare asks what nobody asked, where that may be.
func (r *run) prepare(ctx context.Context) error {
	// What others changed while lastro did not run is known only then.
	if err := r.Compared(ctx); err != nil {
		return fmt.Errorf("the registry was not compared with the ledger: %w", err)
	}
	complete, err := r.Told(ctx)
	if err != nil {
		return err
	}
	if err := r.pause(ctx); err != nil {
		return err
	}
	if err := r.askAgain(ctx); err != nil {
		return err
	}
	due, err := r.surveyDue(ctx)
	if err != nil || complete && !due {
		return err
	}
	return r.survey(ctx)
}

// pause finds out whether what clients were told is not known.
func (r *run) pause(ctx context.Context) error {
	unclean, err := r.LastUnclean(ctx)
	if until := unclean.Add(r.o.Grace); err == nil && !unclean.IsZero() && until.After(r.now) {
		r.report.PausedUntil = until.UTC()
	}
	return err
}

func (r *run) doubt(repo string, err error) {
	r.report.KeptByDoubt++
	if len(r.report.Problems) < maxItems {
		r.report.Problems = append(r.report.Problems, err.Error())
	}
	r.o.Log.Warn("kept because of a doubt", "repo", repo, "err", err)
}

// answer answers what is due, page by page. What was condemned before is returned.
func (r *run) answer(ctx context.Context) (answered int, condemned []ledger.Review, err error) {
	var from []byte
	for {
		err := r.pace.take(ctx, func(size int) error {
			due, next, err := r.Ledger().DueReviews(ctx, r.now, from, answersPerDigest*size)
			if err != nil {
				return err
			}
			n, err := r.answerPage(ctx, due)
			for _, v := range due {
				if v.State != ledger.Waiting {
					condemned = append(condemned, v)
				}
			}
			answered, from = answered+n, next
			return err
		})
		if err != nil || from == nil {
			r.report.Condemned = len(r.condemned)
			return answered, condemned, err
		}
	}
}

func (r *run) answerPage(ctx context.Context, due []ledger.Review) (answered int, err error) {
	answers, err := r.judge(ctx, due)
	if err != nil {
		return 0, err
	}
	condemned, err := r.Condemn(ctx, answers, r.now)
	for _, c := range condemned {
		r.note(r.condemned, item(c, StateCondemned))
	}
	return len(answers), err
}

func (r *run) note(in map[digest.Digest]bool, i Item) {
	in[i.Digest] = true
	if len(r.report.Items) < maxItems {
		r.report.Items = append(r.report.Items, i)
	}
}

// count counts what is condemned and stays for now.
func (r *run) count(ctx context.Context) error {
	waiting := map[digest.Digest]bool{}
	for v, err := range r.Ledger().Reviews(ctx) {
		if err != nil {
			return err
		}
		if v.State != ledger.Waiting {
			waiting[v.Digest] = true
		}
	}
	r.report.Waiting = len(waiting)
	return nil
}

// errDoubt wraps what keeps a whole repository.
var errDoubt = errors.New("nothing of it is removed")
