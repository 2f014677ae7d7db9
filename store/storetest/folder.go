package storetest

import (
	"os"
	"testing"
	"time"
)

// Now is always the same.
func Now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// Folder is a new folder that needs no disk where there is such a thing: for tests
// that only end a process, and lose no power.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "lastro-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
