package ledger

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestADigestIsKnownSinceItWasFirstSeen(t *testing.T) {
	l, err := Open(filepath.Join(t.TempDir(), "ledger.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, first := digest.FromString("d"), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{first, first.Add(time.Hour)} {
		if err := l.RecordUpstream(t.Context(), "repo", at, []string{"1"}, []digest.Digest{d}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := l.Known(t.Context(), "repo", d); err != nil || !got.Equal(first) {
		t.Errorf("known since %v, %v", got, err)
	}
	if got, err := l.Asked(t.Context(), "repo", "1"); err != nil || !got.Equal(first.Add(time.Hour)) {
		t.Errorf("asked at %v, %v", got, err)
	}
}

func TestWhatNobodyRecordedOfAnUpstreamIsTheZeroTime(t *testing.T) {
	l, err := Open(filepath.Join(t.TempDir(), "ledger.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	known, err := l.Known(t.Context(), "repo", digest.FromString("d"))
	if err != nil || !known.IsZero() {
		t.Errorf("known since %v, %v", known, err)
	}
	asked, err := l.Asked(t.Context(), "repo", "1")
	if err != nil || !asked.IsZero() {
		t.Errorf("asked at %v, %v", asked, err)
	}
}

func TestUpstreamRecordsWithoutANameAreRefused(t *testing.T) {
	l, err := Open(filepath.Join(t.TempDir(), "ledger.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.RecordUpstream(t.Context(), "", time.Now(), []string{"1"}, nil); err == nil {
		t.Error("an empty repository was recorded")
	}
	if err := l.RecordUpstream(t.Context(), "repo", time.Now(), []string{"a\x00b"}, nil); err == nil {
		t.Error("a tag with a zero byte was recorded")
	}
	if err := l.RecordUpstream(t.Context(), "repo", time.Now(), nil, []digest.Digest{"sha256:x"}); err == nil {
		t.Error("a malformed digest was recorded")
	}
}
