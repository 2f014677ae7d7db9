package check

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/layout"
)

// crowd is a site with more images than may be wrong at once.
type crowd struct {
	*site
	known []digest.Digest // their indexes
}

func many(t *testing.T) *crowd {
	t.Helper()
	s := &crowd{site: newSite(t)}
	for i := range least {
		m := image(fmt.Sprint("many-", i), s.all)
		m.MustPut(t, s.Store, "many", fmt.Sprint(i))
		s.known = append(s.known, m.Root.Digest)
	}
	return s
}

func TestACautiousCheckHealsNothingWhenTheDiskIsGone(t *testing.T) {
	s := many(t)
	for _, name := range []string{layout.Repositories, layout.Blobs} {
		if err := os.Rename(s.path(name), s.path(name+".elsewhere")); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Part: 1, Parts: 1, Repair: true, Cautious: true, Sources: []Source{s.all}}
	r := s.check(t, o)
	if !strings.Contains(r.Refused, "is the disk mounted") || r.Repaired > 0 || !strings.Contains(words(r), "refused to heal: ") {
		t.Fatal(words(r))
	}
	for _, name := range []string{layout.Repositories, layout.Blobs} {
		if err := os.Rename(s.path(name+".elsewhere"), s.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	s.clean(t) // the ledger has forgotten nothing
}

func TestACautiousCheckTakesNoMoreOutThanATenth(t *testing.T) {
	for _, cautious := range []bool{true, false} {
		t.Run(fmt.Sprint("cautious ", cautious), func(t *testing.T) {
			s := many(t)
			bad := 0
			for d, raw := range s.all {
				if !bytes.HasPrefix(raw, []byte("layer of many")) {
					continue
				}
				write(t, s.path(layout.Data(d)), bytes.ToUpper(raw))
				bad++
			}
			r := s.check(t, Options{Part: 1, Parts: 1, Quarantine: true, Cautious: cautious})
			taken, err := os.ReadDir(s.path(store.Quarantine + "/sha256"))
			if err != nil {
				t.Fatal(err)
			}
			if allowed := max(least, r.Blobs/10); cautious && (len(taken) > allowed || len(taken) < least || r.Refused == "") {
				t.Errorf("%d of %d taken: %s", len(taken), bad, r.Refused)
			}
			if !cautious && (len(taken) != bad || r.Refused != "") {
				t.Errorf("%d of %d taken: %s", len(taken), bad, r.Refused)
			}
		})
	}
}

// So it is in the first moments of a daemon whose ledger was lost.
func TestACautiousCheckLetsTheLedgerLearnAll(t *testing.T) {
	s := many(t)
	for i := range s.known {
		if err := s.Ledger().RecordUnlinked(t.Context(), "many", s.known[i]); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.check(t, Options{Repair: true, Cautious: true}); r.Refused != "" || r.Left() > 0 || len(r.Problems) < least {
		t.Error(words(r))
	}
	s.clean(t)
}

func TestACautiousCheckHealsAFew(t *testing.T) {
	s := many(t)
	s.remove(t, layout.Data(layer(s.tools, 0, 2)), "")
	r := s.check(t, Options{Repair: true, Cautious: true, Sources: []Source{s.all}})
	if r.Refused != "" || r.Left() > 0 || len(r.Problems) != 1 {
		t.Error(words(r))
	}
	s.clean(t)
}

func TestEachKindSaysWhatToDo(t *testing.T) {
	for _, kind := range Kinds() {
		for _, repair := range []bool{false, true} {
			if next := (Problem{Kind: kind}).next(repair); next == "" {
				t.Errorf("%s, repair %v: nothing", kind, repair)
			}
		}
	}
	for kind, want := range map[Kind]string{Orphaned: "lastro collect", Abandoned: "lastro serve", Corrupt: "lastro check --repair", Edges: "lastro rebuild"} {
		if next := (Problem{Kind: kind}).next(false); !strings.Contains(next, want) {
			t.Errorf("%s: %s", kind, next)
		}
	}
}
