package ledger

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// kept is a protection of r@name as "keep", by ann.
func kept(name string) Protection {
	return Protection{Name: "keep", Repo: "r", Digest: dig(name), Tag: "t", Owner: "ann", Reason: "audit", Created: at(1000)}
}

func protect(t *testing.T, l *Ledger, all ...Protection) {
	t.Helper()
	for _, p := range all {
		must(t, l.RecordProtection(t.Context(), p))
	}
}

func protectionsHere(t *testing.T, l *Ledger, repo, name string) []Protection {
	t.Helper()
	all, err := l.ProtectionsOf(t.Context(), repo, dig(name))
	must(t, err)
	return all
}

func diff(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestOneNameIsGivenToManyManifestsAndOneManifestHasManyNames(t *testing.T) {
	l := inMay(t)
	a, b, other := kept("a"), kept("b"), kept("a")
	other.Name = "keep-2"
	elsewhere := kept("a")
	elsewhere.Repo = "r2"
	protect(t, l, a, b, other, elsewhere)
	diff(t, "names of a", protectionsHere(t, l, "r", "a"), []Protection{a, other})
	diff(t, "names of b", protectionsHere(t, l, "r", "b"), []Protection{b})
	diff(t, "names of c", protectionsHere(t, l, "r", "c"), []Protection(nil))
	named := []Protection{a, b}
	slices.SortFunc(named, func(x, y Protection) int { return strings.Compare(x.Digest.Encoded(), y.Digest.Encoded()) })
	diff(t, "named keep", collect(t, l.Protections(t.Context(), "keep")), append(named, elsewhere))
	diff(t, "all", collect(t, l.Protections(t.Context(), "")), append(named, elsewhere, other))
}

func TestAProtectionIsRemovedFromOneManifestAlone(t *testing.T) {
	l := inMay(t)
	protect(t, l, kept("a"), kept("b"))
	must(t, l.RemoveProtection(t.Context(), "keep", "r", dig("a"), "bob"))
	diff(t, "names of a", protectionsHere(t, l, "r", "a"), []Protection(nil))
	diff(t, "all", collect(t, l.Protections(t.Context(), "")), []Protection{kept("b")})
	if err := l.RemoveProtection(t.Context(), "keep", "r", dig("a"), "bob"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removing it again: got %v, want fs.ErrNotExist", err)
	}
}

func TestProtectionsAreInTheHistoryAndMoveNoTag(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordEvent(t.Context(), Event{Time: at(1), Repo: "r", Tag: "t", Digest: dig("later"), Event: Seen}))
	p := kept("a")
	p.Expires = at(2000)
	protect(t, l, p)
	must(t, l.RemoveProtection(t.Context(), "keep", "r", dig("a"), "bob"))
	untagged := kept("b")
	untagged.Tag = ""
	protect(t, l, untagged)

	state, err := l.Tag(t.Context(), "r", "t")
	must(t, err)
	diff(t, "tag", state, TagState{Repo: "r", Tag: "t", Digest: dig("later"), Since: at(1)})
	events, err := l.History(t.Context(), "r", "t")
	must(t, err)
	said := dig("a").String() + ` protected as "keep" by ann until 2026-07-23T08:00:00Z: audit`
	diff(t, "history", events[1:], []Event{
		{Seq: 2, Time: at(1000), Repo: "r", Tag: "t", Previous: dig("later"), Event: Protected, By: "ann", Reason: said},
		{Seq: 3, Time: at(1000), Repo: "r", Tag: "t", Previous: dig("later"), Event: Unprotected, By: "bob", Reason: said},
	})
	events, err = l.History(t.Context(), "r", "")
	must(t, err)
	if len(events) != 1 || events[0].Event != Protected {
		t.Errorf("history of the repository: %v", events)
	}
}

func TestWhatIsProtectedAgainKeepsSinceWhen(t *testing.T) {
	l := inMay(t)
	protect(t, l, kept("a"))
	again := kept("a")
	again.Created, again.Tag = at(1001), "other"
	protect(t, l, again)
	diff(t, "the same again", protectionsHere(t, l, "r", "a"), []Protection{kept("a")})
	events, err := l.History(t.Context(), "r", "other")
	must(t, err)
	diff(t, "events of the same again", events, []Event(nil))

	again.Expires = at(3000)
	protect(t, l, again)
	again.Created = at(1000)
	diff(t, "with another end", protectionsHere(t, l, "r", "a"), []Protection{again})
}

