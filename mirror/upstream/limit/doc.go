// Package limit is how fast and how much an upstream lets us ask.
//
//	Quota, RetryAfter   what the headers of an answer say
//	Account             what one credential may ask now: pauses, refusals, budget
//	Pace                how many requests and bytes a second we allow ourselves
//
// An Account learns from answers and is asked before requests. It knows three
// limits: a pause, which is waited out; a closing, during which nothing is sent
// and whoever asks is told until when; and a budget of pulls, of which a reserve
// is left to others. What an upstream never spoke of is not limited.
//
// Budgets come back in one of two ways. In a rolling window, such as Docker
// Hub's, each pull comes back a window after it was made: we know when we made
// ours, and those of others are taken to be spread evenly. With a reset all of
// them come back at once.
package limit
