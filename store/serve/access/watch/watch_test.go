package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFilesThatChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	now := time.Unix(1e9, 0)
	f := New(func() time.Time { return now }, path, path+".key")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	step := func(name string, after time.Duration, want bool) {
		t.Helper()
		now = now.Add(after)
		if got := f.Changed(); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	write(path, "one")
	step("the first look", 0, true)
	step("nothing", pause, false)
	write(path, "three")
	step("too early", pause/2, false)
	step("in time", pause/2, true)
	write(path+".key", "x")
	step("the other one", pause, true)
	f.Done(false)
	step("it was wrong: too early", 0, false)
	step("it was wrong", pause, true)
	f.Done(true)
	step("it was right", pause, false)
	write(path, "a longer one")
	f.Now()
	step("at once", 0, true)
	if err := os.Rename(path+".key", path); err != nil {
		t.Fatal(err)
	}
	step("another file of that name, and one that has gone", pause, true)
	step("it is still gone", pause, false)
}
