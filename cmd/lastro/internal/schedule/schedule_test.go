package schedule

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"github.com/netresearch/go-cron"
)

// every is the schedule of an interval.
func every(d time.Duration) func(time.Time) time.Time {
	return func(t time.Time) time.Time { return t.Add(d) }
}

// line is the schedule of a cron line.
func line(t *testing.T, spec string) func(time.Time) time.Time {
	t.Helper()
	s, err := cron.ParseStandard(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s.Next
}

func never(time.Time) time.Time { return time.Time{} }

// world is a scheduler with its clock, its records and a diary of its runs.
type world struct {
	t    *testing.T
	s    *Scheduler
	log  bytes.Buffer
	stop func()
	zone *time.Location

	mu     sync.Mutex
	shift  time.Duration // how far the wall clock is off the bubble's
	last   map[string]time.Time
	runs   []Record
	diary  []string
	active map[string]int
	broken error // of the records
}

func newWorld(t *testing.T) *world {
	return &world{t: t, last: map[string]time.Time{}, active: map[string]int{}, zone: time.UTC}
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.shift).In(w.zone)
}

// set sets the wall clock.
func (w *world) set(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shift = time.Until(at)
}

func (w *world) Last(_ context.Context, job string) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last[job], w.broken
}

func (w *world) Record(ctx context.Context, r Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		w.t.Errorf("a record came with an ended context: %v", ctx.Err())
	}
	w.last[r.Job] = r.Started
	w.runs = append(w.runs, r)
	return w.broken
}

// job writes into the diary when it starts, and works for a while.
func (w *world) job(name, group string, next func(time.Time) time.Time, work time.Duration) Job {
	return Job{Name: name, Group: group, Next: next, Run: func(ctx context.Context) error {
		w.enter(name)
		defer w.leave(name)
		select {
		case <-time.After(work):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}
}

func (w *world) enter(name string) {
	at := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.diary = append(w.diary, at.Format("02 15:04:05 ")+name)
	if w.active[name]++; w.active[name] > 1 {
		w.t.Errorf("%s runs beside itself", name)
	}
}

func (w *world) leave(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active[name]--
}

// begin starts a scheduler. It is stopped at the end of the bubble.
func (w *world) begin(jobs ...Job) {
	w.s = New(Options{Now: w.now, Records: w, Log: slog.New(slog.NewTextHandler(&w.log, nil))}, jobs)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.s.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) wantDiary(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := cmp.Diff(want, w.diary); d != "" {
		w.t.Errorf("runs: %s", d)
	}
}

// inWorld runs a test in a bubble whose clock begins at midnight on the first
// of January 2000.
func inWorld(t *testing.T, fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		fn(t, w)
		if w.stop != nil {
			w.stop()
		}
	})
}

func day(d, hour, minute int) time.Time { return time.Date(2000, 1, d, hour, minute, 0, 0, time.UTC) }

func TestAJobThatNeverRanIsDueAtOnceAndThenAtItsTimes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(w.job("sync", "", every(6*time.Hour), time.Minute))
		w.pass(13 * time.Hour)
		w.wantDiary("01 00:00:00 sync", "01 06:00:00 sync", "01 12:00:00 sync")
	})
}

func TestTimesThatPassedWhileTheDaemonWasDownAreMadeUpForByOneRun(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(day(10, 9, 0))
		w.last["nightly"] = day(6, 2, 30)
		w.last["six hours"] = day(6, 0, 0)
		w.last["not missed"] = day(10, 8, 0)
		w.begin(
			w.job("nightly", "g", line(t, "30 2 * * *"), time.Minute),
			w.job("six hours", "g", every(6*time.Hour), time.Minute),
			w.job("not missed", "g", every(6*time.Hour), time.Minute),
		)
		w.pass(17*time.Hour + 45*time.Minute)
		w.wantDiary("10 09:00:00 six hours", "10 09:01:00 nightly", "10 14:00:00 not missed",
			"10 15:00:00 six hours", "10 20:00:00 not missed", "10 21:00:00 six hours", "11 02:00:00 not missed",
			"11 02:30:00 nightly")
	})
}

func TestARunThatTakesLongerThanItsIntervalSkipsTheTimesThatPass(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(w.job("sync", "", every(time.Hour), 150*time.Minute))
		w.pass(7 * time.Hour)
		w.wantDiary("01 00:00:00 sync", "01 03:00:00 sync", "01 06:00:00 sync")
	})
}

