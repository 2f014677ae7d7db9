package buckettest

import (
	"os"
	"syscall"
	"testing"
)

// Main runs tests with their files in memory, where there is room and TMPDIR does
// not say otherwise, and returns the exit code. It is for tests that do not see
// whether a sync to a disk took place.
func Main(m *testing.M) int {
	const memory, room = "/dev/shm", 4 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < room || os.Getenv("TMPDIR") != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp(memory, "lastro")
	if err != nil {
		return m.Run()
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return m.Run()
	}
	return m.Run()
}
