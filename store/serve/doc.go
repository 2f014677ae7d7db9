// Package serve is the registry's HTTP API: it answers pulls from the files and
// the ledger of a store, by the distribution-spec v1.1.
//
// # What a client may rely on
//
//   - A manifest is sent as it is stored, whatever the request accepts: a digest
//     has one content. Its bytes were verified.
//   - What a repository serves is served; what only another one has is not.
//   - HEAD says what GET would. Entity tags are digests: If-None-Match takes
//     lists, weak tags and *, ranges are of blobs, and of those that come too.
//   - Tags come ordered in pages by n and last, with a Link to the next that
//     keeps ns; without n all at once. The catalog shows what the client may see.
//   - Referrers are those that name a subject and those of the fallback tag, in
//     answers of at most 4 MiB.
//   - No answer is taken for whole that is not: what breaks after its headers
//     ends the connection.
//   - A client that takes nothing is cut off, see Options.Patience.
//
// # What is not here
//
// A request goes through Parse, Names, Access, and then what is here or what
// Demand brings. 404 is what is not to be had: an upstream that nobody
// configured, what no upstream has, and an image that is withheld, which is said.
// What is listed may be more or other than what is here: Lists.
// 404 sends containerd to its next host. 429 with Retry-After and 502 are what
// an upstream cannot give now: a client is to come back, and not to go around
// the mirror.
package serve
