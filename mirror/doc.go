// Package mirror copies images from upstream registries into the local one:
// rules → plan → copy → publish.
//
//	Rule          one entry of the configuration: what to copy from where
//	Engine.Plan   one list of tags a repository, one HEAD a tag: what differs
//	Engine.Apply  content, then what is attached to the image, then its tag
//	Destination   the local registry, as package store implements it
//	Source        an upstream, as package upstream implements it
//
// # Guarantees
//
//   - Bytes are never re-encoded. Everything is checked against its digest
//     and its size before it is stored.
//   - A tag moves when its closure is stored and durable, and after what is
//     attached to the image. Whatever ends a run leaves tags on whole images.
//   - What the local registry holds is not fetched again, in whatever
//     repository it is; content that several images want is fetched once.
//   - One image that fails fails alone. The next run tries it again.
//   - A second run with nothing new sends one request for each repository's
//     tags and one HEAD for each tag. Referrers of images that did not move
//     are asked for once a day.
//
// # Limits
//
// A manifest has at most 8 MiB ([MaxManifest]); indexes lie at most sixteen
// deep inside each other. Docker schema 1 is refused: its digest does not cover
// what it refers to.
package mirror
