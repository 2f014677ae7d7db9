// Package prune lets snapshots of a vault go, and frees what none needs any more.
//
// Forget takes snapshots off the vault's head, by compare-and-swap: from then on they
// do not exist. Their records and blobs stay where they lie. It never takes the last
// snapshot of a vault, nor the last that a store has there, and does nothing where the
// head is lost and something stands in for it.
//
// # A prune
//
//  1. What all snapshots of the head lead to is read, records, indexes and manifests.
//     If anything of it cannot be read, nothing is done.
//  2. The blobs are listed. Those that nothing leads to, and that are older than
//     MinAge, are written down in a plan, and the head names it: they are marked.
//  3. After a Grace, in a later run, what the head's snapshots lead to is read again,
//     and the head is swapped from exactly that state to one that says who removes. From
//     then on nobody commits a snapshot. What was known of the vault before counts no
//     more: a backup that began before asks the bucket again.
//  4. Records of snapshots that the head does not list are removed; for one that has to
//     stay, vault/forgotten says that it is none. Then the blobs of the plan go that are
//     still not needed, each looked at again: one that was written since stays.
//  5. The head is swapped to one without a prune. Backups go on.
//
// Where a bucket has versions, exactly the version goes that was looked at.
//
// # Who stands still
//
// Who removes says so in the head once a minute, and makes sure before each request
// that nobody took over. If he says nothing for a Lease, by the clock of who waits, a
// backup or the next prune takes the plan over and ends it. A request that he had sent
// before is not carried out after that: S3 refuses those that were signed fifteen
// minutes ago. A request that comes to an error leaves its Lease to run out. In a
// folder the lock of the head is held while files are removed, so that a shorter
// Lease does, also for a machine that sleeps in between.
//
// Times in the bucket are compared with times of the bucket only.
package prune
