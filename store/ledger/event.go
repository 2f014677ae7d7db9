package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// What events say. A name that is not here says where its tag is, as Seen does.
const (
	Seen     = "seen"     // the tag was first seen
	Moved    = "moved"    // the tag points at another digest
	Removed  = "removed"  // the tag is gone
	Restored = "restored" // a restore put the tag there
	Adopted  = "adopted"  // the tag was found on disk and not in the ledger
	Pushed   = "pushed"   // a client pushed the tag

	Protected   = "protected"   // a person gave a digest a name, so that it stays; moves no tag
	Unprotected = "unprotected" // a person took the name back; moves no tag

	RolledBack = "rolled-back" // a person put the tag back, and it is held there
	Released   = "released"    // a person ended the hold; moves no tag
)

// Event is one line of history: something that happened to a tag. One with a
// digest says that the tag is at that digest from then on; Removed ends the
// tag; one without a tag or a digest is only noted.
type Event struct {
	Seq      uint64        `json:"-"` // order of recording in this ledger; given by it
	Time     time.Time     `json:"time"`
	Repo     string        `json:"repo"`
	Tag      string        `json:"tag,omitempty"`
	Digest   digest.Digest `json:"digest"`
	Previous digest.Digest `json:"previous"`
	Event    string        `json:"event"`
	By       string        `json:"by"`
	Reason   string        `json:"reason"`
}

// The first byte of a history entry. They are on disk: only add.
const (
	entryNote    = 0
	entryAt      = 1
	entryRemoved = 2
)

// entry is what an event says of where its tag is.
func (e Event) entry() ([]byte, error) {
	switch {
	case e.Tag == "":
		return []byte{entryNote}, nil
	case e.Event == Removed:
		return []byte{entryRemoved}, nil
	case e.Digest == "":
		return []byte{entryNote}, nil
	}
	return appendDigest([]byte{entryAt}, e.Digest)
}

func (e Event) check() error {
	if e.Event == "" {
		return errors.New("event has no name")
	}
	_, err := e.entry()
	return errors.Join(err, checkRepo(e.Repo), checkName("tag", e.Tag), checkTime(e.Time))
}

func (e Event) wrap(what string, err error) error {
	return fmt.Errorf("%s %s of %s: %w", what, e.Event, name(e.Repo, e.Tag), err)
}

func name(repo, tag string) string {
	if tag == "" {
		return repo
	}
	return repo + ":" + tag
}

// historyKey sorts by tag, then by time, then by the order of recording.
func historyKey(e Event) []byte {
	return append(appendTime(namePrefix(e.Repo, e.Tag), e.Time), numberKey(e.Seq)...)
}

// cutHistory reads what follows repo and tag in a history key.
func cutHistory(rest []byte) (t time.Time, seq uint64, err error) {
	t, rest, err = cutTime(rest)
	if err == nil {
		seq, err = number(rest)
	}
	return t, seq, err
}

// RecordEvent appends e and sets or removes the tag's state, in one durable
// transaction. A zero Time is now; a Time before the tag's newest event is
// that event's time. An empty Previous is filled with the digest that the tag
// had, when that was another.
func (l *Ledger) RecordEvent(ctx context.Context, e Event) error {
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	if err := e.check(); err != nil {
		return e.wrap("record", err)
	}
	if err := l.update(ctx, func(tx *bolt.Tx) error { return record(tx, e) }); err != nil {
		return e.wrap("record", err)
	}
	return nil
}

// RecordPublished appends e, which has a digest, as RecordEvent does, and
// records in the same transaction that the upstream was asked at e.Time for
// what refers to e.Digest.
func (l *Ledger) RecordPublished(ctx context.Context, e Event) error {
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	err := e.check()
	if err == nil {
		err = l.update(ctx, func(tx *bolt.Tx) error {
			return errors.Join(recordChecked(tx, e.Repo, e.Time, []digest.Digest{e.Digest}), record(tx, e))
		})
	}
	if err != nil {
		return e.wrap("record", err)
	}
	return nil
}

func record(tx *bolt.Tx, e Event) error {
	prefix := namePrefix(e.Repo, e.Tag)
	if k, _ := newest(tx, prefix); k != nil {
		t, _, err := cutHistory(k[len(prefix):])
		if err != nil {
			return err
		}
		if t.After(e.Time) {
			e.Time = t
		}
	}
	old, ok, err := tagState(tx, e.Repo, e.Tag)
	if err != nil {
		return err
	}
	if ok && e.Previous == "" && (old.Digest != e.Digest || e.Event == Removed) {
		e.Previous = old.Digest
	}
	if err := appendEvent(tx, e); err != nil {
		return err
	}
	if err := follow(tx, e.Repo, e.Tag); err != nil {
		return err
	}
	now, _, err := tagState(tx, e.Repo, e.Tag)
	if err != nil {
		return err
	}
	return tagLeft(tx, old, now, e.Time)
}

