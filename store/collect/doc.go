// Package collect frees what nothing needs any more, while clients push and pull.
//
// It never walks the store to find out what is garbage. Whatever takes away a reason
// to keep something asks in the ledger, in the same transaction, whether what it kept
// is needed still; a run of the collector answers the questions that are due. Its cost
// follows what changed. A survey, which goes through all names once, asks about what
// nobody asked about: at the first run, after an unclean end, and once a week.
//
// # What is asked about
//
// A digest in a repository: its links there, which let it be pulled. And a digest
// without a repository: the content. A repository needs what a tag is at, what a
// protection names, what a manifest that it holds refers to, and what refers to a
// manifest that it holds. Content is needed while a repository needs the digest.
// Tags named after a manifest (signatures of cosign, lists of referrers) go with it.
// What policy keeps stays: Options.Keep is asked about manifests that a tag has left
// and those that came by their digest, for their own sake: not about what was part of
// another, which goes as that does. A client pushes the parts of an index by digest
// before it: these go with it as well.
//
// # In two phases
//
//	waiting → condemned → deleting → gone
//
// What nothing needs is condemned, with all that it alone needed. It is served as
// before for the longer of grace and undo. Whoever is told that it is there, by a
// push, a mount, a HEAD, a pull, a sync or undo, takes it back, and it stays for a
// whole grace from then on. What is due is looked at once more, in the transaction
// of the ledger that says that it goes; meanwhile nobody publishes into the
// repository. Whoever asks for the digest from then on waits and is told the truth.
// Links go before the content that they point at.
//
// Many digests share two transactions. While somebody publishes they are few, and the
// run rests after each of them for as long as it took: a push does not feel it, and the
// run takes longer.
//
// # Guarantees
//
//   - What a tag, a protection or a served manifest needs is never taken away: the
//     ledger knows what a manifest refers to before a client can see it, and the
//     last look is in the transaction that condemns it for good.
//   - Doubt keeps. A repository whose tags cannot be read loses nothing, a manifest
//     that cannot be read and is not known keeps all content, an answer of policy
//     that fails keeps what was asked about: it is counted, told, and asked again.
//     The rest goes on.
//   - After an unclean end, or with a ledger that was put back from a copy, nothing is
//     removed for one whole grace, because what clients were told before is not known;
//     and not before a survey, because what came since that copy is not either.
//   - A crash leaves garbage, never a link without content, and no question is lost:
//     what was being deleted is looked at again.
//   - It needs no room first: a full disk can be emptied. The ledger reuses its pages.
//
// In the mode observe nothing is removed: what is condemned stays so, and how often
// somebody took something back is counted.
package collect
