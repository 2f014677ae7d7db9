package file

import (
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// relax lets the kernel count the file's pages as its own memory and no more as this
// process's: they stay where they are, and are mapped again when they are read. It
// is to be called in a transaction, while which bbolt does not map the file anew.
func relax(tx *bolt.Tx) {
	// It is advice, and harmless on what is mapped from a file and not written to.
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, tx.DB().Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED)
}
