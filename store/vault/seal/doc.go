// Package seal is how the bytes of a vault are sealed to age recipients, and opened
// again. It knows nothing of buckets.
//
// What is sealed is a file of age (age-encryption.org/v1), which the age program opens
// by itself:
//
//	header   the file key, wrapped for each recipient: age's own code writes and reads it
//	nonce    16 bytes
//	chunks   of 64 KiB each, the last one shorter, every one with a tag of 16 bytes:
//	         ChaCha20-Poly1305 under a key from file key and nonce, numbered, the last
//	         one marked
//
// Chunks are made and read here, because a vault needs two things more than a stream:
// to make any part of a sealed content again without a copy of it (so that an upload is
// repeated or divided), and to open it from the middle, reading no more than what is
// asked for. A chunk that was changed, moved, cut off or put in is ErrDamaged.
//
// A vault names a content by its digest, which tells whoever knows an image that it is
// there. So a sealed one has names of its own: an HMAC of the digest, under a key that
// is sealed in the vault and lies open on the machine that writes to it.
package seal