func TestAProtectionEndsWhenItExpires(t *testing.T) {
	p := kept("a")
	if !p.Active(at(1 << 20)) {
		t.Error("one without an end has ended")
	}
	p.Expires = at(7)
	if !p.Active(at(7).Add(-1)) || p.Active(at(7)) {
		t.Error("it does not end when it expires")
	}
	l := inMay(t)
	protect(t, l, p)
	diff(t, "expired", protectionsHere(t, l, "r", "a"), []Protection{p})
}

func TestProtectionsSurviveARebuildAndAnUnlinkedManifest(t *testing.T) {
	path := ledgerPath(t)
	l := mustOpen(t, path, Options{})
	protect(t, l, kept("a"))
	must(t, l.RecordUnlinked(t.Context(), "r", dig("a")))
	must(t, l.RebuildGraph(t.Context(), every[RepoManifest](nil)))
	must(t, l.Close())
	l = mustOpen(t, path, Options{})
	diff(t, "after a rebuild", protectionsHere(t, l, "r", "a"), []Protection{kept("a")})
}

func TestALedgerWithoutProtectionsGetsThem(t *testing.T) {
	path := ledgerPath(t)
	must(t, mustOpen(t, path, Options{}).Close())
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bucketProtection)) }))
	must(t, db.Close())
	l := mustOpen(t, path, Options{})
	protect(t, l, kept("a"))
	diff(t, "protections", protectionsHere(t, l, "r", "a"), []Protection{kept("a")})
}

func TestAProtectionThatCannotBeReadBackIsRefused(t *testing.T) {
	l := inMay(t)
	for _, c := range []struct {
		name  string
		spoil func(*Protection)
	}{
		{"no name", func(p *Protection) { p.Name = "" }},
		{"a name with a blank", func(p *Protection) { p.Name = "a b" }},
		{"a name that ends a key", func(p *Protection) { p.Name = "a\x00b" }},
		{"a name with a line", func(p *Protection) { p.Name = "a\n" }},
		{"a name that is too long", func(p *Protection) { p.Name = strings.Repeat("a", 129) }},
		{"no repository", func(p *Protection) { p.Repo = "" }},
		{"a digest that is none", func(p *Protection) { p.Digest = "sha256:x" }},
		{"a tag that ends a key", func(p *Protection) { p.Tag = "a\x00b" }},
		{"no owner", func(p *Protection) { p.Owner = "" }},
		{"an owner that moves the cursor", func(p *Protection) { p.Owner = "\x1b[2J" }},
		{"a reason of two lines", func(p *Protection) { p.Reason = "a\nb" }},
		{"a reason that is too long", func(p *Protection) { p.Reason = strings.Repeat("a", 1025) }},
		{"an end that no key holds", func(p *Protection) { p.Expires = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC) }},
	} {
		p := kept("a")
		c.spoil(&p)
		if err := l.RecordProtection(t.Context(), p); err == nil {
			t.Errorf("%s was recorded", c.name)
		}
	}
	diff(t, "all", collect(t, l.Protections(t.Context(), "")), []Protection(nil))
}

func TestWhatReadsNoProtectionSaysSo(t *testing.T) {
	l := inMay(t)
	protect(t, l, kept("a"))
	must(t, l.update(t.Context(), func(tx *bolt.Tx) error {
		k, _, err := protectionKeys("keep", "r", dig("a"))
		if err != nil {
			return err
		}
		return protectionBucket(tx, protectionName).Put(k, []byte("{"))
	}))
	if _, err := l.ProtectionsOf(t.Context(), "r", dig("a")); err == nil {
		t.Error("damage was taken for no protection")
	}
	if _, err := l.ProtectionsOf(t.Context(), "r", digest.Digest("x")); err == nil {
		t.Error("a malformed digest was taken for one without protections")
	}
}
