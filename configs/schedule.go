package configs

import (
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"
	"time"

	"github.com/netresearch/go-cron"
)

// Schedule says when something runs by itself. The zero Schedule never runs.
//
// An interval has a spread, so that rules that began together do not go on
// together: each is shorter by a fixed part of itself that depends on the name
// of its job, less than a tenth and less than ten minutes. Never is it longer
// than what was written.
type Schedule struct {
	text   string
	every  time.Duration
	spread time.Duration
	cron   cron.Schedule
}

// Next is the first time after after that is due, and the zero time if none is.
func (s Schedule) Next(after time.Time) time.Time {
	switch {
	case s.cron != nil:
		return s.cron.Next(after.In(time.Local))
	case s.every > 0:
		return after.Add(s.every - s.spread)
	}
	return time.Time{}
}

// Never reports whether it was written so.
func (s Schedule) Never() bool { return s.text == never }

// String is what was written.
func (s Schedule) String() string { return s.text }

const (
	never      = "never"
	shortest   = time.Minute
	mostSpread = 10 * time.Minute
)

// named is the schedule with the spread of a job's name.
func (s Schedule) named(name string) Schedule {
	h := fnv.New64a()
	h.Write([]byte(name))
	most := min(s.every/10, mostSpread)
	if most > 0 {
		s.spread = time.Duration(h.Sum64() % uint64(most))
	}
	return s
}

var (
	scheduleText = regexp.MustCompile(`^(?:` + durationPattern + `|@(?:hourly|daily|midnight|weekly|monthly|yearly|annually)|` + never + `|(?:CRON_TZ=\S+ +)?[^\s=@]+(?: +[^\s=@]+){4})$`)
	lines        = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom).WithMaxSearchYears(10)
)

// parseSchedule reads a duration, a cron line, or never.
func parseSchedule(text string) (Schedule, error) {
	if !scheduleText.MatchString(text) {
		return Schedule{}, errors.New(`is neither a duration nor a cron line (examples: "6h", "30 2 * * *", "@daily", "never")`)
	}
	if text == never {
		return Schedule{text: text}, nil
	}
	if durationText.MatchString(text) {
		every, err := ParseDuration(text)
		if err == nil && every < shortest {
			err = fmt.Errorf("is less than %s", formatDuration(shortest))
		}
		return Schedule{text: text, every: every}, err
	}
	c, err := lines.Parse(text)
	if err != nil {
		return Schedule{}, fmt.Errorf("is not a cron line: %s (example: \"30 2 * * *\": every day at 2:30)", cause(err))
	}
	if c.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Schedule{}, errors.New("is a cron line for a day that never comes")
	}
	return Schedule{text: text, cron: c}, nil
}

// cause is an error of the cron library in one line.
func cause(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
