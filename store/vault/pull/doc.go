// Package pull answers registry requests out of a snapshot.
//
//	Open         reads config, head, commit record and root index: one request each
//	Manifest     the first of a repository reads the repository's index as well
//	Blob         a stream of what comes from the bucket into the store
//	Lists        the names, tags and referrers of the snapshot
//
// Nothing else is read before it is asked for, so how much is in the vault does
// not matter. What a digest belongs to is known from the manifests that were asked
// for; a digest that none of them names, and the first question for referrers,
// read all manifests of its repository, once.
//
// # What a client may rely on
//
//   - A repository serves what the snapshot has in it, and nothing else of the vault.
//   - Every byte is hashed. Of content that is on its way the end is kept back
//     until the whole was found right; who asked for a part of it by [Verified]
//     gets nothing before.
//   - Content is fetched once, however many ask, and kept in the store: ingested,
//     and not published, so nothing is visible there by that.
//   - What is in the store is not fetched. It is answered when the vault is gone.
//
// Errors are fs.ErrNotExist and *[spec.Refusal]: 503 with Retry-After for a vault
// that does not answer, 502 for what is damaged there, which the log names.
package pull
