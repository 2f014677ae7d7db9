package ledger

import (
	"bytes"
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// Checked is what a check of the ledger found.
type Checked = file.Checked

// maxProblems is how many problems a check keeps.
const maxProblems = 100

// Check reads a copy of the ledger as it is now and tells what is wrong with it:
// pages that are not what they should be and, where all are, events, history and
// tags that do not agree. Recording goes on meanwhile. The copy lies beside the
// ledger and is removed; where the disk has no room for it, that is an error.
func (l *Ledger) Check(ctx context.Context) (Checked, error) {
	return l.file.Check(ctx, maxProblems, inspect)
}

// inspection looks for facts that do not agree.
type inspection struct {
	tx     *bolt.Tx
	report func(any) bool
	enough bool
}

// inspect looks at what no rebuild brings back. The graph is made anew from the
// registry, and compared with it by package check.
func inspect(tx *bolt.Tx, report func(any) bool) error {
	i := &inspection{tx: tx, report: report}
	events := i.events()
	entries, tags := i.history()
	if events != entries {
		i.fault("there are %d events and %d entries of history", events, entries)
	}
	if n := tx.Bucket([]byte(bucketTag)).Stats().KeyN; n != tags {
		i.fault("there are %d tags and history has %d", n, tags)
	}
	return nil
}

func (i *inspection) fault(format string, args ...any) {
	if !i.enough {
		i.enough = !i.report(fmt.Errorf(format, args...))
	}
}

// events looks at every event, and for its entry in history.
func (i *inspection) events() (n int) {
	events, history := i.tx.Bucket([]byte(bucketEvent)), i.tx.Bucket([]byte(bucketHistory))
	c, last := events.Cursor(), uint64(0)
	for k, v := c.First(); k != nil && !i.enough; k, v = c.Next() {
		n++
		e, err := decodeEvent(k, v)
		if err == nil {
			err = e.check()
		}
		if err != nil {
			i.fault("event %x: %w", k, err)
			continue
		}
		last = e.Seq
		if want, err := e.entry(); err != nil || !bytes.Equal(history.Get(historyKey(e)), want) {
			i.fault("event %d is not in the history of %s as it is", e.Seq, name(e.Repo, e.Tag))
		}
	}
	if next := events.Sequence(); next < last && !i.enough {
		i.fault("the next event would be number %d, and there is one %d", next+1, last)
	}
	return n
}

// history looks at every tag that has one, and counts those that are there.
func (i *inspection) history() (entries, tags int) {
	c := i.tx.Bucket([]byte(bucketHistory)).Cursor()
	var prefix []byte
	for k, _ := c.First(); k != nil && !i.enough; k, _ = c.Next() {
		entries++
		if prefix != nil && bytes.HasPrefix(k, prefix) {
			continue
		}
		repo, rest, err := cutName(k)
		tag := ""
		if err == nil {
			tag, _, err = cutName(rest)
		}
		if err != nil {
			i.fault("history %x: %w", k, err)
			continue
		}
		prefix = namePrefix(repo, tag)
		if tag != "" && i.tag(repo, tag) {
			tags++
		}
	}
	return entries, tags
}

// tag tells whether the tag is there, and looks whether it is where its history
// says.
func (i *inspection) tag(repo, tag string) bool {
	limit := append(namePrefix(repo, tag), bytes.Repeat([]byte{0xff}, 16)...)
	want, ok, err := run(i.tx, repo, tag, limit)
	got, isThere, err2 := tagState(i.tx, repo, tag)
	switch {
	case err != nil:
		i.fault("history of %s: %w", name(repo, tag), err)
	case err2 != nil:
		i.fault("%w", err2)
	case ok != isThere || got.Digest != want.Digest || !got.Since.Equal(want.Since):
		i.fault("tag %s is at %q since %s, and its history says %q since %s", name(repo, tag), got.Digest, got.Since, want.Digest, want.Since)
	}
	return isThere
}
