package retention

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func attached(name, digest, subject string) Tag {
	return Tag{Name: name, Digest: digest, Subject: subject}
}

func TestAttachedTagsFollowTheirSubject(t *testing.T) {
	for _, c := range []struct {
		name string
		keep Keep
		tags []Tag
		want []string // removed
	}{
		{name: "a signature goes with its image, after it",
			keep: Keep{Last: 1}, tags: append(aged(1, 9), attached("a-sig", "s", "digest of d09")), want: []string{"d09", "a-sig"}},
		{name: "a signature stays with its image", keep: Keep{Last: 1}, tags: append(aged(1, 9), attached("sig", "s", "digest of d01")), want: []string{"d09"}},
		{name: "a signature of two tags stays while one of them does",
			keep: Keep{Last: 1}, tags: []Tag{{Name: "new", Digest: "same", Since: now}, {Name: "old", Digest: "same", Since: now.Add(-day)}, attached("sig", "s", "same")}, want: []string{"old"}},
		{name: "what is attached to a signature follows too",
			keep: Keep{Last: 1}, tags: append(aged(1, 9), attached("sig", "s", "digest of d09"), attached("on-sig", "o", "s")), want: []string{"d09", "on-sig", "sig"}},
		{name: "what is attached below an index follows the index",
			keep: Keep{Last: 1}, tags: []Tag{{Name: "new", Digest: "n", Since: now}, {Name: "old", Digest: "o", Below: []string{"child"}, Since: now.Add(-day)}, attached("sig", "s", "child")}, want: []string{"old", "sig"}},
		{name: "a child of a tag that stays keeps its signature",
			keep: Keep{Last: 1}, tags: []Tag{{Name: "new", Digest: "n", Below: []string{"child"}, Since: now}, {Name: "old", Digest: "o", Below: []string{"child"}, Since: now.Add(-day)}, attached("sig", "s", "child")}, want: []string{"old"}},
		{name: "a signature without an image stays", keep: Keep{Last: 1}, tags: append(aged(1, 9), attached("sig", "s", "nowhere")), want: []string{"d09"}},
		{name: "signatures of each other end", keep: Keep{Last: 1}, tags: append(aged(1, 9), attached("x", "x", "y"), attached("y", "y", "x")), want: []string{"d09"}},
		{name: "attached tags are not counted by last",
			keep: Keep{Last: 2}, tags: append(aged(3, 4), Tag{Name: "sig", Digest: "s", Subject: "digest of d03", Since: now}), want: nil},
		{name: "attached tags are not kept by name or age",
			keep: Keep{Last: 1, Tags: []string{"sig"}, Within: 2 * day}, tags: append(aged(3, 4), Tag{Name: "sig", Digest: "s", Subject: "digest of d04", Since: now}), want: []string{"d04", "sig"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Decide("lib/a", c.tags, []Compiled{keeping(t, c.keep)}, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, removed(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAttachedTagsAreNotCountedByTheGuard(t *testing.T) {
	tags := aged(1, 2, 3, 4, 5) // one of five may go
	for _, name := range []string{"s1", "s2", "s3"} {
		tags = append(tags, attached(name, name, "digest of d05"))
	}
	rule := compiled(t, Rule{Match: "**", Keep: Keep{Last: 4}, MaxRemovals: 0.2})
	got, err := Decide("lib/a", tags, []Compiled{rule}, now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"d05", "s1", "s2", "s3"}, removed(got)); diff != "" {
		t.Error(diff)
	}
}

func TestAnAttachedTagStaysAsLongAsTheLongestLead(t *testing.T) {
	tags := []Tag{
		{Name: "a", Digest: "same", Since: now.Add(-day)},
		{Name: "b", Digest: "same", Since: now},
		attached("sig", "s", "same"),
	}
	got, err := Decide("lib/a", tags, []Compiled{keeping(t, Keep{Within: 3 * day})}, now)
	if err != nil {
		t.Fatal(err)
	}
	d := find(t, got, "sig")
	if want := now.Add(3 * day); !d.Until.Equal(want) || !slices.ContainsFunc(d.Reasons, func(r string) bool { return strings.HasSuffix(r, "tag b") }) {
		t.Errorf("got until %v because %v, want %v because of b", d.Until, d.Reasons, want)
	}
	got, err = Decide("lib/a", tags, []Compiled{keeping(t, Keep{Within: 3 * day, Tags: []string{"a"}})}, now)
	if err != nil {
		t.Fatal(err)
	}
	if d := find(t, got, "sig"); !d.Until.IsZero() {
		t.Errorf("got until %v, want none: tag a stays for a time that is not known", d.Until)
	}
}
