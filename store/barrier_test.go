package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/storetest"
)

// malicious is a disk that a power cut leaves in the worst state that POSIX
// allows: of what was written since the last barrier it has kept what makes
// images visible and lost all else, or lost that too. Journaling filesystems are kinder
// than that, so crash images do not show every barrier that is missing.
type malicious struct {
	dir   string
	names map[string]bool        // made since the last barrier, below the registry
	bytes map[digest.Digest]bool // content that was written and not synced
	shown bool                   // something among names shows an image
}

func newMalicious(dir string) *malicious {
	return &malicious{dir: dir, names: map[string]bool{}, bytes: map[digest.Digest]bool{}}
}

// shows reports whether a name lets clients see an image.
func shows(name string) bool { return strings.Contains(name, "/_manifests/") }

// note says what is about to be done, after a cut before it was looked at.
func (m *malicious) note(op, subject string) {
	switch op {
	case "syncfs":
		*m = *newMalicious(m.dir)
	case "fdatasync":
		delete(m.bytes, digest.Digest(subject))
	case "write":
		m.bytes[digest.Digest(subject)] = true
	case "link", "rename":
		if _, err := os.Lstat(filepath.Join(m.dir, "registry", subject)); op == "link" && err == nil {
			return // it is left as it is
		}
		m.names[subject] = true
		m.shown = m.shown || shows(subject) || strings.HasSuffix(subject, "/data")
	}
}

// cut makes of a copy of the data folder what a power cut leaves, with those new
// names that are kept.
func (m *malicious) cut(dir string, keep func(name string) bool) (err error) {
	for d := range m.bytes {
		if d.Validate() == nil {
			err = errors.Join(err, ignoreGone(os.Truncate(filepath.Join(dir, "registry", layout.Data(d)), 0)))
		}
	}
	for name := range m.names {
		if !keep(name) {
			err = errors.Join(err, ignoreGone(os.Remove(filepath.Join(dir, "registry", name))))
		}
	}
	return err
}

// TestWhatAPowerCutMayKeepIsNeverHalfAnImage looks before every barrier, when
// most is shown and most can be lost, and at the end.
func TestWhatAPowerCutMayKeepIsNeverHalfAnImage(t *testing.T) {
	for _, tag := range []string{"v1", ""} {
		t.Run(fmt.Sprintf("published as %q", tag), func(t *testing.T) {
			t.Parallel()
			dir, cuts := storetest.Folder(t), 0
			disk := newMalicious(dir)
			cut := func(step string) {
				cuts++
				found := copyOf(t, dir)
				if err := disk.cut(found, shows); err != nil {
					t.Fatal(err)
				}
				look(t, found, cutImage{step: step})
			}
			s := open(t, dir, Options{Step: func(op, subject string) {
				if disk.shown && (op == "syncfs" || op == "fsync") {
					cut("before " + op + " " + subject)
				}
				disk.note(op, subject)
			}})
			late := storetest.New("newer")
			late.Single("late", &late.Root) // comes to a tag that does not move
			for i, m := range []*storetest.Image{storetest.Sparse("older"), storetest.New("newer"), late} {
				if _, err := m.Put(t.Context(), s, "a", tag); err != nil {
					t.Fatal(err)
				}
				cut(fmt.Sprintf("after image %d", i))
				found := copyOf(t, dir)
				if err := disk.cut(found, func(name string) bool { return strings.Contains(name, "/tags/") }); err != nil {
					t.Fatal(err)
				}
				after := open(t, found, Options{})
				for _, manifest := range m.Manifests {
					if err := after.revision("a", manifest.Descriptor.Digest); err != nil {
						t.Errorf("image %d was published: %v", i, err)
					}
				}
			}
			if cuts < 6 {
				t.Errorf("only %d cuts", cuts)
			}
		})
	}
}
