// Package verify proves that everything is right that snapshots in a vault need: by
// reading and hashing all of it, a part of it, or by what the bucket says of it.
//
// It reads in the order of references: the commit records, the history, the roots, the
// indexes of repositories, the manifests of one repository after the other, then all
// blobs. What several snapshots need is read once. It changes nothing but the head,
// where it notes when a snapshot was found right, or what is damaged, and adds a
// receipt for each snapshot. Told to repair, it puts right bytes in the place of damage
// where it finds it, by package repair, so that it goes on below; it reads them back.
package verify
