// Package retention decides which tags and which snapshots go, and why. It is pure:
// no input or output, no clock, nothing but the standard library. Its caller brings
// a repository's tags, or a vault's snapshots, and the time, and carries out what is
// decided.
//
// Rules only keep. A tag stays when any line of any matching rule keeps it, so
// the order of rules, lines and tags means nothing, and adding a line to a
// keep, or a tag to a repository, takes nothing away from what other lines
// keep. A tag that no rule matches stays. A rule whose keep has no line keeps
// everything. Doubt keeps: a tag of unknown age stays.
//
// The lines last and within go by time, and pulled-within by use: what nobody is
// known to have pulled counts as pulled when the record of pulls began, or when the
// tag came, whichever is later, and without any record as pulled now. The per- lines go by version: in each
// line of versions, which the caller's Language parts, the newest stay, however
// old they are. A tag that is no version is not kept by them. A rule with
// require-backup keeps what is not known to be in that backup as a whole.
//
// Four things stand above the rules:
//
//   - What is protected stays, whatever its rules say, until its protection ends.
//   - A repository never loses its last tag. When no line keeps any, the newest
//     stays.
//   - Attached tags (signatures, SBOMs and the like, which name their subject)
//     are not counted, not matched and not dated. They stay while a tag that
//     stays leads to their subject, and go when every tag that leads there
//     goes. When no tag leads to the subject, nothing here takes it away, and
//     so nothing takes away what is attached to it.
//   - A plan that would remove more than max-removals of a repository's tags is
//     refused whole, with a GuardError.
//
// # Digests without a tag
//
// [DecideUnlinked] is for a manifest that no tag reaches any more, or ever did.
// It stays while it is protected, while a matching rule requires a backup that
// is not known to have all of it, and while untagged says: of several matching
// rules the longest, counted from when the tag left it or a client last pulled
// it, whichever is later. When either is not known, it counts as now. Where no
// matching rule has untagged,
//
//   - what a tag left by moving, and what never had a tag, stays for good:
//     somebody may have written its digest down;
//   - what lost its last tag by removal (retention, a client, a retirement) is
//     not kept: that was the meaning of it.
//
// untagged: 0s keeps neither.
//
// # How many removals are allowed
//
// The share is of the tags that count, attached ones left out, rounded down: 20 %
// of 12 tags are 2. Any share above zero allows at least one, or a repository
// of four tags could never lose any. A share of zero allows none. When several
// rules match, the smallest share holds: no rule can widen what another
// narrows. What the guard refuses, it refuses whole: a part of a plan that
// nobody meant is no better than all of it.
//
// # Snapshots
//
// [DecideSnapshots] is for the snapshots of a vault, by the same ideas: lines only
// keep, any line is enough, and doubt keeps. last, and the newest of each of so many
// days, weeks, months and years that have a snapshot, go by the time that a snapshot
// gives itself; within goes by the clock of the bucket. A snapshot whose own time is
// later than when the bucket got it, or a week earlier, is not counted and does not
// go: whoever can write to a vault cannot push good snapshots out by ones with dates
// of his choice. What is protected stays, the last snapshot stays, and more than a
// share at once is refused.
package retention
