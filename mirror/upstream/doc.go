// Package upstream is one remote registry that we read: auth, limits, retries,
// resumable reads. A [Registry] is a [mirror.Source]. A [Target] is a registry that
// images are put into.
//
//	Open       settings of a host → Registry; nothing is sent yet
//	Head       what a tag or digest is, without its content
//	Manifest   a manifest, whole and verified
//	Blob       content from an offset, as a stream that is watched
//	Range      a part of it, for several streams at once
//	Tags, Repositories, Referrers   lists, page by page
//	RepositoriesIn                  those of a namespace, where the registry itself has no list
//	Budget, Throttled, Outcomes     what it lets us do, and how requests ended
//	OpenTarget the same settings → Target; Resolve and Has look, Blob, Manifest and Publish send
//
// # Guarantees
//
//   - Requests are tried again here and nowhere else: 429 and 5xx answers and
//     connections that break before a document is whole, at most five times. An
//     upstream that was given up gets one attempt a request until it answers
//     again. Streams of blobs that break off are not tried again here: package
//     mirror continues them.
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
// # Limits
//
// An answer of 429, or of 503 with Retry-After, makes all requests of its
// credentials pause. A wait of more than two minutes, and five such answers in a
// row, end in a [mirror.ThrottledError]; without a time from the server that is
// a minute, doubled as long as it is not enough. Until then requests with these
// credentials get the same error, and nothing is sent. Package limit has the
// rules, and those of budgets: a manifest is not read when that would go into
// the reserve. At registries other than Docker Hub, HEAD counts as well.
//
// # Several credentials
//
// They are used in their order: the first that may ask now asks. One that is
// refused (401, 403) or cannot be found leaves the request to the others, and
// whoever is let into a repository is asked first there from then on. When all
// are refused and a password or token of the configuration is among them,
// Options.Settings may give others, for the same address. So it is with those of
// mirrors, and at the API that Settings.Catalog names.
//
// # Mirrors
//
// They have the same content at another address. Where the upstream fails, they
// are asked in turn: for what has a digest when it is down, limits us, or does
// not have it; for a tag only when it is down; for lists never. Each has its own
// connections, credentials, health and limits; they share the upstream's
// bandwidth. That they do not have something says nothing: the error is the
// upstream's.
//
// # Putting images into a registry
//
// A blob that another repository there is known to have is taken from it. Otherwise it
// is sent in one request, and when that breaks off again from the start, at most five
// times; the sender's own faults are not tried again. A registry that takes nothing for
// a minute is given up. Where it has no list of referrers, a tag is one.
//
// # Who sees the credentials
//
// An upload that the registry wants elsewhere is sent there without them.
//
// They go to the endpoint, and to the token server that the endpoint names
// (WWW-Authenticate), which may be another host, as Docker Hub's is. A bearer
// token of the configuration goes to the endpoint alone. From an
// HTTPS endpoint they never go over plain HTTP; such a token server is refused.
// A password goes to the API of Settings.Catalog as well, Docker Hub's own or
// GitHub's, unless it is one for an endpoint elsewhere.
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
// docker login needs no restart. So is a helper that the settings name, and AWS
// for hosts of ECR. A token is got once for each repository and credentials, and
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
