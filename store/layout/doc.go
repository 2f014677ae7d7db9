// Package layout writes and reads distribution's on-disk layout, durably.
//
//	<root>/docker/registry/v2/
//	  blobs/<alg>/<first two>/<hex>/data                      content, once
//	  repositories/<name>/_layers/<alg>/<hex>/link            the repository serves this blob
//	  repositories/<name>/_manifests/revisions/<alg>/<hex>/link  … this manifest
//	  repositories/<name>/_manifests/tags/<tag>/current/link  the tag: what makes an image visible
//	<scratch>/sha256/<hex>                                    content on its way: unfinished, resumed, or waiting
//	<scratch>/tmp/<random>                                    files on their way to their name
//
// A link holds a digest, without a newline. An empty link, which a power cut
// can leave behind, counts as absent.
//
// # Order of writes
//
// Content is written to scratch and hashed on the way. Large content is synced
// (fdatasync) and renamed to its name; small content waits in scratch for the
// next barrier (syncfs, shared by all who wait), which makes everything written
// before it durable, and is renamed after that. So content that has its name is
// whole, after a power cut too, and nobody hashes it again.
//
// The file of a finished upload becomes content in the same order: it is hashed,
// synced and renamed.
//
// # Reading what comes
//
// Content can be read while it lies in scratch unfinished, by many at once and
// from any offset. Its last 64 KiB are given out when the Ingest has ended well,
// so nobody takes wrong content for whole. Who has read bytes that are thrown
// away, because the content proved wrong, gets an error and never a mixture.
//
// # Links
//
// Links are made in place, unsynced. A barrier goes between the names of content
// and the links of the manifests that refer to it, and another before a tag
// and after it. So a tag that survives a power cut
// has its whole image, and so has a manifest that a repository serves.
//
// What a link says, and how long content is, is remembered, some of it, until
// a [Tree] or its [Driver] changes it. A change is announced before it is
// made, and by the shape of its name: a link has a fixed depth below its repository.
// So nobody reads from memory what the disk says no more. Absence is not remembered.
package layout
