package configs

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSizesAreRead(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "1B": 1, "1kB": 1000, "1KiB": 1024, "1.5MB": 1_500_000, "50MiB": 50 << 20, "2GB": 2e9, "1GiB": 1 << 30, "1TB": 1e12, "3TiB": 3 << 40,
	} {
		if got, err := ParseSize(text); got != want || err != nil {
			t.Errorf("%s: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1 MiB", "1mib", "1M", "1,5MB", "MiB", "1e6", "99999999999999999999TiB", "0x10"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is taken as %d", text, got)
		}
	}
}

func TestSizesAreWrittenAsTheyAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<50).Draw(t, "n")
		if got, err := ParseSize(formatSize(n)); got != n || err != nil {
			t.Fatalf("%d is written %s and read %d, %v", n, formatSize(n), got, err)
		}
	})
	if got := formatSize(50 << 20); got != "50MiB" {
		t.Errorf("got %s", got)
	}
}
