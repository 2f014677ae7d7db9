package verify

import (
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/layout"
)

func (o Options) level() Level {
	switch {
	case o.List:
		return List
	case o.Head:
		return Head
	case o.Parts > 0:
		return Part
	}
	return Full
}

// whole reports whether every blob is read.
func (o Options) whole() bool { return o.level() == Full }

func (o Options) part() string {
	if o.Parts == 0 {
		return ""
	}
	return strconv.Itoa(o.Part) + "/" + strconv.Itoa(o.Parts)
}

// meant reports whether a blob is one of those that are to be read.
func (r *verify) meant(d digest.Digest) bool {
	if r.o.whole() || r.again[r.NameOf(d)] {
		return true
	}
	return r.o.Parts > 0 && int(number(d)%uint64(r.o.Parts)) == r.o.Part-1
}

// number spreads digests evenly.
func number(d digest.Digest) uint64 {
	n, _ := strconv.ParseUint(d.Encoded()[:16], 16, 64)
	return n
}

// parts notes in the head's list of parts what this run has read of all snapshots.
// Where the vault is divided otherwise, one part of another number is not noted.
func (o Options) parts(list []time.Time, began time.Time) []time.Time {
	switch {
	case !o.All || o.level() == List || o.level() == Head:
		return list
	case o.whole():
		return slices.Repeat([]time.Time{began}, max(len(list), 1))
	}
	list = divided(list, o.Parts)
	list[o.Part-1] = began
	return list
}

// divided is a list of n parts. Where it had another number, each part is as old as
// the oldest was: its bytes were in any of them.
func divided(list []time.Time, n int) []time.Time {
	if len(list) == n {
		return slices.Clone(list)
	}
	var first time.Time
	if len(list) > 0 {
		first = slices.MinFunc(list, time.Time.Compare)
	}
	return slices.Repeat([]time.Time{first}, n)
}

// next is the part that is longest unread, from 1 on.
func next(list []time.Time) int {
	least := 0
	for i, t := range list {
		if t.Before(list[least]) {
			least = i
		}
	}
	return least + 1
}

// oldest is when what is longest unread was read. What was never read was hashed on
// its way into the vault, the first of it for the oldest snapshot.
func oldest(h layout.Head) (t time.Time) {
	if len(h.Read) > 0 {
		t = slices.MinFunc(h.Read, time.Time.Compare)
	}
	if len(h.Snapshots) > 0 && h.Snapshots[0].Created.After(t) {
		t = h.Snapshots[0].Created
	}
	return t
}
