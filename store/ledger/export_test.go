package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

func export(t *testing.T, l *Ledger) string {
	t.Helper()
	var out strings.Builder
	_, err := l.Export(t.Context(), &out)
	must(t, err)
	return out.String()
}

// noGraph does not finish an import.
func noGraph(*Ledger) error { return nil }

// imported is a ledger of an export.
func imported(t *testing.T, text string, now time.Time) *Ledger {
	t.Helper()
	path := ledgerPath(t)
	o := Options{Now: func() time.Time { return now }}
	_, err := Import(t.Context(), path, strings.NewReader(text), o, noGraph)
	must(t, err)
	return mustOpen(t, path, o)
}

// made says which buckets no export has, and how they come back.
var made = map[string]string{
	bucketHistory: "with the events",
	bucketTag:     "with the events",
	bucketNamed:   "with the events",
	bucketGraph:   "from the registry, by a rebuild",
	bucketReview:  "from what nothing leads to any more, by who collects",
	bucketDue:     "with the reviews",
}

func TestEveryBucketIsExportedOrMadeAnew(t *testing.T) {
	l := mustOpen(t, ledgerPath(t), Options{})
	grow(t, l, true)
	must(t, l.view(t.Context(), func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			exported := []string{"meta", bucketEvent, bucketAbsent, bucketChecked, bucketKnown, bucketAsked, bucketJob, bucketHeld, bucketProtection, bucketHold, bucketPulled, bucketSelf}
			if !slices.Contains(exported, string(name)) && made[string(name)] == "" {
				t.Errorf("what becomes of the bucket %s in an export?", name)
			}
			return nil
		})
	}))
}

func TestAnExportHasEverythingThatCannotBeMadeAnew(t *testing.T) {
	now := func() time.Time { return at(20) }
	l := mustOpen(t, ledgerPath(t), Options{Now: now})
	grow(t, l, true)
	must(t, l.RecordTagHold(t.Context(), TagHold{Repo: "docker.io/library/a", Tag: "1", Digest: dig("both"), By: "ann", Since: at(3)}))
	text := export(t, l)
	again := imported(t, text, at(20))
	without := func(all map[string]string) map[string]string {
		maps.DeleteFunc(all, func(k, _ string) bool { return strings.HasPrefix(k, "graph/") })
		return all
	}
	if diff := cmp.Diff(without(facts(t, l)), without(facts(t, again))); diff != "" {
		t.Errorf("-exported +imported\n%s", diff)
	}
	if diff := cmp.Diff(text, export(t, again)); diff != "" {
		t.Error(diff)
	}
	if checked, err := again.Check(t.Context()); err != nil || len(checked.Problems) > 0 {
		t.Errorf("got %+v, %v", checked, err)
	}
	for _, want := range []string{`{"ledger":{"format":1,"time":"2026-05-01T20:00:00Z","events":308}}`, `{"event":{"seq":1,"time":"2026-05-01T00:00:00Z","repo":"docker.io/library/a","tag":"1",`,
		`{"absent":{"repo":"docker.io/library/a","digest":"sha256:`, `{"checked":`, `{"known":`, `{"asked":{"repo":"docker.io/library/a","tag":"1","time":"2026-05-01T08:00:00Z"}}`,
		`{"job":{"name":"sync a",`, `{"held":{"vault":"main","digest":"sha256:`, `{"protection":{"name":"release",`, `{"hold":{"repo":"docker.io/library/a","tag":"1","digest":"sha256:`, `{"pulls_since":"2026-05-01T20:00:00Z"}`, `{"pulled":{"repo":"docker.io/library/a","tag":"1","time":"2026-05-01T10:00:00Z"}}`} {
		if !strings.Contains(text, "\n"+want) && !strings.HasPrefix(text, want) {
			t.Errorf("no line begins with %s", want)
		}
	}
}

func TestALifeComesBackFromItsExport(t *testing.T) {
	l := lived(t)
	since, err := l.PullsSince(t.Context())
	must(t, err)
	text := export(t, l)
	_, rest, _ := strings.Cut(text, "\n")
	_, got, _ := strings.Cut(export(t, imported(t, text, since)), "\n")
	if got != rest {
		t.Error(cmp.Diff(rest, got))
	}
}

