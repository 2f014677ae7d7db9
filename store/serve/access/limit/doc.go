// Package limit keeps a server alive whatever comes: connections, requests and
// headers are bounded, and who is slow is cut off.
//
// What is beyond a limit is refused at once and never waits: a queue would be
// one more thing to fill. A connection that is too many gets 503 with
// Retry-After where no TLS is spoken, else it is closed; a request that is too
// many gets the same 503 in the words of the distribution-spec. No address has
// more than its part of connections, nor more than half of the requests in
// flight, so that none can take all.
//
// A header has ten seconds. A body has a minute for each 64 KiB, of which only
// waiting for the client counts: what the disk takes is not the client's.
// Responses have no limit here, because a layer takes as long as it takes; the
// handlers cut off who reads nothing. Neither connections nor responses are
// hidden: files go out from the kernel.
package limit
