package ledger

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func TestALedgerHasOneNameForEver(t *testing.T) {
	path := ledgerPath(t)
	l := mustOpen(t, path, Options{})
	ids := make([]string, 4)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = l.ID(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	must(t, l.Close())
	again, err := mustOpen(t, path, Options{}).ID(t.Context())
	for _, id := range ids {
		if id == "" || id != again || err != nil {
			t.Errorf("got %q, and later %q, %v", id, again, err)
		}
	}
	if other, err := mustOpen(t, ledgerPath(t), Options{}).ID(t.Context()); err != nil || other == again {
		t.Errorf("another ledger has the name %q too, %v", other, err)
	}
}

func TestALedgerThatIsExportedKeepsItsName(t *testing.T) {
	l := mustOpen(t, ledgerPath(t), Options{Now: func() time.Time { return at(20) }})
	if text := export(t, l); strings.Contains(text, `"self"`) {
		t.Errorf("a ledger that was never asked for its name exports %s", text)
	}
	want, err := l.ID(t.Context())
	must(t, err)
	got, err := imported(t, export(t, l), at(20)).ID(t.Context())
	if err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestOnlyWhatIsKnownUnderOneNameStaysKnown(t *testing.T) {
	l := mustOpen(t, ledgerPath(t), Options{})
	ctx := t.Context()
	for _, vault := range []string{"A", "A@1", "A@2", "B@1"} {
		must(t, l.RecordHeld(ctx, vault, []digest.Digest{dig("x")}))
	}
	must(t, l.ForgetHeldBut(ctx, "A@2", "A"))
	got := map[string]int{}
	for _, vault := range []string{"A", "A@1", "A@2", "B@1"} {
		held, err := l.Held(ctx, vault, []digest.Digest{dig("x")})
		must(t, err)
		got[vault] = len(held)
	}
	if diff := cmp.Diff(map[string]int{"A": 0, "A@1": 0, "A@2": 1, "B@1": 1}, got); diff != "" {
		t.Error(diff)
	}
}