func TestAShortIntervalAfterAVeryLongRunIsTakenUpAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(w.job("sync", "", every(10*time.Second), 24*time.Hour))
		w.pass(24*time.Hour + 20*time.Second)
		w.wantDiary("01 00:00:00 sync", "02 00:00:10 sync")
	})
}

func TestJobsOfOneGroupRunOneAfterTheOtherAndTheRestBeside(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.last["b"], w.last["a"] = day(0, 5, 0), day(0, 6, 0)
		w.begin(
			w.job("a", "data", every(12*time.Hour), time.Hour),
			w.job("b", "data", every(12*time.Hour), time.Hour),
			w.job("c", "other", every(12*time.Hour), time.Hour),
			w.job("d", "", every(12*time.Hour), time.Hour),
		)
		got := w.s.Jobs()
		want := []State{
			{Name: "a", Waiting: true, Started: day(0, 6, 0), Due: day(0, 18, 0)},
			{Name: "b", Running: true, Started: day(1, 0, 0), Due: day(1, 12, 0)},
			{Name: "c", Running: true, Started: day(1, 0, 0), Due: day(1, 12, 0)},
			{Name: "d", Running: true, Started: day(1, 0, 0), Due: day(1, 12, 0)},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		w.pass(3 * time.Hour)
		w.mu.Lock()
		defer w.mu.Unlock()
		if got, want := w.diary[len(w.diary)-1], "01 01:00:00 a"; got != want {
			t.Errorf("last run: got %s, want %s", got, want)
		}
		if got, want := len(w.diary), 4; got != want {
			t.Errorf("runs: got %d, want %d", got, want)
		}
	})
}

func TestAFailedJobIsTriedAgainAtItsNextTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(Job{Name: "sync", Next: every(time.Hour), Run: func(context.Context) error {
			w.enter("sync")
			w.leave("sync")
			return errors.New("upstream is down")
		}})
		w.pass(90 * time.Minute)
		w.wantDiary("01 00:00:00 sync", "01 01:00:00 sync")
		if got, want := w.s.Jobs()[0].Err, "upstream is down"; got != want {
			t.Errorf("state: got %q, want %q", got, want)
		}
		if !strings.Contains(w.log.String(), `level=ERROR msg="job failed" job=sync took=0s err="upstream is down"`) {
			t.Errorf("log: %s", w.log.String())
		}
	})
}

func TestAPanicIsAnErrorAndTheOthersGoOn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(
			Job{Name: "bad", Next: every(time.Hour), Run: func(context.Context) error { panic("nil map") }},
			w.job("good", "", every(time.Hour), time.Minute),
		)
		w.pass(90 * time.Minute)
		w.wantDiary("01 00:00:00 good", "01 01:00:00 good")
		if got, want := w.s.Jobs()[0].Err, "panic: nil map"; got != want {
			t.Errorf("state: got %q, want %q", got, want)
		}
		for _, want := range []string{"a job panicked", "schedule_test.go", "job failed"} {
			if !strings.Contains(w.log.String(), want) {
				t.Errorf("the log lacks %q: %s", want, w.log.String())
			}
		}
	})
}

func TestEveryRunIsRecordedWhenItBeginsAndWhenItHasEnded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		failure := errors.New("no space left on device")
		w.begin(Job{Name: "backup", Next: every(time.Hour), Run: func(context.Context) error {
			if got := len(w.runs); got != 1 {
				t.Errorf("records before the work: got %d, want 1", got)
			}
			time.Sleep(time.Minute)
			return failure
		}})
		w.pass(2 * time.Minute)
		want := []Record{
			{Job: "backup", Started: day(1, 0, 0)},
			{Job: "backup", Started: day(1, 0, 0), Ended: day(1, 0, 1), Err: failure},
		}
		same := cmp.Comparer(func(a, b error) bool { return a == b })
		if d := cmp.Diff(want, w.runs, same); d != "" {
			t.Error(d)
		}
	})
}

