package layout

import (
	"math"

	"golang.org/x/sys/unix"
)

// Room is how many bytes the filesystem lets an unprivileged process write.
func (t *Tree) Room() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(t.whole.Fd()), &s); err != nil {
		return 0, onDisk(err)
	}
	if s.Bavail > math.MaxInt64/uint64(max(1, s.Bsize)) {
		return math.MaxInt64, nil
	}
	return int64(s.Bavail) * s.Bsize, nil
}
