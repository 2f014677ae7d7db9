// Package upstream is one remote registry that we read: auth, limits, retries,
// resumable reads. A [Registry] is a [mirror.Source].
//
//	Open       settings of a host → Registry; nothing is sent yet
//	Head       what a tag or digest is, without its content
//	Manifest   a manifest, whole and verified
//	Blob       content from an offset, as a stream that is watched
//	Range      a part of it, for several streams at once
//	Tags, Repositories, Referrers   lists, page by page
//
// # Guarantees
//
//   - Requests are tried again here and nowhere else: 429 and 5xx answers and
//     connections that break before a document is whole, at most five times, as
//     late as the server's Retry-After says. An upstream that was given up gets
//     one attempt a request until it answers again. Streams of blobs that break
//     off are not tried again here: package mirror continues them.
//   - Bytes come as the server has them, never decompressed. A manifest is
//     checked against the digest that was asked for, or else against the one
//     that the server names. A blob is not: whoever stores it checks it.
//   - Nothing waits for ever: connecting, TLS, the first byte of an answer and
//     each further byte have their limits, and every wait ends with its context.
//   - Nothing is read whole into memory but manifests (8 MiB), pages of lists
//     (32 MiB), and answers that say what is wrong (64 KiB).
//   - At most Settings.Connections requests run at once, streams included. A
//     stream counts until it is closed.
//   - 404 is [fs.ErrNotExist]. What a registry does not have, a catalog or the
//     referrers API, is [errors.ErrUnsupported].
//
// # Who sees the credentials
//
// They go to the endpoint, and to the token server that the endpoint names
// (WWW-Authenticate), which may be another host, as Docker Hub's is. From an
// HTTPS endpoint they never go over plain HTTP; such a token server is refused.
// Redirects, to a CDN for example, lead where the configured upstream says, ten
// at most, never from HTTPS to HTTP, and leave the credentials behind when they
// leave scheme, host or port. The next page of a list is on the endpoint, or the
// list ends in an error. No error and no log line holds a password, a token or
// the query of an address.
//
// The Docker configuration ($DOCKER_CONFIG or ~/.docker/config.json, with its
// credential helpers) is asked for the host that is spoken to: for docker.io
// under https://index.docker.io/v1/, and for an endpoint elsewhere under the
// endpoint's own host. It is read again whenever a token is needed, so that a
// docker login needs no restart. A token is got once for each repository, and
// kept for four fifths of its life.
//
// Plain HTTP is spoken only when the settings say so, to localhost too.
// Proxies are those of the environment. The certificates of Settings.CA hold
// for all hosts that the upstream leads to.
//
// # Libraries
//
// Docker's configuration and the protocol of its credential helpers are
// oras-go's. Its registry client is not used: it neither reads from an offset
// with a closed range, nor obeys Retry-After as a date or tells all requests of
// it, nor falls back from HEAD, nor bounds its lists, and these are what this
// package is for.
package upstream