func TestRecordsThatCannotBeReadOrWrittenDelayButDoNotStop(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.broken = errors.New("ledger is closed")
		w.begin(w.job("sync", "", every(time.Hour), time.Minute))
		w.pass(90 * time.Minute)
		w.wantDiary("01 01:00:00 sync")
		for _, want := range []string{"when a job ran last is not known", "a run is not recorded"} {
			if !strings.Contains(w.log.String(), want) {
				t.Errorf("the log lacks %q: %s", want, w.log.String())
			}
		}
	})
}

func TestAJobWithoutTimesRunsOnlyWhenAsked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.last["drill"] = day(0, 0, 0)
		w.begin(w.job("drill", "", never, time.Minute))
		w.pass(time.Hour)
		if err := w.s.RunNow("drill"); err != nil {
			t.Fatal(err)
		}
		w.pass(1000 * time.Hour)
		w.wantDiary("01 01:00:00 drill")
	})
}

func TestRunNow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.last["sync"], w.last["retain"] = day(1, 0, 0), day(1, 0, 0)
		w.begin(w.job("sync", "data", every(24*time.Hour), 10*time.Minute), w.job("retain", "data", every(24*time.Hour), 10*time.Minute))
		if err := w.s.RunNow("none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a name that no job has: got %v, want fs.ErrNotExist", err)
		}
		ask := func(name string) {
			t.Helper()
			if err := w.s.RunNow(name); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		w.pass(time.Hour)
		ask("sync")
		w.pass(time.Minute)
		ask("sync") // it runs: once more afterwards
		ask("sync")
		ask("retain") // its group is busy
		w.pass(time.Hour)
		w.wantDiary("01 01:00:00 sync", "01 01:10:00 retain", "01 01:20:00 sync")
		w.pass(24 * time.Hour)
		w.wantDiary("01 01:00:00 sync", "01 01:10:00 retain", "01 01:20:00 sync", "02 01:10:00 retain", "02 01:20:00 sync")
		w.stop()
		if err := w.s.RunNow("sync"); !errors.Is(err, ErrStopping) {
			t.Errorf("after the end: got %v, want ErrStopping", err)
		}
	})
}

func TestRunNowBeforeTheSchedulerRunsIsKept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.last["sync"] = day(1, 0, 0)
		s := New(Options{Now: w.now, Records: w}, []Job{w.job("sync", "", every(time.Hour), 0)})
		if err := s.RunNow("sync"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		w.wantDiary("01 00:00:00 sync")
	})
}

func TestTwoJobsOfOneNameAreReportedAndTheFirstRuns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.begin(w.job("a", "", every(time.Hour), 0), w.job("a", "", every(time.Minute), 0))
		w.pass(90 * time.Minute)
		w.wantDiary("01 00:00:00 a", "01 01:00:00 a")
		if !strings.Contains(w.log.String(), "two jobs have one name") {
			t.Errorf("log: %s", w.log.String())
		}
	})
}

func TestARunThatHasToGoOnSoonerIsRunThen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := true
		j := w.job("sync", "", every(6*time.Hour), time.Minute)
		run := j.Run
		j.Run = func(ctx context.Context) error {
			if err := run(ctx); err != nil || !first {
				return err
			}
			first = false
			return &AgainError{day(1, 0, 30), errors.New("throttled")}
		}
		late := w.job("late", "", every(6*time.Hour), time.Minute)
		late.Run = func(ctx context.Context) error {
			w.enter("late")
			defer w.leave("late")
			return &AgainError{w.now().Add(24 * time.Hour), errors.New("throttled for long")}
		}
		w.last["late"] = day(1, 0, 0).Add(-5 * time.Hour)
		w.begin(j, late)
		w.pass(8 * time.Hour)
		w.wantDiary("01 00:00:00 sync", "01 00:30:00 sync", "01 01:00:00 late", "01 06:30:00 sync", "01 07:00:00 late")
	})
}

func TestARunThatLastedLongerThanItHadToWaitGoesOnAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first := true
		j := w.job("sync", "", every(6*time.Hour), 10*time.Minute)
		run := j.Run
		j.Run = func(ctx context.Context) error {
			if err := run(ctx); err != nil || !first {
				return err
			}
			first = false
			return &AgainError{day(1, 0, 5), errors.New("throttled for a while")}
		}
		w.begin(j)
		w.pass(2 * time.Hour)
		w.wantDiary("01 00:00:00 sync", "01 00:10:01 sync")
	})
}
