// Package demand brings what clients ask for and the local registry does not
// have, and looks whether what it has is still what the upstream has.
//
//	Manifest   what is not here is asked for and brought; the client has the
//	           manifest as soon as it is verified
//	Blob       a stream of what is on its way, or is brought now
//	Names      which local repository a client means
//
// # A miss
//
// A tag is brought when a rule with on-demand selects it; whether latest would leave
// it out cannot be said without a list, and is not asked. A digest is brought
// without a tag, whatever platforms the rule has: somebody asked for this one.
// Tags that attach something to an image come with the image. All gates of a sync
// hold: what is too young, what moved and never should, and what retention
// removed and would remove again is withheld ([mirror.WithheldError]). What
// retention removed and would keep by now is brought.
//
// One run brings an image, however many ask. Its manifests and blobs are answered
// from it, each brought ahead of what waits; the tag moves when all is here,
// as in a sync. Clients that leave do not stop it. For a minute after its end
// a run still tells what its image is made of.
//
// A blob that no run is about, as after a restart, is asked for in the upstream
// repository before anything is given out: that the registry holds the content
// for another repository does not matter. It becomes visible with an image only.
//
// # What is here
//
// It is served whatever the upstream says. With the mode local nobody asks. With
// stale the answer is what is here, and when the upstream was not asked within
// ttl it is asked afterwards. With fresh it is asked first, and has five seconds
// to answer and to send the manifest; a new image is served while it comes.
// When an ask was is forgotten at the end of the program, but for immutable tags.
//
// # Limits
//
// So many images are brought at once, and so many requests wait, as [Options] say;
// refreshes in the background take half of the places for images at most. What
// an upstream does not have is not asked for again for 30 seconds, what it
// throttles until its time or for a minute, other failures for 5 seconds.
// [Demand.Close] ends all that runs.
package demand
