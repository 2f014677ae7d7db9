package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// look is how often the wall clock is looked at, in case it was set.
	look = time.Minute
	// recording is how long writing a record may take.
	recording = 5 * time.Second
)

// ErrStopping is the cause with which the context of a job ends, and what
// RunNow says once no job starts any more.
var ErrStopping = errors.New("the scheduler is stopping")

// Options are what a scheduler needs. Now is required.
type Options struct {
	Now     func() time.Time
	Records Records       // nil: nothing is remembered, and every job is due at once
	Log     *slog.Logger  // nil: nothing is logged
	Drain   time.Duration // how long running jobs may go on when the scheduler stops; default 30 s
}

// Scheduler runs jobs when they are due. Its methods may be called from many
// goroutines.
type Scheduler struct {
	o    Options
	wake chan struct{}
	runs sync.WaitGroup

	mu       sync.Mutex
	entries  map[string]*entry
	stopping bool
}

// New makes a scheduler of jobs. Nothing starts before Run.
func New(o Options, jobs []Job) *Scheduler {
	if o.Drain == 0 {
		o.Drain = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Scheduler{o: o, wake: make(chan struct{}, 1), entries: map[string]*entry{}}
	s.Reload(jobs)
	return s
}

// now is the wall clock's time: without the reading of the monotonic clock,
// which stands still while a machine sleeps.
func (s *Scheduler) now() time.Time { return s.o.Now().Round(0) }

// Reload replaces the jobs. Those that run go on to their end, also when they
// are no longer among the jobs; what is changed of them holds from the next run
// on.
func (s *Scheduler) Reload(jobs []Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	old := s.entries
	s.entries = map[string]*entry{}
	for i, job := range jobs {
		if s.entries[job.Name] != nil {
			s.o.Log.Error("two jobs have one name, and the second does not run", "job", job.Name)
			continue
		}
		e := old[job.Name]
		if e == nil {
			e = &entry{}
		}
		e.job, e.order, e.gone = job, i, false
		if e.known {
			e.plan(now)
		}
		s.entries[job.Name] = e
	}
	for name, e := range old {
		if s.entries[name] == nil && e.running {
			e.gone, e.asked = true, false
			s.entries[name] = e
		}
	}
	s.nudge()
}

// RunNow makes a job due, once, whatever its times; while it runs, once more
// after that run. It does not wait. A name that no job has is [fs.ErrNotExist].
func (s *Scheduler) RunNow(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[name]
	switch {
	case s.stopping:
		return fmt.Errorf("run %s: %w", name, ErrStopping)
	case e == nil || e.gone:
		return fmt.Errorf("run %s: no such job: %w", name, fs.ErrNotExist)
	}
	e.asked = true
	s.nudge()
	return nil
}

// Jobs tells what each job does, in the order in which they were given.
func (s *Scheduler) Jobs() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	var states []State
	now := s.now()
	for _, e := range s.sorted(byOrder) {
		if !e.gone {
			states = append(states, e.state(now))
		}
	}
	return states
}

// nudge makes the loop look again.
func (s *Scheduler) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run starts jobs as they become due, until ctx ends. Then it starts none any
// more and waits for those that run; after Options.Drain their contexts end too.
// It returns nil, when the last has returned. It is called once.
func (s *Scheduler) Run(ctx context.Context) error {
	jobs, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.recall(ctx)
		timer.Reset(s.start(jobs))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wake:
		}
	}
	s.drain(cancel)
	return nil
}

func (s *Scheduler) drain(cancel context.CancelCauseFunc) {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	late := time.AfterFunc(s.o.Drain, func() {
		s.o.Log.Warn("jobs are still running and are ended", "jobs", s.running(), "took", s.o.Drain)
		cancel(ErrStopping)
	})
	defer late.Stop()
	s.runs.Wait()
}

func (s *Scheduler) running() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, e := range s.sorted(byOrder) {
		if e.running {
			names = append(names, e.job.Name)
		}
	}
	return names
}

// recall asks the records about jobs that are new here.
func (s *Scheduler) recall(ctx context.Context) {
	for _, name := range s.unknown() {
		last, err := s.last(ctx, name)
		s.mu.Lock()
		if e := s.entries[name]; e != nil && !e.known {
			now := s.now()
			e.known = true
			if err != nil {
				s.o.Log.Error("when a job ran last is not known: it runs at its next time", "job", name, "err", err)
				last = now
			}
			if e.started.IsZero() { // RunNow may have been quicker
				e.started = last
			}
			e.plan(now)
		}
		s.mu.Unlock()
	}
}

func (s *Scheduler) last(ctx context.Context, name string) (time.Time, error) {
	if s.o.Records == nil {
		return time.Time{}, nil
	}
	return s.o.Records.Last(ctx, name)
}

func (s *Scheduler) unknown() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, e := range s.entries {
		if !e.known && !e.gone {
			names = append(names, name)
		}
	}
	return names
}

// start begins every run that may begin now, and says when to look again.
func (s *Scheduler) start(ctx context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	wait := look
	for _, e := range s.sorted(byDue) {
		if e.known {
			e.mend(now)
		}
		switch {
		case e.ready(now) && !s.busy(e.job.Group):
			s.begin(ctx, e, now)
		case e.known && !e.gone && !e.running && e.due.After(now):
			wait = min(wait, e.due.Sub(now))
		}
	}
	return wait
}

func (s *Scheduler) busy(group string) bool {
	if group == "" {
		return false
	}
	for _, e := range s.entries {
		if e.running && e.group == group {
			return true
		}
	}
	return false
}

func byOrder(a, b *entry) int { return cmp.Compare(a.order, b.order) }

func byDue(a, b *entry) int { return cmp.Or(a.due.Compare(b.due), byOrder(a, b)) }

func (s *Scheduler) sorted(by func(a, b *entry) int) []*entry {
	var all []*entry
	for _, e := range s.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, by)
	return all
}
