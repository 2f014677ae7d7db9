package ledger

import (
	"testing"
)

func TestAPublicationAndItsCheckAreOneTransaction(t *testing.T) {
	commits := 0
	l := mustOpen(t, ledgerPath(t), Options{committed: func() { commits++ }})
	e := Event{Time: at(1), Repo: "r", Tag: "v1", Digest: dig("a"), Event: Seen, By: "sync"}
	must(t, l.RecordPublished(t.Context(), e))
	if commits != 1 {
		t.Errorf("%d transactions, want 1", commits)
	}
	if known, err := l.Tag(t.Context(), "r", "v1"); err != nil || known.Digest != e.Digest {
		t.Errorf("the tag is %v, %v", known, err)
	}
	if checked, err := l.ReferrersChecked(t.Context(), "r", e.Digest); err != nil || !checked.Equal(at(1)) {
		t.Errorf("checked at %v, %v", checked, err)
	}
}

func TestAPublicationThatIsRefusedChecksNothing(t *testing.T) {
	l := mustOpen(t, ledgerPath(t), Options{})
	e := Event{Time: at(1), Repo: "r", Tag: "v\x001", Digest: dig("a"), Event: Seen}
	if err := l.RecordPublished(t.Context(), e); err == nil {
		t.Error("a tag with a zero byte is taken")
	}
	if checked, err := l.ReferrersChecked(t.Context(), "r", e.Digest); err != nil || !checked.IsZero() {
		t.Errorf("checked at %v, %v", checked, err)
	}
}

func TestRecordingAGraphAgainWritesNothing(t *testing.T) {
	commits := 0
	l := mustOpen(t, ledgerPath(t), Options{committed: func() { commits++ }})
	ms := largeIndexes(1)
	must(t, l.RecordGraph(t.Context(), "r", ms, nil))
	before := commits
	must(t, l.RecordGraph(t.Context(), "r", ms, nil))
	if commits != before {
		t.Errorf("%d transactions, want none", commits-before)
	}
}
