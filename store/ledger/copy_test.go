package ledger

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// lived is a ledger that went through a life.
func lived(t *testing.T) *Ledger {
	t.Helper()
	l := mustOpen(t, ledgerPath(t), Options{})
	for _, step := range life() {
		must(t, step(t.Context(), l))
	}
	return l
}

func TestACopyIsTheLedgerOfThatMoment(t *testing.T) {
	l := lived(t)
	to := filepath.Join(t.TempDir(), "copy.db")
	must(t, l.RecordEvent(t.Context(), Event{Repo: "r", Tag: "pulled", Event: Seen, Digest: dig("root")}))
	l.NotePull("r", "pulled", dig("root"), at(9))
	size, err := l.Copy(t.Context(), to)
	if err != nil || size < 1<<16 {
		t.Fatalf("%d bytes, %v", size, err)
	}
	if _, err := l.Copy(t.Context(), to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	before := dump(t, l)
	must(t, l.RecordEvent(t.Context(), ev(5, Seen, dig("later"))))

	var said bytes.Buffer
	c, err := Open(to, Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
	must(t, err)
	defer c.Close()
	if diff := cmp.Diff(before, dump(t, c)); diff != "" {
		t.Error(diff)
	}
	if !c.Unclean() || !strings.Contains(said.String(), "is a copy of one that was in use") {
		t.Errorf("unclean %v, and it says %q", c.Unclean(), &said)
	}
	if pulled, err := c.LastPulled(t.Context(), "r", "pulled", ""); err != nil || !pulled.Equal(at(9)) {
		t.Errorf("a pull that was noted is not in the copy: %v, %v", pulled, err)
	}
}

func TestALedgerThatLivedHasNoProblems(t *testing.T) {
	got, err := lived(t).Check(t.Context())
	if err != nil || len(got.Problems) > 0 || got.Bytes == 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestACheckFindsFactsThatDoNotAgree(t *testing.T) {
	put := func(bucket string, k, v []byte) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Put(k, v) }
	}
	end := func(bucket string, k []byte) func(*bolt.Tx) error {
		return func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete(k) }
	}
	e := ev(1, Seen, dig("a"))
	e.Seq = 1
	state := func(d digest.Digest) []byte {
		k, err := digestKey(d)
		must(t, err)
		return appendTime(k, e.Time)
	}
	for _, c := range []struct {
		name   string
		change func(*bolt.Tx) error
		want   string
	}{
		{"an event that cannot be read", put(bucketEvent, numberKey(1), []byte(`{"time":`)), "unexpected end of JSON"},
		{"an event that says what cannot be", put(bucketEvent, numberKey(1), []byte(`{"time":"2026-05-01T00:00:00Z","repo":"","event":"seen"}`)), "repository is empty"},
		{"an event of another digest than history has", put(bucketHistory, historyKey(e), append([]byte{entryAt}, state(dig("b"))[:33]...)), "event 1 is not in the history of " + name(e.Repo, e.Tag)},
		{"an event without history", end(bucketHistory, historyKey(e)), "there are 1 events and 0 entries of history"},
		{"history without an event", end(bucketEvent, numberKey(1)), "there are 0 events and 1 entries of history"},
		{"a key in history that is none", put(bucketHistory, []byte("x"), nil), "malformed key"},
		{"an entry in history that is none", put(bucketHistory, historyKey(e), []byte{7}), "malformed key"},
		{"a tag at another digest", put(bucketTag, tagKey(e.Repo, e.Tag), state(dig("b"))), "and its history says"},
		{"a tag that cannot be read", put(bucketTag, tagKey(e.Repo, e.Tag), []byte("x")), "read tag state"},
		{"a tag that is lost", end(bucketTag, tagKey(e.Repo, e.Tag)), "and its history says"},
		{"a tag that nobody recorded", put(bucketTag, tagKey("x", "y"), state(dig("a"))), "there are 2 tags and history has 1"},
		{"a number that would be given twice", func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketEvent)).SetSequence(0) }, "the next event would be number 1, and there is one 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := mustOpen(t, ledgerPath(t), Options{})
			must(t, l.RecordEvent(t.Context(), ev(1, Seen, dig("a"))))
			must(t, l.update(t.Context(), c.change))
			got, err := l.Check(t.Context())
			if err != nil || !strings.Contains(strings.Join(got.Problems, "\n"), c.want) {
				t.Errorf("got %q, %v; want %q", got.Problems, err, c.want)
			}
		})
	}
}

func TestACheckKeepsSoManyProblems(t *testing.T) {
	l := mustOpen(t, ledgerPath(t), Options{})
	must(t, l.update(t.Context(), func(tx *bolt.Tx) error {
		for i := range uint64(2 * maxProblems) {
			if err := tx.Bucket([]byte(bucketEvent)).Put(numberKey(i+1), []byte("{")); err != nil {
				return err
			}
		}
		return nil
	}))
	got, err := l.Check(t.Context())
	if err != nil || len(got.Problems) != maxProblems || !got.More {
		t.Errorf("got %d problems, more %v, %v", len(got.Problems), got.More, err)
	}
}
