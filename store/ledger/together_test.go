package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"lastro/mirror"
)

// together does what many parts of a daemon do at once, count times each, and
// waits for them.
func together(ctx context.Context, l *Ledger, count int) error {
	var group sync.WaitGroup
	faults := make(chan error, 100*count)
	for part := range 4 {
		for _, do := range []func(i int) error{
			func(i int) error {
				return l.RecordEvent(ctx, Event{Repo: "r", Tag: "shared", Event: Moved, Digest: dig(fmt.Sprint(part, i%3))})
			},
			func(i int) error {
				return l.RecordEvent(ctx, Event{Repo: "r", Tag: fmt.Sprint(part), Event: Moved, Digest: dig(fmt.Sprint(i))})
			},
			func(i int) error {
				child := image(fmt.Sprint("child ", part, i), layer("common"))
				return errors.Join(
					l.RecordGraph(ctx, "r", []mirror.Manifest{child, about(child, index(fmt.Sprint("index ", part, i), child))}, nil),
					l.RecordServed(ctx, "r", child.Descriptor.Digest))
			},
			func(i int) error {
				for _, err := range l.Tags(ctx, "") {
					if err != nil {
						return err
					}
				}
				_, parentsErr := l.Parents(ctx, dig("common"))
				_, historyErr := l.History(ctx, "r", "shared")
				return errors.Join(parentsErr, historyErr)
			},
			func(i int) error {
				return l.RebuildGraph(ctx, every(nil, RepoManifest{Repo: "r", Manifest: image(fmt.Sprint("found ", i), layer("common"))}))
			},
		} {
			group.Go(func() {
				for i := range count {
					faults <- do(i)
				}
			})
		}
	}
	group.Wait()
	close(faults)
	var all []error
	for err := range faults {
		all = append(all, err)
	}
	return errors.Join(all...)
}

func TestWhatManyDoAtOnceIsWholeInTheEnd(t *testing.T) {
	const count = 20
	path := ledgerPath(t)
	l := mustOpen(t, path, Options{})
	must(t, together(t.Context(), l, count))
	checkWhole(t, l)
	if seq, err := l.LastSeq(t.Context()); seq != 2*4*count || err != nil {
		t.Errorf("%d events, %v; want %d", seq, err, 2*4*count)
	}
	checkChain(t, l)
	must(t, l.Close())
	l = mustOpen(t, path, Options{})
	checkWhole(t, l)
	checkChain(t, l)
}

// checkChain fails unless every event of the shared tag says what was before.
func checkChain(t *testing.T, l *Ledger) {
	t.Helper()
	history, err := l.History(t.Context(), "r", "shared")
	must(t, err)
	var was Event
	for _, e := range history {
		if e.Time.Before(was.Time) || e.Previous != was.Digest && e.Digest != was.Digest {
			t.Errorf("after %+v came %+v", was, e)
		}
		was = e
	}
}

func TestClosingWhileManyAreAtWorkLosesNothingThatWasRecorded(t *testing.T) {
	path := ledgerPath(t)
	l := mustOpen(t, path, Options{})
	recorded := make(chan string, 1000)
	var group sync.WaitGroup
	for part := range 8 {
		group.Go(func() {
			for i := 0; ; i++ {
				tag := fmt.Sprintf("%d.%d", part, i)
				err := l.RecordEvent(t.Context(), Event{Repo: "r", Tag: tag, Event: Seen, Digest: dig(tag)})
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case recorded <- tag:
				default: // enough were
				}
			}
		})
	}
	<-recorded
	must(t, l.Close())
	group.Wait()
	close(recorded)
	l = mustOpen(t, path, Options{})
	if l.Unclean() {
		t.Error("a ledger that was closed is unclean")
	}
	for tag := range recorded {
		if _, err := l.Tag(t.Context(), "r", tag); err != nil {
			t.Error(err)
		}
	}
}
