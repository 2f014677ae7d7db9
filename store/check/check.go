package check

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store"
)

// Options change what a check does. The zero value looks at everything and reads no
// blob.
type Options struct {
	Match       func(repo string) bool // nil: every repository, and what belongs to none
	Part, Parts int                    // reads the part-th of so many parts of the content; 0: none
	Again       []digest.Digest        // is read besides the part
	Quarantine  bool                   // takes bad content out of service as soon as it is found
	Repair      bool                   // does so too, and heals what it can
	Cautious    bool                   // does neither when so much is wrong that it may be the disk or the memory that is
	Sources     []Source               // where a repair finds content, the best first
	Pace        *Pace                  // nil: as fast as the disk gives
	Share       Share                  // nil: nobody minds a repair
	Progress    mirror.Progress        // nil: nobody hears
	Log         *slog.Logger           // of what is taken out of service; nil: nobody hears
	Now         func() time.Time       // nil: time.Now
}

// Share lets a repair change links and records until it is released.
type Share func(context.Context) (release func(), err error)

// Source has content that may be bad or missing here.
type Source interface {
	// Fetch opens content from its start; fs.ErrNotExist when the source has it not.
	// The repositories are those that serve it here. What comes is hashed before
	// anybody sees it. Of a manifest the size may be unknown, which is 0.
	Fetch(ctx context.Context, repos []string, c store.Content) (io.ReadCloser, error)
	// String names the source to people.
	String() string
}

const (
	// settled is the age from which on content that nothing refers to is not in flight.
	settled = time.Hour
	// forgotten is the age from which on an upload or a download is abandoned.
	forgotten = 7 * 24 * time.Hour
)

// Run checks a store. It changes nothing unless told to. An error is one of
// the ledger's file or of ctx, and comes with what was found until then.
func Run(ctx context.Context, s *store.Store, o Options) (Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = unheard{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	began := o.Now()
	c := &check{
		Store: s, disk: s.Disk(), o: o, suspects: map[unitKey]unit{}, problems: map[key]*Problem{},
		known: map[digest.Digest]bool{}, bad: map[digest.Digest]*badContent{}, edges: newEdges(), again: map[digest.Digest]bool{},
	}
	for _, d := range o.Again {
		c.again[d] = true
	}
	err := c.run(ctx)
	r := c.report()
	r.TookSeconds = o.Now().Sub(began).Seconds()
	if err != nil {
		return r, fmt.Errorf("check: %w", err)
	}
	return r, nil
}

// check is one run.
type check struct {
	*store.Store
	disk store.Disk
	o    Options

	suspects map[unitKey]unit         // what is to be looked at a second time
	problems map[key]*Problem         // what is wrong
	known    map[digest.Digest]bool   // content that something refers to
	orphans  map[digest.Digest]orphan // content that nothing refers to, as it seems
	again    map[digest.Digest]bool   // what is read besides the part
	edges    edges

	mu    sync.Mutex // of what is read side by side
	bad   map[digest.Digest]*badContent
	taken int // contents out of service

	out Report
}

func (c *check) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		c.repositories, c.pairs, c.partials, c.contents, c.strike, c.confirm, c.confirmBad, c.images, c.repair,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// found notes a problem, once.
func (c *check) found(p Problem) {
	if _, ok := c.problems[p.key()]; !ok {
		p.Images = []string{}
		c.problems[p.key()] = &p
	}
}

// whole reports whether all repositories are looked at, so that what none of them
// refers to is referred to by nothing.
func (c *check) whole() bool { return c.o.Match == nil }

func (c *check) matches(repo string) bool { return c.o.Match == nil || c.o.Match(repo) }

func (c *check) report() Report {
	r := c.out
	if c.o.Parts > 0 {
		r.Part = strconv.Itoa(c.o.Part) + "/" + strconv.Itoa(c.o.Parts)
	}
	r.Problems = []Problem{}
	for _, p := range slices.Collect(maps.Values(c.problems)) {
		if b := c.bad[p.Digest]; b != nil && p.Repo == "" {
			p.Quarantined = b.taken
		}
		if p.Repaired {
			r.Repaired++
		} else {
			p.Next = p.next(c.o.Repair)
		}
		r.Problems = append(r.Problems, *p)
	}
	sortProblems(r.Problems)
	return r
}

type unheard struct{}

func (unheard) Plan(int, int64)    {}
func (unheard) Bytes(int64)        {}
func (unheard) Done(string, error) {}
