// Package store is the local registry: distribution's layout on disk, our own
// durable writer, and the ledger beside it.
//
//	<data>/lock        held while a process has the folder open
//	<data>/ledger.db   what happened, and what refers to what
//	<data>/generation  says which ledger belongs here, anew at each opening
//	<data>/upload.key  signs what clients hold of their uploads, mode 0600
//	<data>/registry/   distribution's layout, see package layout
//	<data>/partial/    unfinished downloads
//
// # Guarantees
//
//   - A tag moves only when its whole image is stored, verified and durable.
//   - The ledger knows a manifest's references before a client can see it.
//   - The registry says what is, and the ledger what happened: what a crash
//     left between the two is mended when the store is opened. What others
//     changed after a clean end may be found behind: Options.Behind.
//   - Doubt keeps: what cannot be read is not taken for absent.
package store
