package main

import (
	"fmt"
	"time"

	"lastro/configs"
)

// stamp is how a time looks in text: UTC, to the second.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// parseTime reads an RFC 3339 time or a date: its beginning, in UTC.
func parseTime(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// timeFlag reads a time that a person typed: an RFC 3339 time, a date (its
// beginning, in UTC) or an age. Nothing typed is def.
func (c *cli) timeFlag(flag, text string, def time.Time) (time.Time, error) {
	if text == "" {
		return def, nil
	}
	if t, ok := parseTime(text); ok {
		return t, nil
	}
	if age, err := configs.ParseDuration(text); err == nil {
		return c.now().Add(-age), nil
	}
	return time.Time{}, usageError{fmt.Errorf("%s %q is no time (examples: 2026-05-01, 2026-05-01T12:00:00Z, 7d)", flag, text)}
}
