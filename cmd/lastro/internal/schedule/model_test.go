package schedule

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Whatever jobs there are and however they are reloaded and asked for: none
// runs beside itself or beside one of its group, none is forgotten, and one that
// was asked for runs.
func TestJobsNeverRunTogetherAndAreNeverForgotten(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		plan := rapid.SliceOfN(rapid.IntRange(0, 6), 1, 25).Draw(r, "plan")
		intervals := rapid.SliceOfN(rapid.IntRange(1, 300), 4, 4).Draw(r, "minutes")
		work := rapid.SliceOfN(rapid.IntRange(0, 200), 4, 4).Draw(r, "work")
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			groups := map[string]int{}
			jobs := func(keep int) []Job {
				var jobs []Job
				for i := range 4 {
					if i == keep {
						continue
					}
					name, group := fmt.Sprint(i), fmt.Sprint(i%2)
					job := w.job(name, group, every(time.Duration(intervals[i])*time.Minute), time.Duration(work[i])*time.Minute)
					run := job.Run
					job.Run = exclusive(w, groups, group, run)
					jobs = append(jobs, job)
				}
				return jobs
			}
			w.begin(jobs(-1)...)
			for i, step := range plan {
				switch {
				case step < 3:
					w.pass(time.Duration(1+i*step) * 7 * time.Minute)
				case step < 5:
					w.s.Reload(jobs(i%6 - 1))
				default:
					_ = w.s.RunNow(fmt.Sprint(i % 4)) // it may be away at present
				}
			}
			w.s.Reload(jobs(-1))
			before := w.starts()
			w.pass(48 * time.Hour)
			for i := range 4 {
				if name := fmt.Sprint(i); w.starts()[name] == before[name] {
					t.Errorf("job %s, every %d minutes, did not run in two days", name, intervals[i])
				}
			}
			w.stop()
		})
	})
}

func (w *world) starts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := map[string]int{}
	for _, r := range w.runs {
		if r.Ended.IsZero() {
			n[r.Job]++
		}
	}
	return n
}

// exclusive complains when two jobs of a group run together.
func exclusive(w *world, groups map[string]int, group string, run func(context.Context) error) func(context.Context) error {
	count := func(by int) int {
		w.mu.Lock()
		defer w.mu.Unlock()
		groups[group] += by
		return groups[group]
	}
	return func(ctx context.Context) error {
		if n := count(1); n > 1 {
			w.t.Errorf("%d jobs of group %s run together", n, group)
		}
		defer count(-1)
		return run(ctx)
	}
}

func TestManyJobsAndAWeekPassInNoTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var jobs []Job
		for i := range 20 {
			jobs = append(jobs, w.job(fmt.Sprint("job ", i), fmt.Sprint("group ", i%3), every(time.Duration(i+1)*time.Hour), time.Minute))
		}
		w.begin(jobs...)
		w.pass(7 * 24 * time.Hour)
		counts := map[string]int{}
		for _, r := range w.runs {
			if r.Ended.IsZero() {
				counts[r.Job]++
			}
		}
		for i := range 20 {
			got, want := counts[fmt.Sprint("job ", i)], 7*24/(i+1)
			if got < want-1 || got > want+1 {
				t.Errorf("job %d ran %d times, want about %d", i, got, want)
			}
		}
	})
}
