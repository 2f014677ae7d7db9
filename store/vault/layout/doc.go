// Package layout is what lies in a vault: names, records, indexes and segments of
// history. It only encodes and decodes.
//
//	oci-layout                        marks an OCI image layout
//	index.json                        the newest snapshot, flat: a cache, never the truth
//	blobs/<algorithm>/<hex>           every content once; of our own among them:
//	                                    a root: OCI index of the indexes of a snapshot's repositories
//	                                    an index of a repository: its images, with tags
//	                                    a segment: events of the ledger, JSON lines, Zstandard
//	vault/config.json                 Config
//	vault/HEAD.json                   Head: the commit point
//	vault/snapshots/<time>-<id>.json  Snapshot: the commit record
//	vault/verified/<id>/<ulid>.json   what a verification found
//	vault/probe/<id>-…                what is tried at the moment to find out what the place does
//
// An image in an index of a repository carries its tag as
// org.opencontainers.image.ref.name, and in lastro.absent the digests that a
// platform filter left out.
//
// All Parse functions take any bytes. What is not as it has to be is ErrDamaged,
// what a newer version wrote ErrNewer.
package layout

import _ "crypto/sha512" // contents may be named by a SHA-512
