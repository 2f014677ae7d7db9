package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func heldTag(tag string) TagHold {
	return TagHold{Repo: "r", Tag: tag, Digest: dig("old"), By: "ann", Reason: "1.4 is broken", Since: at(1000)}
}

func TestAHoldStaysUntilItIsReleased(t *testing.T) {
	path := ledgerPath(t)
	now := Options{Now: func() time.Time { return at(1000) }}
	l := mustOpen(t, path, now)
	if _, ok, err := l.TagHold(t.Context(), "r", "t"); ok || err != nil {
		t.Fatalf("a ledger without holds: %v, %v", ok, err)
	}
	diff(t, "none", collect(t, l.TagHolds(t.Context())), []TagHold(nil))
	if err := l.RecordTagReleased(t.Context(), "r", "t", "bob", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("releasing what is not held: got %v, want fs.ErrNotExist", err)
	}
	must(t, l.RecordEvent(t.Context(), Event{Time: at(1), Repo: "r", Tag: "t", Digest: dig("old"), Event: RolledBack}))
	unset := heldTag("t")
	unset.Since = time.Time{}
	must(t, l.RecordTagHold(t.Context(), unset))
	must(t, l.RecordTagHold(t.Context(), heldTag("t2")))
	must(t, l.RebuildGraph(t.Context(), every[RepoManifest](nil)))
	must(t, l.Close())

	l = mustOpen(t, path, now)
	h, ok, err := l.TagHold(t.Context(), "r", "t")
	must(t, err)
	diff(t, "hold", []any{h, ok}, []any{heldTag("t"), true})
	diff(t, "all", collect(t, l.TagHolds(t.Context())), []TagHold{heldTag("t"), heldTag("t2")})

	must(t, l.RecordTagReleased(t.Context(), "r", "t", "bob", ""))
	diff(t, "what is left", collect(t, l.TagHolds(t.Context())), []TagHold{heldTag("t2")})
	if _, ok, err := l.TagHold(t.Context(), "r", "t"); ok || err != nil {
		t.Errorf("it is held after its release: %v, %v", ok, err)
	}
	events, err := l.History(t.Context(), "r", "t")
	must(t, err)
	last := events[len(events)-1]
	diff(t, "event", []string{last.Event, last.By, last.Reason, string(last.Digest)}, []string{Released, "bob", "rolled back by ann on 2026-06-11T16:00:00Z: 1.4 is broken", ""})
	state, err := l.Tag(t.Context(), "r", "t")
	must(t, err)
	diff(t, "tag", state.Digest, dig("old"))
}

func TestAnotherHoldReplacesTheFirst(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordTagHold(t.Context(), heldTag("t")))
	again := heldTag("t")
	again.Digest, again.Reason = dig("older"), ""
	must(t, l.RecordTagHold(t.Context(), again))
	diff(t, "all", collect(t, l.TagHolds(t.Context())), []TagHold{again})
}

func TestHoldsComeInPages(t *testing.T) {
	l := inMay(t)
	const n = 1001
	text := func(tag string) []byte { return fmt.Appendf(nil, `{"repo":"r","tag":%q}`, tag) }
	must(t, l.update(t.Context(), func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucketHold))
		for i := 0; i < n && err == nil; i++ {
			tag := fmt.Sprintf("%04d", i)
			err = b.Put(tagKey("r", tag), text(tag))
		}
		return err
	}))
	all := collect(t, l.TagHolds(t.Context()))
	if len(all) != n || all[n-1].Tag != "1000" {
		t.Errorf("got %d holds, want %d", len(all), n)
	}
}

func TestAHoldThatCannotBeReadBackIsRefused(t *testing.T) {
	l := inMay(t)
	for _, c := range []struct {
		name  string
		spoil func(*TagHold)
	}{
		{"no repository", func(h *TagHold) { h.Repo = "" }},
		{"no tag", func(h *TagHold) { h.Tag = "" }},
		{"a tag that ends a key", func(h *TagHold) { h.Tag = "a\x00b" }},
		{"a digest that is none", func(h *TagHold) { h.Digest = "x" }},
		{"a reason of two lines", func(h *TagHold) { h.Reason = "a\nb" }},
		{"somebody of too many letters", func(h *TagHold) { h.By = strings.Repeat("a", 1025) }},
	} {
		h := heldTag("t")
		c.spoil(&h)
		if err := l.RecordTagHold(t.Context(), h); err == nil {
			t.Errorf("%s was recorded", c.name)
		}
	}
	diff(t, "all", collect(t, l.TagHolds(t.Context())), []TagHold(nil))
}

func TestAHoldThatDoesNotReadIsNotTakenForNone(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordTagHold(t.Context(), heldTag("t")))
	must(t, l.update(t.Context(), func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketHold)).Put(tagKey("r", "t"), []byte("{")) }))
	if _, _, err := l.TagHold(t.Context(), "r", "t"); err == nil {
		t.Error("damage was taken for no hold")
	}
	if err := l.RecordTagReleased(t.Context(), "r", "t", "bob", ""); err == nil {
		t.Error("damage was released")
	}
}
