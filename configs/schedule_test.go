package configs

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustSchedule(t *testing.T, text string) Schedule {
	t.Helper()
	s, err := parseSchedule(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return s
}

func TestScheduleNext(t *testing.T) {
	utc := func(text string) time.Time {
		at, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	tests := []struct{ name, text, after, want string }{
		{"an interval counts from the last time", "6h", "2026-01-01 01:30", "2026-01-01 07:30"},
		{"an interval may be days", "2w", "2026-01-01 01:30", "2026-01-15 01:30"},
		{"a cron line has its times", "CRON_TZ=UTC 30 2 * * *", "2026-01-01 02:30", "2026-01-02 02:30"},
		{"a word has its times", "CRON_TZ=UTC 0 0 1 1 *", "2026-01-01 00:00", "2027-01-01 00:00"},
		{"29 February comes, if late", "CRON_TZ=UTC 0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00"},
		{"either day is enough, as in crontab", "CRON_TZ=UTC 0 0 13 * FRI", "2026-01-01 00:00", "2026-01-02 00:00"},
		{"a time zone is heeded", "CRON_TZ=Europe/Berlin 0 12 * * *", "2026-07-01 00:00", "2026-07-01 10:00"},
		{"a time that a change of clocks skips comes an hour later", "CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-28 12:00", "2026-03-29 01:30"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got, want := mustSchedule(t, test.text).Next(utc(test.after)).UTC(), utc(test.want); !got.Equal(want) {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	t.Run("a cron line without a zone is in the machine's, whatever zone it is asked in", func(t *testing.T) {
		got := mustSchedule(t, "30 2 * * *").Next(utc("2026-01-01 12:00").In(time.FixedZone("far", 5*3600+1800)))
		if local := got.In(time.Local); local.Hour() != 2 || local.Minute() != 30 {
			t.Errorf("got %s", local)
		}
	})
	t.Run("the zero schedule never runs", func(t *testing.T) {
		if got := (Schedule{}).Next(time.Now()); !got.IsZero() || (Schedule{}).Never() {
			t.Errorf("got %s", got)
		}
	})
	t.Run("never is never", func(t *testing.T) {
		s := mustSchedule(t, "never").named("a")
		if got := s.Next(time.Now()); !got.IsZero() || !s.Never() || s.String() != "never" {
			t.Errorf("got %s", got)
		}
	})
}

func TestScheduleRefuses(t *testing.T) {
	tests := []struct{ name, text string }{
		{"a word", "sometimes"},
		{"nothing", ""},
		{"a number", "6"},
		{"less than a minute", "59s"},
		{"no time", "0s"},
		{"four fields", "0 0 * *"},
		{"six fields", "0 0 0 * * *"},
		{"a minute that is none", "60 * * * *"},
		{"a step of nothing", "*/0 * * * *"},
		{"30 February", "0 0 30 2 *"},
		{"31 in months that have 30", "0 0 31 4,6,9,11 *"},
		{"an interval in cron's words", "@every 1h"},
		{"a start of the machine", "@reboot"},
		{"a zone that is none", "CRON_TZ=Nowhere/Land 0 0 * * *"},
		{"a century", "5300w"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := parseSchedule(test.text)
			if err == nil {
				t.Fatalf("%q: taken, next %s", test.text, s.Next(time.Now()))
			}
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("%q: more than one line: %v", test.text, err)
			}
		})
	}
}

func TestIntervalsAreSpread(t *testing.T) {
	cfg := mustLoad(t, `
mirror: [{from: a}, {from: b}, {from: c}, {from: d, every: 1m}]
retention: [{match: a}]
backup: [{name: a, to: "file:///a"}]
`, nil)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	seen := map[time.Duration]bool{}
	for _, m := range cfg.Mirror[:3] {
		took := m.Every.Next(now).Sub(now)
		if took > 6*time.Hour || took <= 6*time.Hour-mostSpread || seen[took] {
			t.Errorf("%s runs after %s; the others after %v", m.Name, took, seen)
		}
		seen[took] = true
	}
	if took := cfg.Mirror[3].Every.Next(now).Sub(now); took > time.Minute || took <= 54*time.Second {
		t.Errorf("a rule for every minute runs after %s", took)
	}
	for name, s := range map[string]Schedule{"retention": cfg.Retention[0].Every, "backup": cfg.Backup[0].Every} {
		if took := s.Next(now).Sub(now); took >= day || took <= day-mostSpread {
			t.Errorf("%s runs after %s", name, took)
		}
	}
	again := mustLoad(t, "mirror: [{from: a}]", nil).Mirror[0].Every
	if got, want := again.Next(now), cfg.Mirror[0].Every.Next(now); got != want {
		t.Errorf("a spread changes from %s to %s", want, got)
	}
}

func TestParseDuration(t *testing.T) {
	tests := []struct {
		name, text string
		want       time.Duration
	}{
		{"minutes", "5m", 5 * time.Minute},
		{"a fraction", "1.5h", 90 * time.Minute},
		{"days", "90d", 90 * day},
		{"weeks", "2w", 14 * day},
		{"several units", "1w2d3h4m5s6ms", 9*day + 3*time.Hour + 4*time.Minute + 5*time.Second + 6*time.Millisecond},
		{"nothing", "0s", 0},
		{"no text", "", -1},
		{"no unit", "5", -1},
		{"a unit that is none", "3y", -1},
		{"less than nothing", "-5m", -1},
		{"a space", "5 m", -1},
		{"two points", "1.2.3h", -1},
		{"more than a hundred years", "5300w", -1},
		{"more than can be counted", strings.Repeat("9", 400) + "w", -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseDuration(test.text)
			if refused := err != nil; refused != (test.want < 0) || !refused && got != test.want {
				t.Errorf("%q: got %s, %v", test.text, got, err)
			}
		})
	}
}

func TestParsePercent(t *testing.T) {
	for text, want := range map[string]float64{"0%": 0, "20%": 0.2, "12.5%": 0.125, "100%": 1, "100.0%": 1, "": -1, "20": -1, "101%": -1, "100.1%": -1, "-1%": -1, "NaN%": -1, "1e1%": -1} {
		got, err := ParsePercent(text)
		if refused := err != nil; refused != (want < 0) || !refused && got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

func TestWhatIsFormattedParsesAsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(100*day/time.Millisecond)).Draw(t, "ms")) * time.Millisecond
		if got, err := ParseDuration(formatDuration(d)); err != nil || got != d {
			t.Fatalf("%s: %s: %s, %v", d, formatDuration(d), got, err)
		}
		share := float64(rapid.IntRange(0, 1000).Draw(t, "permille")) / 1000
		if got, err := ParsePercent(formatPercent(share)); err != nil || formatPercent(got) != formatPercent(share) {
			t.Fatalf("%v: %s: %v, %v", share, formatPercent(share), got, err)
		}
	})
}
