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
//	vault/prune/<ulid>.json           Plan: what is going to be removed
//	vault/forgotten/<id>.json         says that the commit record of this snapshot says nothing any more
//	vault/drills/<time>-<id>.json     what a drill found
//	vault/keys/<id>.age               in a sealed vault: the key that names its contents
//	vault/probe/<id>-…                what is tried at the moment to find out what the place does
//
// All Parse functions take any bytes. What is not as it has to be is ErrDamaged,
// what a newer version wrote ErrNewer.
//
// # Format 1, for whoever writes a reader
//
// Whoever reads the newest snapshot needs nothing of this: the whole is an OCI image
// layout, and index.json names each image <repository>:<tag>. It may be a snapshot
// behind, for it is written last. This is how every snapshot is read; a program of
// a hundred lines that does so is in store/vault/testdata/reader.
//
// Records are JSON documents in UTF-8. Of those that have a "format", 1 is what is
// described here; a greater number is for a newer program, and fields that are not
// described are to be passed over. A "sum" that is not empty is "sha256:" and the SHA-256
// of the bytes of the file with nothing between the quotes behind "sum". Times are RFC 3339 in UTC, sizes are in bytes, ids
// are ULIDs. A digest is "sha256:" or "sha512:" with a hash in lower case hexadecimal
// digits. The content of a digest lies at blobs/<algorithm>/<hex> and is exactly the
// bytes that have this hash: nothing is packed or divided, and encrypted only in format 2. A descriptor is
// that of OCI: an object with "mediaType", "digest", "size", and perhaps more.
//
// vault/config.json says that this is a vault:
//
//	format   1
//	sum      of this file
//	id       of the vault
//	created  when
//	proven   what the place was seen to do, for those who write
//
// vault/HEAD.json says which snapshots there are. What it does not list does not
// exist, whatever else lies in the vault:
//
//	format     1
//	sum        of this file
//	vault      the id of the vault
//	epoch      counts changes of this file
//	snapshots  list, the oldest first: id, record (the key of its commit record),
//	           record_digest (the hash of that file), created, root (a digest), images,
//	           blobs, bytes, verified if it was read whole and found right, and store
//	damaged    digests that were found bad, which the next backup replaces
//	locked     until when the snapshots are at least kept by Object Lock
//	read       when each part of the vault was last read back
//	prune      what is going to be removed, and who does so at the moment: only then may
//	           contents go that a reader would look for, and never those of a snapshot
//	swept      the id of the newest prune that has removed anything
//
// Should it be lost, a snapshot is every file in vault/snapshots/ whose "vault" is the
// id in vault/config.json and whose id has no file in vault/forgotten/: such a file is
// written when all that it needs is there.
//
// The commit record of a snapshot has no other one as its condition:
//
//	format, id, vault, created
//	parent     id of the snapshot before, which may be gone
//	store      names the registry that it is of, among all that save to this vault
//	writer, version, include    who wrote it, with which program, of which repositories
//	root       descriptor of its root
//	images     how many
//	blobs      how many contents the root leads to, itself included
//	bytes      of these together
//	closure    "sha256:" and the SHA-256 over their digests: sorted as text, each with a
//	           line feed after it
//	foreign    digests of layers with urls that are kept nevertheless
//	elsewhere  digest and size of those that are not; null: not known
//	state      {digest, size}, perhaps: protections of images and holds of tags
//	config     {digest, size}, perhaps: the configuration in YAML, secrets as ***
//	signature  {key, value}, perhaps; see below
//	history    {segments: list of {digest, size, events}, seq, last}; seq and last are for
//	           the ledger that goes on with it
//
// The root is an OCI index. Each of its manifests is the descriptor of the index of
// one repository, whose name is the annotation lastro.repository. Each manifest of
// that index is the descriptor of an image of the repository, with the annotations
//
//	org.opencontainers.image.ref.name  its tag; without it the image has none
//	lastro.absent                      digests, with commas between them, that a
//	                                   platform filter left out of this image
//
// An image is a manifest: of OCI or Docker, of an image, an index or an artifact, as
// it was upstream. Its contents are those of the descriptors "config" and in the lists
// "layers", "blobs" and "manifests", of which the last are manifests again, at most
// sixteen deep. All are in the vault, but for two sorts: manifests that the image's
// lastro.absent names; and layers that have "urls" and are not in the record's
// foreign. An image whose manifest has a "subject" belongs to that digest in the same
// repository (a signature, an SBOM); so does one with a tag that is the subject's
// digest with '-' for ':', alone or with .sig, .att or .sbom behind it.
//
// Who signs takes an Ed25519 key (RFC 8032). Its name, signature.key, is the first 16
// bytes of the SHA-256 of the 32 bytes of the public key, in hexadecimal digits.
// signature.value is base64 of the signature over the bytes of the file with nothing
// between the quotes behind "value": that place is the only one in the file. All that
// a snapshot needs hangs on its record by digests, so that is signed as well. The head
// is not: who can write to the vault can take snapshots off it, and not change one.
// Reports of drills are signed in the same way.
//
// The history is its segments in order. Each is a Zstandard frame of lines, each of
// them a JSON object: time, repo, tag (without it, of the repository), digest (where
// the tag is from then on), previous (where it was), event (seen, moved, removed,
// restored, …), by, reason.
//
// The state is lines of JSON, each {"protection": …} or {"hold": …} with the fields
// that "lastro ledger export" writes.
//
// # Format 2: a vault that is sealed
//
// Its config and head have the format 2 and, besides, encrypted {names, to}. What differs:
//
//	vault/keys/<names>.age   a file of age: the key of names, 32 bytes in 64 hexadecimal
//	                         digits, sealed to the recipients in "to"
//	blobs/hmac-sha256/<hex>  a content, as a file of age. hex is HMAC-SHA256, under that
//	                         key, of the text of its digest ("sha256:…")
//	vault/snapshots/…        files of age as well, as are those in vault/verified/ and
//	                         vault/drills/; record_digest is of the file as it lies there
//
// In the head and in plans "hmac-sha256:<hex>" stands where a digest of a content does
// otherwise. Which key of names is meant says encrypted.names: the first 32 digits of
// HMAC-SHA256, under it, of "the name of this key". There is no oci-layout and no
// index.json. Who seals to which recipients may change from file to file.
package layout

import _ "crypto/sha512" // contents may be named by a SHA-512