// writes calls what is to happen once, when the first of an export is written.
type writes struct {
	strings.Builder
	first func()
}

func (w *writes) Write(b []byte) (int, error) {
	if w.first != nil {
		w.first()
		w.first = nil
	}
	return w.Builder.Write(b)
}

func TestAnExportHasTheEventsThatWereThereWhenItBegan(t *testing.T) {
	l := lived(t)
	last, err := l.LastSeq(t.Context())
	must(t, err)
	out := &writes{first: func() { must(t, l.RecordEvent(t.Context(), ev(9, Seen, dig("late")))) }}
	if _, err := l.Export(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	if out.first != nil {
		t.Fatal("nothing was written")
	}
	if n, err := imported(t, out.String(), at(9)).LastSeq(t.Context()); err != nil || n != last {
		t.Errorf("the last event is number %d, %v; want %d", n, err, last)
	}
}

func TestEventsThatAreEqualStayAsManyAsTheyAre(t *testing.T) {
	l := mustOpen(t, ledgerPath(t), Options{})
	for range 3 {
		must(t, l.RecordEvent(t.Context(), Event{Time: at(1), Repo: "r", Tag: "t", Event: "alarm", By: "sync"}))
	}
	must(t, l.RecordEvent(t.Context(), Event{Time: at(0), Repo: "other", Tag: "t", Event: Seen, Digest: dig("a")}))
	again := imported(t, export(t, l), at(2))
	var seqs []string
	for e, err := range again.Events(t.Context(), 0) {
		must(t, err)
		seqs = append(seqs, fmt.Sprint(e.Seq, e.Repo))
	}
	if diff := cmp.Diff([]string{"1r", "2r", "3r", "4other"}, seqs); diff != "" {
		t.Error(diff)
	}
	must(t, again.RecordEvent(t.Context(), ev(5, Seen, dig("b"))))
	if n, err := again.LastSeq(t.Context()); err != nil || n != 5 {
		t.Errorf("the next event is number %d, %v", n, err)
	}
}

func TestNumbersThatAreMissingStayMissingAndPullsOfTagsThatAreGoneGo(t *testing.T) {
	event := func(seq int, tag string) string {
		return fmt.Sprintf(`{"event":{"seq":%d,"time":"2026-05-01T00:00:00Z","repo":"r","tag":"%s","digest":"%s","previous":"","event":"seen","by":"","reason":""}}`, seq, tag, dig("a"))
	}
	text := strings.Join([]string{
		`{"ledger":{"format":1,"time":"2026-05-01T09:00:00Z","events":9}}`,
		event(3, "a"), event(7, "b"),
		`{"pulls_since":"2026-05-01T09:00:00Z"}`,
		`{"pulled":{"repo":"r","tag":"b","time":"2026-05-01T10:00:00Z"}}`,
		`{"pulled":{"repo":"r","tag":"gone","time":"2026-05-01T10:00:00Z"}}`,
		`{"end":{"facts":5}}`, "",
	}, "\n")
	want := strings.Replace(strings.Replace(text, `{"pulled":{"repo":"r","tag":"gone","time":"2026-05-01T10:00:00Z"}}`+"\n", "", 1), `"facts":5`, `"facts":4`, 1)
	l := imported(t, text, at(9))
	if diff := cmp.Diff(want, export(t, l)); diff != "" {
		t.Error(diff)
	}
	must(t, l.RecordEvent(t.Context(), ev(1, Seen, dig("a"))))
	if n, err := l.LastSeq(t.Context()); err != nil || n != 10 {
		t.Errorf("the next event is number %d, %v; want 10", n, err)
	}
}

func TestPullsAreNotSaidToBeNotedSinceBeforeTheImport(t *testing.T) {
	for _, c := range []struct {
		name                string
		known, exported, is time.Time
	}{
		{"an export of an older ledger", at(9), at(1), at(9)},
		{"an export of a clock that goes before", at(9), at(11), at(11)},
	} {
		l := mustOpen(t, ledgerPath(t), Options{Now: func() time.Time { return c.exported }})
		got, err := imported(t, export(t, l), c.known).PullsSince(t.Context())
		if err != nil || !got.Equal(c.is) {
			t.Errorf("%s: since %s, %v; want %s", c.name, got, err, c.is)
		}
	}
}

func TestWhatIsNoWholeExportIsRefusedByItsLineAndLeavesNothing(t *testing.T) {
	const (
		start = `{"ledger":{"format":1,"time":"2026-05-01T00:00:00Z","events":9}}` + "\n"
		event = `{"event":{"seq":1,"time":"2026-05-01T00:00:00Z","repo":"r","tag":"t","digest":"","previous":"","event":"alarm","by":"","reason":""}}` + "\n"
		end   = `{"end":{"facts":0}}` + "\n"
	)
	one := func(line string) string { return start + line + "\n" + `{"end":{"facts":1}}` + "\n" }
	sha := dig("a").String()
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "line 1: the export ends before its last line"},
		{"something else", "hello\n", "line 1: this is not what lastro ledger export writes"},
		{"other JSON", "{}\n", "line 1: this is not what lastro ledger export writes"},
		{"another format", `{"ledger":{"format":2,"novel":true}}` + "\n" + `{"novel":1}` + "\n", "line 1: it is an export of format 2, and this lastro reads format 1: use a lastro"},
		{"no end", start + event, "line 3: the export ends before its last line: it was cut short"},
		{"half a line", start + event[:40], "line 2: the export ends before its last line"},
		{"lines that are missing", start + end[:len(end)-4] + "1}}\n", "line 2: there are 0 facts, and there were 1"},
		{"lines that are too many", start + event + end, "line 3: there are 1 facts, and there were 0"},
		{"something after the end", start + end + event, "line 3: something follows the end"},
		{"two exports", start + start, "line 2: a second export begins"},
		{"an unknown fact", one(`{"novel":1}`), `line 2: json: unknown field "novel"`},
		{"an unknown part of a fact", one(`{"absent":{"repo":"r","digest":"` + sha + `","novel":1}}`), `line 2: json: unknown field "novel"`},
		{"no fact", one(`{}`), "line 2: 0 facts where one belongs"},
		{"two facts", one(`{"pulls_since":"2026-05-01T00:00:00Z","job":{"name":"a"}}`), "line 2: 2 facts where one belongs"},
		{"two facts on a line", one(`{"job":{"name":"a"}}{"job":{"name":"b"}}`), "line 2: more than one fact"},
		{"no JSON", one(`{"job":`), "line 2: unexpected EOF"},
		{"a number that came before", start + event + event + `{"end":{"facts":2}}` + "\n", "line 3: event 1 comes after event 1"},
		{"an event without a number", one(strings.TrimSpace(strings.Replace(event, `"seq":1,`, "", 1))), "line 2: event 0 comes after event 0"},
		{"an event that comes after the last", strings.Replace(one(strings.TrimSpace(event)), `"events":9`, `"events":0`, 1), "there is an event 1"},
		{"an event without a time", one(strings.TrimSpace(strings.Replace(event, "2026-05-01T00:00:00Z", "0001-01-01T00:00:00Z", 1))), "line 2: event has no time"},
		{"an event without a repository", one(strings.TrimSpace(strings.Replace(event, `"repo":"r"`, `"repo":""`, 1))), "line 2: repository is empty"},
		{"a digest that is none", one(`{"absent":{"repo":"r","digest":"sha256:12"}}`), "line 2: digest \"sha256:12\""},
		{"a tag where a digest belongs", one(`{"checked":{"repo":"r","tag":"t","time":"2026-05-01T00:00:00Z"}}`), "line 2: a tag where a digest belongs"},
		{"a digest where a tag belongs", one(`{"asked":{"repo":"r","digest":"` + sha + `","time":"2026-05-01T00:00:00Z"}}`), "line 2: a tag where a digest belongs, or a digest where a tag does"},
		{"both", one(`{"known":{"repo":"r","tag":"t","digest":"` + sha + `","time":"2026-05-01T00:00:00Z"}}`), "line 2: both a tag and a digest"},
		{"neither", one(`{"asked":{"repo":"r","time":"2026-05-01T00:00:00Z"}}`), "line 2: neither a tag nor a digest"},
		{"a time that is missing", one(`{"known":{"repo":"r","digest":"` + sha + `"}}`), "line 2: a time is missing"},
		{"a time that is out of range", one(`{"known":{"repo":"r","digest":"` + sha + `","time":"9999-05-01T00:00:00Z"}}`), "line 2: time 9999-05-01 00:00:00 +0000 UTC is out of range"},
		{"a job without a name", one(`{"job":{"name":""}}`), "line 2: job has no name"},
		{"a vault without a name", one(`{"held":{"vault":"","digest":"` + sha + `"}}`), "line 2: vault has no name"},
		{"a hold without a tag", one(`{"hold":{"repo":"r","digest":"` + sha + `","by":"ann","since":"2026-05-01T00:00:00Z"}}`), "line 2: tag is empty"},
		{"a protection without an owner", one(`{"protection":{"name":"a","repo":"r","digest":"` + sha + `","owner":"","created":"2026-05-01T00:00:00Z"}}`), "line 2: owner is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := ledgerPath(t)
			_, err := Import(t.Context(), path, strings.NewReader(c.text), Options{}, noGraph)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			isEmpty(t, path)
		})
	}
}

