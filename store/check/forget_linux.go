package check

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget lets the kernel forget what it remembers of a file: before it is read, so
// that what the disk has is read; afterwards, so that what clients ask for is not
// pushed out of memory by what nobody asked for.
func forget(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	// It is advice: a file system that does not take it is read as it is.
	_ = raw.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED) })
}
