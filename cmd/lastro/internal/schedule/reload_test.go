package schedule

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReloadLeavesARunningJobAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(w.job("sync", "data", every(6*time.Hour), time.Hour))
		w.pass(10 * time.Minute)
		w.s.Reload([]Job{w.job("sync", "data", every(2*time.Hour), time.Hour), w.job("new", "data", every(24*time.Hour), time.Minute)})
		w.pass(4 * time.Hour)
		w.wantDiary("01 00:00:00 sync", "01 01:00:00 new", "01 02:00:00 sync", "01 04:00:00 sync")
		for _, r := range w.runs {
			if r.Err != nil {
				t.Errorf("a run was interrupted: %+v", r)
			}
		}
	})
}

func TestAJobThatIsTakenAwayEndsItsRunAndStartsNoMore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sync := w.job("sync", "data", every(30*time.Minute), time.Hour)
		w.begin(sync)
		w.pass(10 * time.Minute)
		w.s.Reload([]Job{w.job("other", "data", every(24*time.Hour), time.Minute)})
		synctest.Wait()
		if err := w.s.RunNow("sync"); err == nil {
			t.Error("a job that was taken away can be asked for")
		}
		if got := w.s.Jobs(); len(got) != 1 || !got[0].Waiting {
			t.Errorf("jobs: got %+v, want other alone, waiting for its group", got)
		}
		w.pass(5 * time.Hour)
		w.wantDiary("01 00:00:00 sync", "01 01:00:00 other")
		if got, want := w.runs[1], (Record{Job: "sync", Started: day(1, 0, 0), Ended: day(1, 1, 0)}); got != want {
			t.Errorf("its end: got %+v, want %+v", got, want)
		}
	})
}

func TestAJobThatComesBackWhileItRunsDoesNotRunBesideItself(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		sync := w.job("sync", "", every(20*time.Minute), time.Hour)
		w.begin(sync)
		w.pass(10 * time.Minute)
		w.s.Reload(nil)
		w.pass(10 * time.Minute)
		w.s.Reload([]Job{sync})
		w.pass(65 * time.Minute)
		w.wantDiary("01 00:00:00 sync", "01 01:20:00 sync")
	})
}

func TestReloadWithTheSameJobsChangesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		jobs := []Job{w.job("long", "", every(time.Hour), 90*time.Minute), w.job("short", "", every(6*time.Hour), time.Minute)}
		w.last["short"] = day(0, 23, 0)
		w.begin(jobs...)
		w.pass(100 * time.Minute)
		before := w.s.Jobs()
		w.s.Reload(jobs)
		synctest.Wait()
		for i, got := range w.s.Jobs() {
			if got != before[i] {
				t.Errorf("got %+v, want %+v", got, before[i])
			}
		}
		w.pass(10 * time.Minute)
		w.wantDiary("01 00:00:00 long")
	})
}

func TestAShorterIntervalCountsFromTheLastRun(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(w.job("sync", "", every(24*time.Hour), time.Minute))
		w.pass(90 * time.Minute)
		w.s.Reload([]Job{w.job("sync", "", every(2*time.Hour), time.Minute)})
		w.pass(time.Hour)
		w.wantDiary("01 00:00:00 sync", "01 02:00:00 sync")
	})
}

func TestStoppingWaitsForARunAndStartsNone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(w.job("sync", "data", every(time.Hour), 20*time.Second), w.job("backup", "data", every(time.Hour), time.Minute))
		w.pass(5 * time.Second)
		w.stop()
		if got, want := time.Since(day(1, 0, 0)), 20*time.Second; got != want {
			t.Errorf("stopping ended after %v, want %v", got, want)
		}
		w.wantDiary("01 00:00:00 sync")
		if got := w.runs[len(w.runs)-1]; got.Err != nil || got.Ended.IsZero() {
			t.Errorf("the last record: got %+v, want an end without error", got)
		}
	})
}

func TestStoppingEndsARunThatTakesTooLong(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(w.job("sync", "", every(24*time.Hour), 10*time.Hour))
		w.pass(time.Hour)
		w.stop()
		if got, want := time.Since(day(1, 1, 0)), 30*time.Second; got != want {
			t.Errorf("stopping ended after %v, want %v", got, want)
		}
		if got := w.runs[len(w.runs)-1].Err; !errors.Is(got, ErrStopping) {
			t.Errorf("the run ended with %v, want ErrStopping", got)
		}
		if !strings.Contains(w.log.String(), "jobs=[sync]") {
			t.Errorf("the log does not name what was ended: %s", w.log.String())
		}
	})
}

func TestAStoppedSchedulersContextDoesNotEndItsJobsBeforeTheDeadline(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(Job{Name: "sync", Next: every(time.Hour), Run: func(ctx context.Context) error {
			time.Sleep(10 * time.Second)
			return ctx.Err()
		}})
		w.pass(time.Second)
		w.stop()
		if got := w.runs[len(w.runs)-1].Err; got != nil {
			t.Errorf("got %v, want none", got)
		}
	})
}
