package ledger

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/mirror"
)

func TestWhatIsUnlinkedIsNoPartOfItsRepositoryAndOfNoOther(t *testing.T) {
	l := inMay(t)
	subject := image("subject", layer("x"))
	signature := about(subject, image("signature"))
	for _, repo := range []string{"r", "r/below"} {
		must(t, l.RecordGraph(t.Context(), repo, []mirror.Manifest{subject, signature}, []digest.Digest{dig("left out")}))
		must(t, l.RecordReferrersChecked(t.Context(), repo, at(1), dig("signature")))
	}
	must(t, l.RecordUnlinked(t.Context(), "r", dig("signature")))
	for repo, want := range map[string][]digest.Digest{"r": {dig("subject")}, "r/below": sorted(dig("subject"), dig("signature"))} {
		if diff := cmp.Diff(want, collect(t, l.Links(t.Context(), repo))); diff != "" {
			t.Errorf("%s: %s", repo, diff)
		}
		list, err := l.Referrers(t.Context(), repo, dig("subject"))
		if len(list) != len(want)-1 || err != nil {
			t.Errorf("%s: %d referrers, %v", repo, len(list), err)
		}
		checked, err := l.ReferrersChecked(t.Context(), repo, dig("signature"))
		if checked.IsZero() != (repo == "r") || err != nil {
			t.Errorf("%s: checked at %v, %v", repo, checked, err)
		}
		if !isAbsent(t, l, repo, "left out") {
			t.Errorf("%s: what was left out is not absent", repo)
		}
	}
}

func TestTheGraphKeepsWhatNobodyHoldsUntilARebuild(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{image("m", layer("x"))}, nil))
	must(t, l.RecordUnlinked(t.Context(), "r", dig("m")))
	parents, err := l.Parents(t.Context(), dig("x"))
	if diff := cmp.Diff([]digest.Digest{dig("m")}, parents); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
	if names := collect(t, l.Repositories(t.Context())); len(names) > 0 {
		t.Errorf("repositories: %q", names)
	}
	must(t, l.RebuildGraph(t.Context(), every[RepoManifest](nil)))
	if parents, err := l.Parents(t.Context(), dig("x")); len(parents) > 0 || err != nil {
		t.Errorf("after a rebuild: %v, %v", parents, err)
	}
}

func TestWhatIsUnlinkedDuringARebuildIsInNeitherGraph(t *testing.T) {
	l := inMay(t)
	must(t, l.RebuildGraph(t.Context(), func(func(RepoManifest, error) bool) {
		must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{image("m")}, nil))
		must(t, l.RecordUnlinked(t.Context(), "r", dig("m")))
		if linked, err := l.Linked(t.Context(), "r", dig("m")); linked || err != nil {
			t.Errorf("during the rebuild: %v, %v", linked, err)
		}
	}))
	if linked, err := l.Linked(t.Context(), "r", dig("m")); linked || err != nil {
		t.Errorf("after the rebuild: %v, %v", linked, err)
	}
}

func TestUnlinkingWhatIsNotThereWritesNothing(t *testing.T) {
	commits := 0
	l := mustOpen(t, ledgerPath(t), Options{committed: func() { commits++ }})
	must(t, l.RecordUnlinked(t.Context(), "r", dig("m")))
	if commits != 0 {
		t.Errorf("%d transactions, want none", commits)
	}
	for _, c := range []struct {
		repo string
		d    digest.Digest
	}{{"", dig("a")}, {"a\x00b", dig("a")}, {"r", "sha256:abc"}} {
		if err := l.RecordUnlinked(t.Context(), c.repo, c.d); err == nil {
			t.Errorf("%q@%s was recorded", c.repo, c.d)
		}
	}
}