// isEmpty looks for what is left of a ledger that was not made.
func isEmpty(t *testing.T, path string) {
	t.Helper()
	left, err := filepath.Glob(path + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// endless is a line that does not end.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	e.read += len(b)
	return copy(b, bytes.Repeat([]byte("x"), len(b))), nil
}

func TestALineThatDoesNotEndIsNotReadToItsEnd(t *testing.T) {
	var line endless
	_, err := Import(t.Context(), ledgerPath(t), &line, Options{}, noGraph)
	if err == nil || !strings.Contains(err.Error(), "line 1: longer than") || line.read > maxLine+1<<20 {
		t.Errorf("got %v after %d bytes", err, line.read)
	}
}

func TestAnImportMakesALedgerAndChangesNone(t *testing.T) {
	l := mustOpen(t, ledgerPath(t), Options{})
	text := export(t, l)
	path := ledgerPath(t)
	must(t, os.WriteFile(path, []byte("mine"), 0o600))
	if _, err := Import(t.Context(), path, strings.NewReader(text), Options{}, noGraph); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	// And one that comes while it is made stays as well.
	late := ledgerPath(t)
	_, err := Import(t.Context(), late, strings.NewReader(text), Options{}, func(*Ledger) error { return os.WriteFile(late, []byte("mine"), 0o600) })
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	for _, path := range []string{path, late} {
		if got, err := os.ReadFile(path); err != nil || string(got) != "mine" {
			t.Errorf("it says %q now, %v", got, err)
		}
	}
}

func TestAnImportThatIsNotFinishedLeavesNothing(t *testing.T) {
	text := export(t, lived(t))
	fault := errors.New("fault")
	path := ledgerPath(t)
	must(t, os.WriteFile(path+importSuffix, []byte("half"), 0o600)) // of one that crashed
	if _, err := Import(t.Context(), path, strings.NewReader(text), Options{}, func(*Ledger) error { return fault }); !errors.Is(err, fault) {
		t.Errorf("got %v, want the fault", err)
	}
	isEmpty(t, path)
	if _, err := Import(t.Context(), path, io.MultiReader(strings.NewReader(text[:len(text)/2]), failing{fault}), Options{}, noGraph); !errors.Is(err, fault) {
		t.Errorf("got %v, want the fault", err)
	}
	isEmpty(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Import(ctx, path, strings.NewReader(text), Options{committed: cancel}, noGraph); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	isEmpty(t, path)
	commits := 0
	_, err := Import(t.Context(), path, strings.NewReader(text), Options{committed: func() {
		commits++
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after transaction %d there is a ledger: %v", commits, err)
		}
	}}, noGraph)
	if err != nil || commits < 2 {
		t.Errorf("%d transactions, %v", commits, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
