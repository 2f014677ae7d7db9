// Package drill restores a sample of a snapshot for no other reason than to prove
// that it can be done.
//
//	choose    random images, and one random repository with all that is in it
//	restore   brings them from the vault into an empty scratch store, as restore does
//	pull      reads them from there as a client does: over HTTP, tag by tag, digest by
//	          digest, every byte hashed
//	compare   holds every tag and the list of tags against the snapshot's own index
//
// It shares the code that reads the vault with a restore, so that it proves that code,
// and nothing with the comparison, which believes neither the restore nor the store:
// what a snapshot has to have comes from its indexes, and whether it is there from
// the answers of the registry.
//
// # What it proves, and what not
//
// That the credentials, the server, the vault's indexes, the history and the chosen
// images are good, and how long it takes. Images that were not chosen are Verify's to
// read. The time that a whole restore would take is a guess from the sample: by bytes
// or by blobs, whichever is slower.
//
// The report is left in the vault, signed as snapshots are. The scratch store is the
// only other thing that is written.
//
// The sample takes no more than half of the room that the scratch store has. A
// repository that needs more is passed over, and is named in the report.
package drill
