// Package ledger remembers what happened and what refers to what: the digests
// that every tag ever had, the content graph, the runs of jobs, and what each
// vault holds. It is one bbolt file, and this package is the only one that
// knows so.
//
// # Layout
//
// One file, mode 0600. Keys sort bytewise; numbers are big-endian. D is a
// digest: one byte for the algorithm (1 sha256, 2 sha512), then its raw bytes.
// T is a time: nanoseconds since 1970 as a signed 64-bit number with the sign
// bit turned, so that it sorts. ␀ is a zero byte, which no name contains.
//
//	bucket     key                 value
//	meta       format              format version, 8 bytes; now 2 (see package file)
//	           open                present while a process has the ledger open
//	event      seq                 event, JSON
//	history    repo ␀ tag ␀ T seq  0 a note · 1 D the tag is at D · 2 the tag is gone
//	tag        repo ␀ tag          D T: the digest now, and since when
//	graph      in use              generation that is read, 8 bytes
//	           filling             generation that a rebuild is filling, 8 bytes
//	           generation          a bucket with these buckets:
//	  node     D                   what a manifest is, JSON (Node)
//	  child    D                   what a manifest refers to, in its order, JSON
//	  parent   D(child) D(parent)  empty
//	  subject  D(subject) D        empty: the manifest D names this subject
//	  link     repo ␀ D            empty: the repository holds the manifest D
//	  holder   D repo              empty: the same, to ask who holds it
//	named      repo ␀ D tag        empty: the tag is at D now, to ask which are
//	review     D repo              review, JSON: is it needed still? Without a repository: the content
//	due        T D repo            empty: when the review is due
//	absent     repo ␀ D            empty: left out by a platform filter, and not served since
//	checked    repo ␀ D            T: when referrers were last asked for upstream
//	known      repo ␀ D            T: when the upstream was first seen to have it
//	asked      repo ␀ tag          T: when the upstream was last asked for it, of immutable tags
//	job        name                job, JSON
//	held       vault               a bucket of D: what the vault's bucket holds
//	pulled     since               T: since when pulls are noted
//	           tag, digest         buckets:
//	  tag      repo ␀ tag          T: when a client last pulled the tag, to the second
//	  digest   repo ␀ D            T: the same of a manifest, by tag or digest
//	protection name, digest        buckets:
//	  name     name ␀ repo ␀ D     protection, JSON
//	  digest   repo ␀ D name       empty: the manifest has a protection of that name
//	hold       repo ␀ tag          hold, JSON: the tag was rolled back, and stays
//	self       id                  what this ledger is called among all
//
// # Guarantees
//
// Every Record, Import, Forget and Rebuild is durable when it returns nil: its
// transaction is synced to disk. Many callers share one sync. A call whose
// context ends before its transaction started has changed nothing and says so;
// one whose transaction had started waits for the outcome and reports that.
//
// A crash leaves the state of some whole transaction, never part of one: bbolt
// writes changed pages to free places, syncs, and then switches one of two
// checksummed meta pages. Each fact is one transaction: an event and the tag
// state that follows from it, of a publication with its check for referrers; a manifest, its edges, its subject and its
// membership of a repository. What takes more than one transaction is made of
// steps that are each true alone:
//
//   - RecordGraph writes large closures in pages, children before parents.
//     Edges only ever say too much, which keeps content and never loses it.
//   - A child that was left out is absent until RecordServed, which comes after
//     the registry's link: between the two it is served, which counts first.
//   - ImportEvents skips events that are there, so it is simply run again.
//   - RecordHeld, RecordServed, RecordReferrersChecked, RecordUpstream and
//     FlushPulls write facts that stand alone.
//   - RebuildGraph fills a new generation beside the one in use. One
//     transaction switches and drops the old; before it a crash leaves the old
//     graph whole, and the next Open drops the unfinished one.
//
// A manifest that a repository serves no more (RecordUnlinked) loses its link,
// and with it what the repository says of it. What it is and refers to stays in
// the graph until a rebuild finds it nowhere, for other repositories and for
// who collects; its tags' history stays for good.
//
// A protection and its event in the history are one transaction. No rebuild and
// no RecordUnlinked takes one away: only RemoveProtection does. Holds stay until
// RecordTagReleased in the same way.
//
// Known, asked, pulled and protection are made by a ledger that finds none of
// them. The format is the same: an older lastro opens such a file, leaves them as
// they are and loses nothing of its own; it heeds no protection. Of what it
// removes, times of pulls may stay until a rebuild; nobody asks for those. What
// was pulled while it ran is not known, and PullsSince does not tell: who goes
// back and comes again should let some time pass before a retention by pulls.
//
// Whatever takes away a reason to keep something – a tag that moves or goes, a
// manifest that a repository serves no more – asks in the same transaction whether
// what it kept is needed still: that is a review. It is answered by who collects;
// what the ledger says of a digest goes only when its content is gone
// (RecordDeleted), and what is Deleting was looked at once more in the transaction
// that said so. Format 1 had neither reviews nor the indexes holder and named,
// which Open makes of what is there.
//
// The marker meta/open is set by Open and cleared by Close: finding it set is
// what Unclean reports. A file that a newer lastro wrote is left untouched
// (ErrNewer), as is one that does not read whole (ErrDamaged): Open reads it all
// before the first write. After a disk fault other than a full disk the ledger
// answers reads and refuses writes until it is opened again; package file says
// why.
//
// Copy makes a file that opens as the ledger of that moment, and as an unclean
// one. Check looks at a copy: at every page, and at whether events, history and
// tags agree. Open gives the disk back what is free when that is most of a large
// file.
//
// # Export
//
// Export writes what cannot be made anew from the registry as lines of JSON, and
// Import makes a ledger of them, whole or not at all: <path>.import until then,
// which the next Import removes. The lines have a format of their own:
//
//	{"ledger":{"format":1,"time":T,"events":N}}   first; N is the newest event's number
//	{"event":{"seq":N, …}}                        in the order of recording
//	{"absent"|"checked"|"known"|"asked"|"pulled":{"repo", "tag" or "digest", "time"}}
//	{"self":"…"}  {"job":{…}}  {"held":{"vault","digest"}}  {"protection":{…}}  {"hold":{…}}  {"pulls_since":T}
//	{"end":{"facts":N}}                           last: how many there were
//
// Read transactions are short. Iterators read a page, end the transaction and
// then yield, so what is recorded meanwhile may or may not be seen, and the
// body of the loop may record.
//
// # Time
//
// An event's time is when lastro knew, not when the tag moved upstream. A tag's
// events are ordered by time and then by the order of recording. When the clock
// was set back, an event is recorded with the time of the tag's newest event,
// so that the newest recorded is always the newest. Imported events keep
// their time.
//
// # Pulls
//
// A pull is noted in memory and recorded with others: 30 seconds after the first
// of them, when there are many, and by Close. One transaction records at most
// as many as may wait, 5000 tags and manifests, so that a pull costs no sync and
// no client waits for a disk. When the disk does not answer the oldest notes
// are dropped, and the log says how many. A crash loses what was not recorded.
// Only the latest time is kept, so a clock that goes back takes nothing away,
// and only of tags and manifests that are here: those that go take theirs along.
//
// Pulls are no events. They are in no history, no export and no backup: they
// are of this registry's clients, change all the time, and would make a new
// backup of every day in which nothing happened. They are lost with the ledger.
// PullsSince tells since when they are known, so that what is not known to have
// been pulled before that is not taken for unused.
//
// # Another engine
//
// The operations are named for what they record, take and give whole values,
// and read in key order, so that a second engine is a second file. On etcd the
// keys stay as they are behind a prefix (a bucket becomes a path element),
// each update function becomes one Txn that compares the ModRevision of the
// keys it read (tag, and the newest history entry), seq becomes a counter key in
// the same Txn, pages are Range requests at one revision, a generation of the
// graph is a prefix whose switch is one put followed by a DeleteRange, and
// meta/open becomes a lease. Closures need pages below etcd's limit of
// operations in one Txn (128 unless configured), which RecordGraph's rule,
// children before parents, allows.
package ledger
