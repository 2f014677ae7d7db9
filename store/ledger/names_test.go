package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"lastro/mirror"
	"lastro/store/ledger/file"
)

func TestAPageOfTagsIsThoseAfterAName(t *testing.T) {
	l := inMay(t)
	var events []Event
	for _, tag := range []string{"1", "1.0", "10", "2", "B", "a", "a-b"} {
		events = append(events, Event{Time: at(1), Repo: "r", Tag: tag, Event: Seen, Digest: dig(tag)})
	}
	for _, repo := range []string{"q", "r-", "r/below", "s"} {
		events = append(events, Event{Time: at(1), Repo: repo, Tag: "elsewhere", Event: Seen, Digest: dig("a")})
	}
	must(t, l.ImportEvents(t.Context(), events))
	for _, c := range []struct {
		name, repo, after string
		limit             int
		want              string
		more              bool
	}{
		{"the first", "r", "", 2, "1 1.0", true},
		{"after one that is there", "r", "1", 2, "1.0 10", true},
		{"after one that is not", "r", "1.5", 2, "10 2", true},
		{"capital letters before small ones", "r", "2", 2, "B a", true},
		{"as many as there are", "r", "B", 2, "a a-b", false},
		{"fewer than asked for", "r", "a", 9, "a-b", false},
		{"after the last", "r", "a-b", 9, "", false},
		{"after what no name contains", "r", "1\x00", 1, "1.0", true},
		{"none of some", "r", "", 0, "", true},
		{"none of none", "r", "z", 0, "", false},
		{"less than none", "r", "", -1, "", true},
		{"all", "r", "", int(^uint(0) >> 1), "1 1.0 10 2 B a a-b", false},
		{"a repository that is none", "none", "", 9, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			names, more, err := l.TagPage(t.Context(), c.repo, c.after, c.limit)
			if got := strings.Join(names, " "); got != c.want || more != c.more || err != nil {
				t.Errorf("%q, more %v, %v; want %q, %v", got, more, err, c.want, c.more)
			}
		})
	}
}

func TestARepositoryIsHeldThatHasATagOrAManifest(t *testing.T) {
	l := inMay(t)
	must(t, l.ImportEvents(t.Context(), []Event{{Time: at(1), Repo: "a/tagged", Tag: "1", Event: Seen, Digest: dig("a")}}))
	must(t, l.RecordGraph(t.Context(), "z/linked", []mirror.Manifest{{Descriptor: ocispec.Descriptor{Digest: dig("z"), Size: 1}}}, nil))
	for repo, want := range map[string]bool{
		"a/tagged": true, "z/linked": true, "a": false, "a/tag": false, "a/tagged/x": false, "a/taggee": false, "z/linke": false, "zz": false, "": false,
	} {
		if held, err := l.Holds(t.Context(), repo); held != want || err != nil {
			t.Errorf("%q: %v, %v", repo, held, err)
		}
	}
	must(t, l.RecordUnlinked(t.Context(), "z/linked", dig("z")))
	if held, err := l.Holds(t.Context(), "z/linked"); held || err != nil {
		t.Errorf("after its last manifest went: %v, %v", held, err)
	}
}

func TestAPageLongerThanATransactionReadsIsWhole(t *testing.T) {
	l := inMay(t)
	want := many(2*file.PageSize, func(i int) string { return fmt.Sprintf("%05d", i) })
	must(t, l.ImportEvents(t.Context(), many(len(want), func(i int) Event {
		return Event{Time: at(1), Repo: "r", Tag: want[i], Event: Seen, Digest: dig("a")}
	})))
	for _, limit := range []int{len(want) - 1, len(want), len(want) + 1} {
		got, more, err := l.TagPage(t.Context(), "r", "", limit)
		must(t, err)
		if n := min(limit, len(want)); !slices.Equal(got, want[:n]) || more != (n < len(want)) {
			t.Errorf("%d of %d tags, more %v", len(got), limit, more)
		}
	}
}

// inPathOrder orders as a walk of folders does.
func inPathOrder(names []string) []string {
	return slices.SortedFunc(slices.Values(names), func(a, b string) int { return strings.Compare(pathKey(a), pathKey(b)) })
}

func pathKey(name string) string { return strings.ReplaceAll(name, "/", "\x00") }

func TestRepositoriesComeInTheOrderOfTheirPaths(t *testing.T) {
	l := inMay(t)
	// One that holds a manifest and has no tag, and one with both.
	must(t, l.RecordGraph(t.Context(), "a-b", []mirror.Manifest{image("x")}, nil))
	must(t, l.RecordGraph(t.Context(), "a/b", []mirror.Manifest{image("x")}, nil))
	for _, repo := range []string{"a/b", "a", "a.b/c", "a/b-c", "a/b/c", "z-z", "z/y"} {
		must(t, l.RecordEvent(t.Context(), Event{Repo: repo, Tag: "1", Event: Seen, Digest: dig("x")}))
	}
	want := []string{"a", "a/b", "a/b/c", "a/b-c", "a-b", "a.b/c", "z/y", "z-z"}
	got, more, err := l.RepositoryPage(t.Context(), "", 100)
	if diff := cmp.Diff(want, got); diff != "" || more || err != nil {
		t.Errorf("more %v, %v: %s", more, err, diff)
	}
	if diff := cmp.Diff(inPathOrder(want), want); diff != "" {
		t.Error(diff)
	}
}

// TestAPageOfRepositoriesIsWhatSortingSays asks for pages anywhere among names
// that differ where the order of keys and that of paths part.
func TestAPageOfRepositoriesIsWhatSortingSays(t *testing.T) {
	path := rapid.StringMatching(`[ab][-.0a]{0,2}(/[ab][-.0a]{0,2}){0,2}`)
	l := inMay(t)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(path, 0, 25, rapid.ID[string]).Draw(t, "names")
		var found []RepoManifest
		for _, repo := range names {
			found = append(found, RepoManifest{Repo: repo, Manifest: image("x")})
		}
		if err := l.RebuildGraph(t.Context(), every(nil, found...)); err != nil {
			t.Fatal(err)
		}
		after := rapid.OneOf(path, rapid.Just(""), rapid.StringOfN(rapid.RuneFrom([]rune("ab-./0\x00")), 0, 6, -1)).Draw(t, "after")
		limit := rapid.IntRange(0, 30).Draw(t, "limit")
		want := slices.DeleteFunc(inPathOrder(names), func(n string) bool { return pathKey(n) <= pathKey(after) })
		left := len(want) > limit
		got, more, err := l.RepositoryPage(t.Context(), after, limit)
		if diff := cmp.Diff(want[:min(limit, len(want))], got, cmpopts.EquateEmpty()); diff != "" || more != left || err != nil {
			t.Fatalf("more %v, want %v, %v: %s", more, left, err, diff)
		}
	})
}
