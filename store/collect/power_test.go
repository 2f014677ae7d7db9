package collect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lastro/store/check"
	"lastro/store/layout"
	"lastro/store/storetest"
)

// cache is a page cache above a data folder: it knows what was changed since the last
// barrier, and what was there before. A power cut undoes any of that, in part, too.
type cache struct {
	dir     string
	changes []change
	torn    bool // what was written last is not synced
}

// change is of one name below the registry. before is all that was there, by name.
type change struct {
	op, name string
	before   map[string][]byte
	torn     bool // the new file may hold only a part
}

// note says what is about to be done.
func (c *cache) note(op, name string) error {
	switch op {
	case "syncfs":
		c.changes, c.torn = nil, false
	case "fsync": // a folder: the names in it
		c.changes = slices.DeleteFunc(c.changes, func(one change) bool { return filepath.Dir(one.name) == name && !one.torn })
	case "write":
		c.torn = true
	case "remove", "rename", "link":
		before, err := below(filepath.Join(c.dir, "registry", name))
		if op == "link" && len(before) > 0 {
			return err // it is left as it is
		}
		c.changes = append(c.changes, change{op, name, before, op == "link" || op == "rename" && c.torn})
		return err
	}
	return nil
}

// below are the files below a name; none where there is nothing.
func below(name string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(name, func(at string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(at)
		files[strings.TrimPrefix(at, name)] = raw
		return err
	})
	return files, ignoreAbsent(err)
}

// fate is what a power cut makes of a change.
type fate int

const (
	kept fate = iota
	lost
	half // it is there, with a part of what was written
	none // it is there, and empty
)

// cut makes of a copy of the data folder what is left of it, the last change first.
func (c *cache) cut(copied string, of func(change) fate) (err error) {
	for _, one := range slices.Backward(c.changes) {
		name := filepath.Join(copied, "registry", one.name)
		switch f := of(one); {
		case f == lost:
			err = errors.Join(err, one.undo(name))
		case f != kept && one.torn:
			err = errors.Join(err, tear(name, f))
		}
	}
	return err
}

func (c change) undo(name string) error {
	err := os.RemoveAll(name)
	for rest, raw := range c.before {
		err = errors.Join(err, os.MkdirAll(filepath.Dir(name+rest), 0o700), os.WriteFile(name+rest, raw, 0o600))
	}
	return err
}

func tear(name string, f fate) error {
	info, err := os.Stat(name)
	if err != nil {
		return ignoreAbsent(err)
	}
	if f == none {
		return os.Truncate(name, 0)
	}
	return os.Truncate(name, info.Size()/2)
}

// fates are the ways in which a cut may go; those of chance differ with each.
func fates(chance *rand.Rand) map[string]func(change) fate {
	isContent := func(c change) bool { return strings.HasPrefix(c.name, layout.Blobs) }
	lose := func(when bool) fate {
		if when {
			return lost
		}
		return kept
	}
	all := map[string]func(change) fate{
		"nothing is lost":                   func(change) fate { return kept },
		"all is lost":                       func(change) fate { return lost },
		"what is removed is there again":    func(c change) fate { return lose(c.op == "remove") },
		"what is new is lost":               func(c change) fate { return lose(c.op != "remove") },
		"links are as before":               func(c change) fate { return lose(!isContent(c)) },
		"contents are as before":            func(c change) fate { return lose(isContent(c)) },
		"what is new is there in part":      func(change) fate { return half },
		"what is new is there and is empty": func(change) fate { return none },
	}
	for i := range 2 {
		all[fmt.Sprint("by chance ", i)] = func(change) fate { return fate(chance.IntN(int(none) + 1)) }
	}
	return all
}

// sector is what a disk writes whole or not at all.
const sector = 512

// tearLedger makes of a ledger's file one in the middle of the transaction after before: its
// pages are written in part, or all of them, and the page that says that they count
// only in part. ok is false where not one transaction lies between the two.
func tearLedger(name, before string, chance *rand.Rand) (ok bool, err error) {
	page := int64(os.Getpagesize())
	now, err := newest(name)
	was, werr := newest(before)
	if err := errors.Join(err, werr); err != nil || now != was+1 {
		return false, err
	}
	old, err := os.Open(before)
	if err != nil {
		return false, err
	}
	defer old.Close()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	written := chance.IntN(2) == 0 // all pages are
	err = eachPage(f, page, func(at int64, raw []byte) error {
		was := make([]byte, page)
		if _, err := old.ReadAt(was, at); err != nil && err != io.EOF {
			return err
		}
		switch meta := at < 2*page; {
		case bytes.Equal(was, raw), !meta && written:
			return nil
		case meta && written:
			was[metaAt+8] ^= 0xff // the number of the transaction is half a number
		case !meta:
			for i := 0; i < len(was); i += sector {
				if chance.IntN(2) == 0 {
					copy(was[i:i+sector], raw[i:i+sector])
				}
			}
		}
		_, err := f.WriteAt(was, at)
		return err
	})
	return true, err
}

