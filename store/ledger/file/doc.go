// Package file is the bbolt file under the ledger: read whole before it is
// opened, written in transactions that callers share, read in pages.
//
// It keeps one bucket for itself; the others are its user's.
//
//	bucket  key     value
//	meta    format  format version of the user's buckets, 8 bytes, big-endian
//	        open    present while a process has the file open: 1, and the number
//	                (inode) of that file, 8 bytes
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
// Open reads every page before it writes: that no page is lost, used twice or
// out of order. A file that was not closed is checked by bbolt as well, unless
// it is so large that this would take long; Check does both beside writers, on a
// copy, because bbolt's own check is not safe there. What is in values is not
// covered by checksums: it is the user's to inspect.
//
// Beside the file lie, for as long as each takes, and removed by the next Open:
//
//	<path>.new      a new file
//	<path>.check    a copy that is checked
//	<path>.compact  a copy without the pages that nothing uses
//
// Open compacts a file more than half of which, and more than 16 MiB, nothing
// uses. The copy is examined and synced before it is renamed, so a crash leaves
// one or the other, which have the same facts. The lock of a process is on the
// file and not on its name, so Open looks whether the name is still that file's
// when it has the lock, and begins anew where it is not.
//
// A copy of an open file, by Copy or by anybody, has the mark of the file that
// was open, and is told by it from one whose process ended: Copied. Both are
// Unclean.
//
// When a sync fails nobody can know what reached the disk. From then on the
// file answers reads and refuses writes, until it is opened again. A full disk
// is not such a failure: the write fails and the next one may succeed.
package file
