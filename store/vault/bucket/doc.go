// Package bucket says what a vault needs of the place where its objects lie. The
// packages below it are such places: folder and s3.
//
// A bucket maps keys ("blobs/sha256/…") to objects. There are two sorts:
//
//   - contents, named by their digest, of any size, written once (Put), read as
//     streams (Get). The bytes are hashed on their way in: content that is not
//     what its digest says is never stored, whatever the disk it comes from did.
//     Reading does not hash; who reads a content checks it against its digest.
//   - records, small JSON documents, read whole (Load) and replaced by
//     compare-and-swap (Swap).
//
// Guarantees, the same for all implementations and proven by
// buckettest.Acceptance:
//
//   - An object is there whole or not at all; when a write returns nil, it is
//     durable and every later read sees it.
//   - Put never replaces. A key that already holds the same content is success;
//     one that holds something else is ErrDiffers.
//   - Remove never removes more than is named, and of a version never another one.
//   - Of many Swaps from one state, exactly one wins; the others get ErrChanged.
//   - An error of a write leaves it open whether the write took place, with the
//     exceptions ErrChanged, ErrDiffers and *ContentError: these changed nothing.
//   - The implementation owns all retries: who gets an error need not try again.
package bucket
