// Package field reads what the header fields of answers say.
//
//	Challenges     WWW-Authenticate: how a server wants to know who asks
//	NextLink       Link: where the next page of a list is
//	ContentRange   Content-Range: which part of a content came
//
// They come from strangers: what cannot be read is left out, and nothing of it is
// taken for more than text.
package field
