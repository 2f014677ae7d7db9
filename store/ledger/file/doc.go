// Package file is the bbolt file under the ledger: read whole before it is
// opened, written in transactions that callers share, read in pages.
//
// It keeps one bucket for itself; the others are its user's.
//
//	bucket  key     value
//	meta    format  format version of the user's buckets, 8 bytes, big-endian
//	        open    present while a process has the file open
//
// A file is on a disk of this machine. On a network file system another
// machine's locks may not be seen, a shared map is not what was written, and a
// sync may promise what it does not keep: Open refuses those that the kernel
// names, and of those behind FUSE all that are not known to be local. What a
// local layer (overlayfs, bindfs, …) hides below it is not seen.
//
// A new file is made under the name <path>.new and renamed, so a crash while it
// is made leaves none. What Update reports as done is synced to disk. A crash
// leaves the file as some whole transaction left it: bbolt writes changed pages
// to free places, syncs, and then switches one of two checksummed meta pages.
//
// When a sync fails nobody can know what reached the disk. From then on the
// file answers reads and refuses writes, until it is opened again. A full disk
// is not such a failure: the write fails and the next one may succeed.
package file