// eachPage calls fn for the pages of a file that are not in a hole.
func eachPage(f *os.File, page int64, fn func(at int64, raw []byte) error) error {
	raw := make([]byte, page)
	for next := int64(0); ; next += page {
		at, err := f.Seek(next, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		next = at / page * page
		if err == nil {
			_, err = f.ReadAt(raw, next)
		}
		if err == nil {
			err = fn(next, raw)
		}
		if err != nil {
			return err
		}
	}
}

// metaAt is where a meta page has the number of its transaction: behind the page's
// head, magic, version, sizes, root, freelist and end.
const metaAt = 64

// newest is the number of a ledger's last transaction.
func newest(name string) (uint64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var number [2][8]byte
	_, err = f.ReadAt(number[0][:], metaAt)
	_, err2 := f.ReadAt(number[1][:], int64(os.Getpagesize())+metaAt)
	return max(binary.NativeEndian.Uint64(number[0][:]), binary.NativeEndian.Uint64(number[1][:])), errors.Join(err, err2)
}

// moment is the data folder before a step, and what its disk may do.
type moment struct {
	dir, step string
	cache     cache
	stays     map[string]*storetest.Image
}

// powerYard is a yard, and what is left of it in the end.
type powerYard struct {
	*yard
	want []string
}

// TestAPowerCutAtAnyStepLosesNothingAndKeepsNoGarbage takes the power away while
// images go and come: what was not synced is lost, torn or there.
func TestAPowerCutAtAnyStepLosesNothingAndKeepsNoGarbage(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	y, moments := powered(t)
	cuts, tears := 0, 0
	want := map[int][]string{} // by how much stays
	every := 10
	if *long {
		every = 1
	}
	for i, m := range moments {
		if i%every > 0 {
			continue
		}
		if want[len(m.stays)] == nil {
			want[len(m.stays)] = (&yard{stays: m.stays}).left(t)
		}
		y.want = want[len(m.stays)]
		all := fates(chance)
		if len(m.cache.changes) == 0 {
			all = map[string]func(change) fate{"nothing is lost": all["nothing is lost"]}
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			cuts++
			m.ends(t, y, name, all[name])
		}
		if i == 0 {
			continue
		}
		ok, err := tearLedger(filepath.Join(m.dir, "ledger.db"), filepath.Join(moments[i-1].dir, "ledger.db"), chance)
		if ok {
			tears++
			m.ends(t, y, "and the ledger is torn", all["nothing is lost"])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if cuts < 1200/every || tears < 36/every {
		t.Errorf("only %d cuts, %d of them in a transaction", cuts, tears)
	}
	t.Logf("%d cuts, and %d in a transaction of the ledger", cuts, tears)
}

// powered lets images go, one of them come back and another come, and copies the data
// folder at every step that changed something.
func powered(t *testing.T) (y powerYard, moments []moment) {
	t.Helper()
	y.yard = newYard(t)
	y.due(t)
	disk := &cache{dir: y.dir}
	copies := storetest.Folder(t)
	seen := ""
	at := func(step string) {
		number, err := newest(filepath.Join(y.dir, "ledger.db"))
		if err != nil {
			t.Fatal(err)
		}
		now := fmt.Sprint(y.files(t), len(disk.changes), number)
		if now == seen {
			return
		}
		seen = now
		m := moment{filepath.Join(copies, fmt.Sprint(len(moments))), step, cache{y.dir, slices.Clone(disk.changes), disk.torn}, maps.Clone(y.stays)}
		if err := copyFolder(y.dir, m.dir); err != nil {
			t.Fatal(err)
		}
		moments = append(moments, m)
	}
	y.stepped = func(op, name string) {
		at("before " + op + " " + name)
		if err := disk.note(op, name); err != nil {
			t.Fatal(err)
		}
	}
	ctx := stepContext{t.Context(), func() { at("before a look at the ledger") }}
	run := func() {
		if _, err := Run(ctx, y.Store, y.o); err != nil {
			t.Fatal(err)
		}
	}
	run()
	for repo, name := range map[string]string{"back": "late", "new": "e"} { // late is condemned
		m := storetest.New(name)
		if _, err := m.Put(ctx, y, repo, "stays"); err != nil {
			t.Fatal(err)
		}
		y.stays[repo] = m
		at("after a push to " + repo)
	}
	y.now = y.now.Add(undo)
	run()
	y.stepped = nil
	return y, moments
}

// ends opens what a cut left, and lets everything go that may.
func (m moment) ends(t *testing.T, y powerYard, how string, of func(change) fate) {
	t.Helper()
	when := m.step + ", " + how
	c := &yard{&site{dir: m.dir + ".cut", now: y.now, o: y.o}, m.stays}
	c.o.Now = c.clock
	err := copyFolder(m.dir, c.dir)
	if err == nil {
		err = m.cache.cut(c.dir, of)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.open(t)
	c.closures(t, when)
	links, err := dangling(c.dir)
	// A link of a layer may be there before the name of its content: nobody was told.
	if links = slices.DeleteFunc(links, func(name string) bool { return strings.Contains(name, "/_layers/") }); err != nil || len(links) > 0 {
		t.Fatalf("%s: links without content: %q, %v", when, links, err)
	}
	if r := c.collect(t); r.Deleted > 0 || r.PausedUntil.IsZero() {
		t.Errorf("%s: something went at once: %+v", when, r)
	}
	c.drop(t)
	// What is torn keeps its repository until the daily check has healed it.
	if _, err := check.Run(t.Context(), c.Store, check.Options{Repair: true, Now: c.clock}); err != nil {
		t.Fatal(err)
	}
	c.settle(t)
	c.checkStays(t, "at the end of "+when)
	if diff := cmp.Diff(y.want, c.files(t)); diff != "" {
		t.Fatalf("%s: left (-want +got):\n%s", when, diff)
	}
	if err := errors.Join(c.Close(), os.RemoveAll(c.dir)); err != nil {
		t.Error(err)
	}
}

// drop removes the tags of pushes that were not answered before the cut.
func (y *yard) drop(t *testing.T) {
	t.Helper()
	for _, repo := range []string{"back", "new"} {
		if _, acked := y.stays[repo]; acked {
			continue
		}
		if _, err := y.Resolve(t.Context(), repo, "stays"); err == nil {
			y.untag(t, repo, "stays")
		}
	}
}
