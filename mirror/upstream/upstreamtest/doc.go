// Package upstreamtest is an upstream that misbehaves, one named fault at a
// time, for tests.
//
//	Net      hosts without a network, so that time may be virtual (testing/synctest)
//	Strike   which requests a fault strikes: a kind, a name, the n-th time, by chance
//	Fault    what goes wrong in front of a sound registry; [With] puts them in a row
//	Tally    which requests came, and which bytes of what went out
//
// # Faults
//
//	CutAt           the connection breaks after so many bytes of a body
//	Drip            a body comes in drops
//	Stall           a body stops and nothing more comes; Silent: not even an answer
//	NoRange         200 with the whole where a part was asked for
//	OtherRange      206 with another part
//	RefusedRange    416
//	RedirectLoop    redirects that lead nowhere
//	Elsewhere       redirects to a CDN, whose addresses are good for one request
//	ExpiringTokens  bearer tokens that die before the time they were promised
//	TooMany         429, with or without saying when to come back
//	Unavailable     503
//	FlappingDNS     a name that is not always found
//	LyingLength     a Content-Length that is not the body's
//	OtherLength     a body and a Content-Length that are not the content's
//	WrongBytes      a body of the right length that is not the content
//	HTMLPage        a login page with 200
//	RepeatingPages, ReorderedPages, CirclingPages   of listings
//	MovingTag       a tag that is another image's from some request on
//	Vanishing       listed and HEADed, but not to be had
//
// The same schedule strikes the same requests: what decides is the request and
// how often it came before, not the order in which different ones arrive.
package upstreamtest