// appendEvent gives e its number and writes it and its history entry.
func appendEvent(tx *bolt.Tx, e Event) error {
	events := tx.Bucket([]byte(bucketEvent))
	seq, err := events.NextSequence()
	if err != nil {
		return err
	}
	e.Seq, e.Time = seq, e.Time.UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	entry, err := e.entry()
	if err != nil {
		return err
	}
	if err := events.Put(numberKey(seq), line); err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketHistory)).Put(historyKey(e), entry)
}

func decodeEvent(k, v []byte) (Event, error) {
	var e Event
	seq, err := number(k)
	if err == nil {
		err = json.Unmarshal(v, &e)
	}
	if err != nil {
		return Event{}, fmt.Errorf("read event %x: %w", k, err)
	}
	e.Seq = seq
	return e, nil
}

// historyEvent reads the event of a history key, given what follows its
// repository and tag.
func historyEvent(tx *bolt.Tx, rest []byte) (Event, error) {
	_, seq, err := cutHistory(rest)
	if err != nil {
		return Event{}, err
	}
	k := numberKey(seq)
	return decodeEvent(k, tx.Bucket([]byte(bucketEvent)).Get(k))
}

// History is all events of a tag, the oldest first; none is no error. An empty
// tag asks for what was recorded of the repository itself.
func (l *Ledger) History(ctx context.Context, repo, tag string) ([]Event, error) {
	var events []Event
	prefix := namePrefix(repo, tag)
	scan := file.Scan[Event]{
		Bucket: bucket(bucketHistory),
		Prefix: prefix,
		Decode: func(tx *bolt.Tx, k, _ []byte) (Event, error) { return historyEvent(tx, k[len(prefix):]) },
	}
	for e, err := range scan.All(ctx, l.file) {
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", name(repo, tag), err)
		}
		events = append(events, e)
	}
	return events, nil
}

// Events yields the events recorded after the one numbered after, in the order
// of recording.
func (l *Ledger) Events(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	if after+1 == 0 {
		return func(func(Event, error) bool) {}
	}
	return file.Scan[Event]{
		Bucket: bucket(bucketEvent),
		From:   numberKey(after + 1),
		Decode: func(_ *bolt.Tx, k, v []byte) (Event, error) { return decodeEvent(k, v) },
	}.All(ctx, l.file)
}

// LastSeq is the number of the newest recorded event, zero when there is none.
func (l *Ledger) LastSeq(ctx context.Context) (seq uint64, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		seq = tx.Bucket([]byte(bucketEvent)).Sequence()
		return nil
	})
	return seq, err
}

// ImportEvents records events of another ledger. Those that are here already –
// the same time, repository, tag, event and digest – are skipped, so an import
// that was cut short is run again. Tag states become what the newest event of
// each tag says. Seq is ignored; the order of events at the same time is kept.
func (l *Ledger) ImportEvents(ctx context.Context, events []Event) error {
	for _, e := range events {
		if err := e.check(); err != nil {
			return e.wrap("import", err)
		}
		if e.Time.IsZero() {
			return e.wrap("import", errors.New("event has no time"))
		}
	}
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b Event) int { return a.Time.Compare(b.Time) })
	for page := range slices.Chunk(sorted, file.PageSize) {
		if err := l.update(ctx, func(tx *bolt.Tx) error { return importPage(tx, page) }); err != nil {
			return fmt.Errorf("import events: %w", err)
		}
	}
	return nil
}

// importPage leaves the tag states right, so that each page is whole.
func importPage(tx *bolt.Tx, page []Event) error {
	type tag struct{ repo, tag string }
	touched := map[tag]bool{}
	for _, e := range page {
		known, err := isKnown(tx, e)
		if err != nil {
			return err
		}
		if known {
			continue
		}
		if err := appendEvent(tx, e); err != nil {
			return err
		}
		touched[tag{e.Repo, e.Tag}] = true
	}
	for t := range touched {
		if err := follow(tx, t.repo, t.tag); err != nil {
			return err
		}
	}
	return nil
}

// isKnown looks for e among the tag's events of the same time.
func isKnown(tx *bolt.Tx, e Event) (bool, error) {
	prefix := namePrefix(e.Repo, e.Tag)
	at := appendTime(bytes.Clone(prefix), e.Time)
	c := tx.Bucket([]byte(bucketHistory)).Cursor()
	for k, _ := c.Seek(at); k != nil && bytes.HasPrefix(k, at); k, _ = c.Next() {
		old, err := historyEvent(tx, k[len(prefix):])
		if err != nil {
			return false, err
		}
		if old.Event == e.Event && old.Digest == e.Digest {
			return true, nil
		}
	}
	return false, nil
}
