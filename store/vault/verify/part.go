package verify

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/layout"
)

// whole reports whether every blob is read.
func (o Options) whole() bool { return !o.List && o.Parts == 0 }

func (o Options) part() string {
	if o.Parts == 0 {
		return ""
	}
	return strconv.Itoa(o.Part) + "/" + strconv.Itoa(o.Parts)
}

// meant reports whether a blob is one of those that are to be read.
func (r *verify) meant(d digest.Digest) bool {
	if r.o.whole() || r.again[d] {
		return true
	}
	return r.o.Parts > 0 && int(number(d)%uint64(r.o.Parts)) == r.o.Part-1
}

// number spreads digests evenly.
func number(d digest.Digest) uint64 {
	n, _ := strconv.ParseUint(d.Encoded()[:16], 16, 64)
	return n
}

// list compares what is not going to be read with what the bucket lists.
func (r *verify) list(ctx context.Context) error {
	if r.o.whole() {
		return nil
	}
	sizes := map[string]int64{}
	for info, err := range r.Bucket.List(ctx, layout.DirBlobs) {
		if err != nil {
			return err
		}
		sizes[info.Key] = info.Size
	}
	for d, n := range r.needs {
		size, there := sizes[layout.BlobKey(d)]
		var err error
		switch {
		case n.read || r.meant(d):
			continue
		case !there:
			err = fmt.Errorf("vault %s: blob %s: it is not listed: %w", r.Bucket, d, fs.ErrNotExist)
		case size != n.size:
			err = fmt.Errorf("vault %s: blob %s: %w: %d bytes are listed, not %d", r.Bucket, d, layout.ErrDamaged, size, n.size)
		}
		if err := r.found(d, err); err != nil {
			return err
		}
	}
	return nil
}

// parts notes in the head's list of parts what this run has read of all snapshots.
// Where the vault is divided otherwise, one part of another number is not noted.
func (o Options) parts(read []time.Time, began time.Time) []time.Time {
	switch {
	case !o.All || o.List:
		return read
	case o.whole():
		return slices.Repeat([]time.Time{began}, max(len(read), 1))
	}
	read = divided(read, o.Parts)
	read[o.Part-1] = began
	return read
}

// divided is a list of n parts. Where it had another number, each part is as old as
// the oldest was: its bytes were in any of them.
func divided(read []time.Time, n int) []time.Time {
	if len(read) == n {
		return slices.Clone(read)
	}
	var first time.Time
	if len(read) > 0 {
		first = slices.MinFunc(read, time.Time.Compare)
	}
	return slices.Repeat([]time.Time{first}, n)
}

// next is the part that is longest unread, from 1 on.
func next(read []time.Time) int {
	least := 0
	for i, t := range read {
		if t.Before(read[least]) {
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
