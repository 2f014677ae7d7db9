package ledger

import (
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
)

func isAbsent(t *testing.T, l *Ledger, repo, name string) bool {
	t.Helper()
	got, err := l.Absent(t.Context(), repo, dig(name))
	must(t, err)
	return got
}

// TestWhereverAWideningIsCutTheChildIsAbsentOrServed ends the process after
// every transaction of a publication that brings a child which was left out.
func TestWhereverAWideningIsCutTheChildIsAbsentOrServed(t *testing.T) {
	amd, arm := image("amd"), image("arm")
	both := index("both", amd, arm)
	type cut struct {
		file   copied
		served bool
	}
	var cuts []cut
	var faults []error
	served := false
	path := ledgerPath(t)
	l := mustOpen(t, path, Options{committed: func() {
		file, err := copyOf(path)
		faults = append(faults, err)
		cuts = append(cuts, cut{file, served})
	}})
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{amd, both}, []digest.Digest{dig("arm")}))
	sparse := len(cuts)
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{amd, arm, both}, nil))
	served = true // the registry's link is made here
	must(t, l.RecordServed(t.Context(), "r", dig("amd"), dig("arm"), dig("both")))
	must(t, errors.Join(faults...))
	if isAbsent(t, l, "r", "arm") {
		t.Error("a child that is served is absent")
	}
	if len(cuts) < sparse+2 {
		t.Fatalf("%d transactions, of which %d made the sparse image", len(cuts), sparse)
	}
	for i, c := range cuts[sparse-1:] {
		after := mustOpen(t, c.file.write(t), Options{})
		if !c.served && !isAbsent(t, after, "r", "arm") {
			t.Errorf("cut %d: the child is neither served nor absent", i)
		}
		must(t, after.Close())
	}
}

func TestWhatIsLeftOutIsAbsentUntilItIsServed(t *testing.T) {
	l := inMay(t)
	amd, arm, riscv := image("amd"), image("arm"), image("riscv")
	both := index("both", amd, arm, riscv)
	sparse := func(repo string) {
		t.Helper()
		must(t, l.RecordGraph(t.Context(), repo, []mirror.Manifest{amd, both}, []digest.Digest{dig("arm"), dig("riscv")}))
	}
	check := func(when string, want ...string) {
		t.Helper()
		for _, repo := range []string{"r", "r/below"} {
			for _, name := range []string{"amd", "arm", "riscv", "both", "unknown"} {
				if got := isAbsent(t, l, repo, name); got != slices.Contains(want, repo+"@"+name) {
					t.Errorf("%s: %s is absent in %s: %v", when, name, repo, got)
				}
			}
		}
	}
	sparse("r")
	check("in one repository", "r@arm", "r@riscv")
	sparse("r/below")
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{arm}, nil)) // the filter became wider
	check("recorded", "r@arm", "r@riscv", "r/below@arm", "r/below@riscv")
	must(t, l.RecordServed(t.Context(), "r", dig("arm"), dig("amd")))
	check("served", "r@riscv", "r/below@arm", "r/below@riscv")
}

// A publication that was cut short leaves links in the ledger alone; the rule
// may be narrower when it runs again.
func TestWhatWasRecordedAndNeverServedMayBeLeftOut(t *testing.T) {
	l := inMay(t)
	amd, arm := image("amd"), image("arm")
	both := index("both", amd, arm)
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{amd, arm, both}, nil))
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{amd, both}, []digest.Digest{dig("arm")}))
	if !isAbsent(t, l, "r", "arm") {
		t.Error("what is left out is not absent")
	}
}

func TestRecordServedWithNothingToEndWritesNothing(t *testing.T) {
	commits := 0
	l := mustOpen(t, ledgerPath(t), Options{committed: func() { commits++ }})
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{image("a")}, []digest.Digest{dig("b")}))
	before := commits
	must(t, l.RecordServed(t.Context(), "r", dig("a"), dig("unknown")))
	must(t, l.RecordServed(t.Context(), "r"))
	if commits != before {
		t.Errorf("%d transactions, want none", commits-before)
	}
	for _, c := range []struct {
		repo string
		d    digest.Digest
	}{{"", dig("a")}, {"a\x00b", dig("a")}, {"r", "sha256:abc"}} {
		if err := l.RecordServed(t.Context(), c.repo, c.d); err == nil {
			t.Errorf("%q@%s was recorded", c.repo, c.d)
		}
	}
}

func TestARebuildEndsTheMarksOfWhatItFinds(t *testing.T) {
	both := index("both", image("arm"), image("riscv"))
	asFound := []RepoManifest{{Repo: "r", Manifest: image("arm")}, {Repo: "r", Manifest: both, Absent: []digest.Digest{dig("arm"), dig("riscv")}}}
	for name, found := range map[string][]RepoManifest{
		"the child comes first": asFound,
		"the index comes first": {asFound[1], asFound[0]},
	} {
		t.Run(name, func(t *testing.T) {
			l := inMay(t)
			must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{both}, []digest.Digest{dig("arm")}))
			must(t, l.RebuildGraph(t.Context(), every(nil, found...)))
			if isAbsent(t, l, "r", "arm") || !isAbsent(t, l, "r", "riscv") {
				t.Errorf("arm, which was found, is absent: %v; riscv, which was not: %v", isAbsent(t, l, "r", "arm"), isAbsent(t, l, "r", "riscv"))
			}
		})
	}
}
