package schedule

import (
	"context"
	"time"
)

// Job is something that runs by itself.
type Job struct {
	Name  string // what it is recorded under; unique
	Group string // jobs of one group do not run together; empty: beside any other

	// Next is the first time after after at which the job is due; the zero
	// time means never. It has no memory.
	Next func(after time.Time) time.Time

	// Run does the work. It should return soon after ctx has ended, which
	// happens only when the scheduler stops and draining took too long.
	Run func(ctx context.Context) error
}

// Record is one run of a job.
type Record struct {
	Job     string
	Started time.Time
	Ended   time.Time // zero: it has begun
	Err     error     // why it failed, once it has ended
}

// AgainError is how a run ends that has to go on at a time of its own, where
// that is before the job's next: an upstream that asked to be left alone, say.
type AgainError struct {
	At  time.Time
	Err error
}

func (e *AgainError) Error() string { return e.Err.Error() }
func (e *AgainError) Unwrap() error { return e.Err }

// Records remember runs from one life of the daemon to the next.
type Records interface {
	// Last is when the job started last; the zero time means never.
	Last(ctx context.Context, job string) (started time.Time, err error)
	// Record is called when a run begins and when it has ended, also after
	// the scheduler's own context has.
	Record(ctx context.Context, r Record) error
}

// State is what a scheduler knows of a job.
type State struct {
	Name    string    `json:"name"`
	Running bool      `json:"running"`
	Waiting bool      `json:"waiting"` // due, and another job of its group runs
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"` // in this life of the daemon
	Due     time.Time `json:"due,omitzero"`   // its next time; zero: never
	Err     string    `json:"err,omitempty"`  // how the last run failed, in this life of the daemon
}

// entry is a job and what became of it.
type entry struct {
	job   Job
	order int  // place in the list that the caller gave
	gone  bool // no longer in that list, and kept only for its running run

	known   bool // the records were asked
	started time.Time
	ended   time.Time
	due     time.Time
	again   time.Time // when the last run wants to go on; zero: at the next time
	asked   bool      // by RunNow
	running bool
	group   string // of the running run
	err     error
}

// ready says whether a run may begin as far as the job itself goes.
func (e *entry) ready(now time.Time) bool {
	return !e.gone && !e.running && (e.asked || e.known && !e.due.IsZero() && !e.due.After(now))
}

// plan sets when the job is due, from its runs so far.
func (e *entry) plan(now time.Time) {
	if e.started.IsZero() {
		e.due = now
		if e.job.Next(now).IsZero() {
			e.due = time.Time{}
		}
		return
	}
	e.due = after(e.job.Next, e.started, e.ended)
	if e.again.After(e.ended) && (e.due.IsZero() || e.again.Before(e.due)) {
		e.due = e.again
	}
}

// after is the first of the times that follow from that is later than skip.
func after(next func(time.Time) time.Time, from, skip time.Time) time.Time {
	due := next(from)
	for range 1000 {
		if due.IsZero() || due.After(skip) {
			return due
		}
		due = next(due)
	}
	return next(skip) // a short interval and a long run: the grid is not worth more steps
}

// mend puts right a due time that a clock set back has left far in the future:
// none is further away than the time after the next.
func (e *entry) mend(now time.Time) {
	first := e.job.Next(now)
	if first.IsZero() || e.due.IsZero() {
		return
	}
	if second := e.job.Next(first); !second.IsZero() && e.due.After(second) {
		e.due = first
	}
}

func (e *entry) state(now time.Time) State {
	s := State{Name: e.job.Name, Running: e.running, Waiting: e.ready(now), Started: e.started, Ended: e.ended, Due: e.due}
	if e.err != nil {
		s.Err = e.err.Error()
	}
	return s
}
