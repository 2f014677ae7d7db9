// Package layout writes and reads distribution's on-disk layout, durably.
//
//	<root>/docker/registry/v2/
//	  blobs/<alg>/<first two>/<hex>/data                      content, once
//	  repositories/<name>/_layers/<alg>/<hex>/link            the repository serves this blob
//	  repositories/<name>/_manifests/revisions/<alg>/<hex>/link  … this manifest
//	  repositories/<name>/_manifests/tags/<tag>/current/link  the tag: what makes an image visible
//	<scratch>/sha256/<hex>                                    unfinished content, resumed
//	<scratch>/tmp/<random>                                    files on their way to their name
//
// A link holds a digest, without a newline. An empty link, which a power cut
// can leave behind, counts as absent.
//
// # Order of writes
//
// Content is written to scratch, hashed on the way, synced (fdatasync) and
// renamed to its name. Links are renamed into place unsynced. Before a tag or
// revision becomes visible, one barrier (syncfs, shared by all who wait) makes
// everything that was written before durable; a tag's folder is synced after
// its rename. So a tag that survives a power cut has its whole image.
package layout
