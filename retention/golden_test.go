package retention

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestReasons shows what a person reads, for each kind of reason there is.
func TestReasons(t *testing.T) {
	rules := []Compiled{
		compiled(t, Rule{Match: "**", Keep: Keep{Last: 2, Tags: []string{"*-lts"}}, MaxRemovals: 1, Line: "lastro.yaml:12"}),
		compiled(t, Rule{Match: "lib/*", Keep: Keep{Within: 36 * time.Hour, Tags: []string{"stable", "s*"}}, MaxRemovals: 1}),
		compiled(t, Rule{Match: "all/*", MaxRemovals: 1}),
	}
	tags := append(aged(0, 1, 9), Tag{Name: "stable", Digest: "s", Since: now.Add(-40 * day)}, Tag{Name: "unknown", Digest: "u"},
		Tag{Name: "v1-lts", Digest: "l", Since: now.Add(-80 * day)}, attached("sig-kept", "1", "digest of d01"),
		attached("sig-gone", "2", "digest of d09"), attached("sig-lost", "3", "nowhere"))
	var all []Decision
	for _, repo := range []string{"lib/a", "all/b"} {
		ds, err := Decide(repo, tags, rules, now)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ds...)
	}
	for _, only := range []Rule{{Match: "else/*", MaxRemovals: 1}, {Match: "**", Keep: Keep{Within: time.Hour}, MaxRemovals: 1}} {
		ds, err := Decide("lib/c", aged(8, 9), []Compiled{compiled(t, only)}, now)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ds...)
	}
	versions := compiled(t, Rule{Match: "**", Keep: Keep{PerVariant: 1, PerMajor: 2, Semver: "b1"}, MaxRemovals: 1, Line: "lastro.yaml:20"})
	var tagged []Tag
	for _, name := range []string{"a1", "a2", "a3", "b1", "b2", "latest"} {
		tagged = append(tagged, Tag{Name: name, Digest: "digest of " + name, Since: now.Add(-9 * day)})
	}
	ds, err := Decide("lib/d", tagged, []Compiled{versions}, now)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, ds...)
	used := compiled(t, Rule{Match: "**", Keep: Keep{Pulled: 30 * day}, MaxRemovals: 1, Line: "lastro.yaml:30"})
	if ds, err = Decide("lib/e", []Tag{
		{Name: "used", Since: now.Add(-99 * day), Pulled: now.Add(-29 * day)}, {Name: "unused", Since: now.Add(-99 * day), Pulled: now.Add(-30 * day)},
		{Name: "unknown", Since: now.Add(-99 * day)},
	}, []Compiled{used}, now); err != nil {
		t.Fatal(err)
	}
	all = append(all, ds...)
	safe := compiled(t, Rule{Match: "**", Keep: Keep{Last: 1}, RequireBackup: "main", Untagged: new(14 * day), MaxRemovals: 1, Line: "lastro.yaml:40"})
	if ds, err = Decide("lib/f", []Tag{
		{Name: "new", Since: now}, {Name: "unsaved", Since: now.Add(-9 * day)}, {Name: "saved", Since: now.Add(-9 * day), Backups: []string{"main"}},
		{Name: "protected", Since: now.Add(-9 * day), Backups: []string{"main"}, Protections: []Protection{{`protected as "audit" by ann until 2026-06-01T00:00:00Z: case 7`, now.Add(92*day - 12*time.Hour)}}},
	}, []Compiled{safe}, now); err != nil {
		t.Fatal(err)
	}
	all = append(all, ds...)
	golden(t, "reasons.json", append(all, DecideUnlinked("lib/f", Unlinked{Digest: "left", How: Moved, Left: now.Add(-2 * day), Pulled: now.Add(-9 * day), Backups: []string{"main"}}, []Compiled{safe}, now)))
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Error(diff)
	}
}
