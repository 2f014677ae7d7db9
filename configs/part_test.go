package configs

import (
	"strings"
	"testing"
	"time"
)

func TestTheCheckHasDefaultsAndIsOn(t *testing.T) {
	c := mustLoad(t, "{}", nil).Check
	if c.Every.Never() || c.Every.String() != "24h" || c.Part != 30 || c.Bandwidth != 20<<20 || !c.Repair {
		t.Errorf("%+v", c)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if next := c.Every.Next(now).Sub(now); next > 24*time.Hour || next < 23*time.Hour+49*time.Minute {
		t.Errorf("next after %s", next)
	}
}

func TestTheCheckIsRead(t *testing.T) {
	c := mustLoad(t, "check: {every: never, part: 1/7, bandwidth: 1MiB, repair: false}", nil).Check
	if !c.Every.Never() || c.Part != 7 || c.Bandwidth != 1<<20 || c.Repair {
		t.Errorf("%+v", c)
	}
}

func TestACheckThatCannotBeMeantIsRefused(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing of all", "check: {part: 1/0}", `check.part: "1/0" is not a part`},
		{"a part that is not the first", "check: {part: 2/30}", `"2/30" is not a part`},
		{"a number", "check: {part: 30}", "check.part"},
		{"more parts than there are days", "check: {part: 1/1000}", "1/999"},
		{"a bandwidth with which nothing ends", "check: {bandwidth: 4kB}", "check.bandwidth: \"4kB\" is less than 64KiB"},
		{"a time that is none", "check: {every: sometimes}", "check.every"},
		{"an unknown key", "check: {reapir: true}", "reapir"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := loadText(c.text, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
