package configs

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

var units = map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": day, "w": 7 * day}

const durationPattern = `(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d|w))+`

var (
	durationText = regexp.MustCompile(`^` + durationPattern + `$`)
	durationPart = regexp.MustCompile(`([0-9.]+)(ms|s|m|h|d|w)`)
	percentText  = regexp.MustCompile(`^(?:100(?:\.0+)?|[0-9]{1,2}(?:\.[0-9]+)?)%$`)
)

// ParseDuration reads 90s, 1h30m, 7d or 2w. A day is 24 hours.
func ParseDuration(text string) (time.Duration, error) {
	if !durationText.MatchString(text) {
		return 0, fmt.Errorf(`%q is not a duration (examples: "90s", "1h30m", "7d", "2w")`, text)
	}
	var sum float64
	for _, part := range durationPart.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseFloat(part[1], 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration: %w", text, err)
		}
		sum += n * float64(units[part[2]])
	}
	if sum > 100*365*float64(day) {
		return 0, fmt.Errorf("%q is longer than a hundred years", text)
	}
	return time.Duration(math.Round(sum)), nil
}

// formatDuration writes what ParseDuration reads.
func formatDuration(d time.Duration) string {
	var b strings.Builder
	for _, unit := range []string{"d", "h", "m"} {
		if n := d / units[unit]; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + unit)
			d %= units[unit]
		}
	}
	if d > 0 || b.Len() == 0 {
		b.WriteString(strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s")
	}
	return b.String()
}

// ParsePercent reads 20% as 0.2.
func ParsePercent(text string) (float64, error) {
	if !percentText.MatchString(text) {
		return 0, fmt.Errorf(`%q is not a percentage from 0%% to 100%% (example: "20%%")`, text)
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	return n / 100, err
}

func formatPercent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1e10)/1e8, 'f', -1, 64) + "%"
}
