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
// Links are made in place, unsynced. A barrier goes between the names of content
// and the links of the manifests that refer to it, and another before a tag
// and after it. So a tag that survives a power cut
// has its whole image, and so has a manifest that a repository serves.
package layout
