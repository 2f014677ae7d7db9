// Package watch tells when files have become other files: a certificate that
// was renewed, a user that was added. It asks the file system when somebody
// asks it, and needs no goroutine.
package watch

import (
	"os"
	"sync"
	"time"
)

// pause is how long a look is good for.
const pause = 2 * time.Second

// Files are files that belong together. They may be watched from many
// goroutines.
type Files struct {
	paths []string
	now   func() time.Time

	mu   sync.Mutex
	next time.Time // of the next look
	seen []os.FileInfo
	read bool // what was seen last could be used
}

// New watches files. The first Changed reports a change.
func New(now func() time.Time, paths ...string) *Files {
	return &Files{paths: paths, now: now, seen: make([]os.FileInfo, len(paths))}
}

// Changed reports, to one caller, that a file is another one, has another size
// or another time than when that was last reported. It looks at most every two
// seconds. Who is told reads the files and says with Done how that went.
func (f *Files) Changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if now.Before(f.next) {
		return false
	}
	f.next = now.Add(pause)
	changed := !f.read
	for i, path := range f.paths {
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		changed = changed || !same(info, f.seen[i])
		f.seen[i] = info
	}
	f.read = true // until Done says otherwise
	return changed
}

// Done says whether the files could be used. Files that could not are reported
// again by the next look: the other half of a pair may still be on its way.
func (f *Files) Done(ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read = ok
}

// Now makes the next Changed look at once.
func (f *Files) Now() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = time.Time{}
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
