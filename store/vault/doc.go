// Package vault saves what a store holds as snapshots in a bucket, and lists, shows,
// verifies and restores them. Package layout draws what lies there, and describes it
// so that a reader can be written from the description.
//
// # A backup
//
//  1. The vault's config, head and newest commit record are read. Blobs that a
//     verification found damaged are replaced by the store's own.
//  2. The tags and manifests of the store are taken down. Writers do not wait.
//  3. If the root over them is the one of the newest snapshot, and no foreign layer
//     that it left elsewhere has come since, all is there. Otherwise what the ledger
//     does not know to be in the bucket is sent, then the indexes, then the root.
//  4. The events since the newest snapshot are sent as a segment.
//  5. The commit record is written, and the head swapped: now the snapshot exists.
//  6. index.json is written, for programs that know only OCI image layouts.
//  7. Where the settings want locks, and less than half of their time is left, all
//     that snapshots need is locked again; package lock does that.
//
// A backup that is broken off before 5 leaves blobs that no snapshot names, which the
// next finds where it would put them. With nothing new it sends at most eight
// requests, however much there is.
//
// # Guarantees
//
//   - A snapshot that is listed needs no other one and was whole when it was
//     written.
//   - The bytes of every content are hashed on their way into the bucket and on their
//     way back.
//   - An image that the store does not have whole never makes a snapshot incomplete:
//     the snapshot keeps what the one before has under that tag, or leaves it out,
//     and the report says so.
//   - Contents are created and never overwritten, unless what lies under the name
//     is not what the name says.
//   - Each image leaves out what a platform filter left out of it, and nothing else:
//     a sparse image that is kept from the snapshot before hides no child from
//     another image.
//   - A verification says how far it has proven what; told to repair, it puts right bytes
//     in the place of wrong ones and of nothing else. Package repair says from where.
//   - How a commit is made follows from what the place was proven to do; package probe
//     finds that out when the vault is made, once a month, and whenever it is asked to.
//   - Where the settings want locks, all that snapshots need is locked until the head
//     says. What neither a backup has stored nor the snapshot before it needs is
//     looked at before the commit.
//   - Where the settings name recipients, everything that tells of images is sealed to
//     them before it is sent, names of objects included (package seal), and a vault
//     that was not made so is refused. Who has no identity reads the head, and for the
//     rest what this machine has kept; what in the vault he cannot compare he takes for
//     right if its length can be. He verifies by a listing what he has sent.
//   - What a bucket holds is bounded when it is read, and what goes beyond is named
//     with the vault and the object: a manifest has at most 8 MiB, a record or an
//     index of ours 64 MiB; indexes lie at most sixteen deep inside each other; the
//     manifests of a repository have at most 4 GiB and 2^25 references. An image
//     that is nested deeper is not saved either, and the report says so.
package vault
