package schedule

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// begin starts a run in a goroutine of its own. The caller holds the lock.
func (s *Scheduler) begin(ctx context.Context, e *entry, now time.Time) {
	e.running, e.asked, e.group = true, false, e.job.Group
	e.started, e.ended, e.err = now, time.Time{}, nil
	e.due = e.job.Next(now)
	job := e.job
	s.runs.Go(func() {
		s.record(ctx, Record{Job: job.Name, Started: now})
		err := s.guarded(ctx, job)
		ended := s.now()
		s.record(ctx, Record{Job: job.Name, Started: now, Ended: ended, Err: err})
		s.report(job.Name, ended.Sub(now), err)
		s.end(e, ended, err)
	})
}

// leastPause keeps a run that has to go on from being a storm.
const leastPause = time.Second

// end settles a run that has returned.
func (s *Scheduler) end(e *entry, ended time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.running, e.ended, e.err, e.again = false, ended, err, time.Time{}
	if again, ok := errors.AsType[*AgainError](err); ok {
		e.again = again.At
		if soonest := ended.Add(leastPause); e.again.Before(soonest) { // it passed while the run went on
			e.again = soonest
		}
	}
	if e.gone {
		delete(s.entries, e.job.Name)
	} else {
		e.plan(ended)
	}
	s.nudge()
}

// record writes a record also while the scheduler stops, but not for ever.
func (s *Scheduler) record(ctx context.Context, r Record) {
	if s.o.Records == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recording)
	defer cancel()
	if err := s.o.Records.Record(ctx, r); err != nil {
		s.o.Log.Error("a run is not recorded", "job", r.Job, "err", err)
	}
}

func (s *Scheduler) report(name string, took time.Duration, err error) {
	again, waits := errors.AsType[*AgainError](err)
	switch {
	case waits:
		s.o.Log.Info("job goes on later", "job", name, "took", took, "at", again.At, "because", again.Err)
	case err != nil:
		s.o.Log.Error("job failed", "job", name, "took", took, "err", err)
	default:
		s.o.Log.Debug("job done", "job", name, "took", took)
	}
}

// guarded turns a panic into an error.
func (s *Scheduler) guarded(ctx context.Context, job Job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Log.Error("a job panicked", "job", job.Name, "err", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return job.Run(ctx)
}
