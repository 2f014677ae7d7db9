// Package push answers what would change the registry: uploads, pushes and
// deletes. It is the only place that runs distribution's own handler, which
// keeps the sessions of uploads; manifests, mounts, deletes and what does not
// hash by SHA-256 are ours.
//
// # What is acknowledged
//
// 201 to a manifest is said when the manifest, all that it refers to and its
// tag are durable and the ledger has them. 201 to a blob is said when its bytes
// are; that the repository serves it is durable from the first manifest on that
// refers to it. A manifest is refused unless all that it refers to is served by
// the same repository, so that whatever is visible can be backed up whole.
//
// # Sessions
//
// distribution's session is a folder of the repository that it belongs to:
//
//	<repository>/_uploads/<session>/data         what has come
//	<repository>/_uploads/<session>/hashstates/  how far it was hashed
//
// Its state travels with the client, signed with the key of the data folder, so
// that an upload goes on after a restart. One request at a time may write to a
// session: a second could add to what the first has made content.
package push
