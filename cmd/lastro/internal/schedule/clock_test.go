package schedule

import (
	"testing"
	"time"
)

func TestASmallStepBackRepeatsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.set(day(1, 2, 0))
		w.last["nightly"], w.last["hourly"] = day(0, 2, 30), day(1, 1, 31)
		w.begin(w.job("nightly", "", line(t, "30 2 * * *"), time.Minute), w.job("hourly", "", every(time.Hour), time.Minute))
		w.pass(32 * time.Minute)
		w.set(day(1, 2, 20))
		w.pass(45 * time.Minute)
		w.wantDiary("01 02:30:00 nightly", "01 02:31:00 hourly")
	})
}

func TestAClockThatWasAYearAheadDoesNotSilenceTheJobs(t *testing.T) {
	for _, c := range []struct {
		name string
		next func(time.Time) time.Time
		want string
	}{
		{"interval", every(time.Hour), "01 01:00:00 job"},
		{"cron line", line(t, "30 2 * * *"), "01 02:30:00 job"},
	} {
		t.Run(c.name+", set back while it runs", func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.set(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC))
				w.begin(w.job("job", "", c.next, 0))
				w.set(day(1, 0, 0))
				w.pass(3 * time.Hour)
				if got := w.diary[1]; got[:len("01 01:0")] != c.want[:len("01 01:0")] { // a look later, a minute at most
					t.Errorf("after the clock was put right: got %s, want %s", got, c.want)
				}
			})
		})
		t.Run(c.name+", set back between two lives", func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.last["job"] = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
				w.begin(w.job("job", "", c.next, 0))
				w.pass(3 * time.Hour)
				if len(w.diary) == 0 || w.diary[0] != c.want {
					t.Errorf("got %v, want %s first", w.diary, c.want)
				}
			})
		})
	}
}

func TestASleepingMachineMakesUpForWhatItMissedOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.last["six hours"] = day(1, 0, 0)
		w.begin(w.job("six hours", "", every(6*time.Hour), time.Minute))
		w.pass(time.Hour)
		w.set(day(3, 9, 0)) // the lid was shut: timers stood still, the wall clock did not
		w.pass(7 * time.Hour)
		w.wantDiary("03 09:01:00 six hours", "03 15:01:00 six hours")
	})
}

func TestSummerTime(t *testing.T) {
	lisbon, err := time.LoadLocation("Europe/Lisbon")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		from time.Time
		want []string
	}{
		// 2000-03-26 01:00 became 02:00: there was no 01:30.
		{"a time that the clocks jump over is made up for on that day", time.Date(2000, 3, 25, 0, 0, 0, 0, lisbon),
			[]string{"25 01:30:00 nightly", "26 02:30:00 nightly", "27 01:30:00 nightly"}},
		// 2000-10-29 02:00 became 01:00: there were two 01:30.
		{"a time that comes twice is due twice, as its schedule says", time.Date(2000, 10, 28, 0, 0, 0, 0, lisbon),
			[]string{"28 01:30:00 nightly", "29 01:30:00 nightly", "29 01:30:00 nightly", "30 01:30:00 nightly"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.zone = lisbon
				w.set(c.from)
				w.last["nightly"] = c.from.Add(-time.Hour)
				w.begin(w.job("nightly", "", line(t, "30 1 * * *"), time.Minute))
				w.pass(3*24*time.Hour - 2*time.Hour)
				w.wantDiary(c.want...)
			})
		})
	}
}
