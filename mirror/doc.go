// Package mirror copies images from upstream registries into the local one:
// rules → plan → copy → publish.
//
//	Rule           one entry of the configuration: what to copy from where
//	Engine.Plan    one list of tags a repository, one HEAD a tag: what differs
//	Engine.Apply   content, then what is attached to the image, then its tag
//	Engine.Ask     one tag or digest that a client asked for, under the same gates
//	Pull.Bring     its image, copied and published alone; package demand decides when
//	Engine.Explain what the rules make of one tag, and why
//	Destination    the local registry, as package store implements it
//	Follower       a Destination whose content can be read while it comes
//	Traffic        what is on its way, over all engines that share it: each digest once
//	Directory      which local repository comes from where
//	Memory         what earlier runs saw, as package store implements it
//	Source         an upstream, as package upstream implements it
//
// # Guarantees
//
//   - Bytes are never re-encoded. Everything is checked against its digest
//     and its size before it is stored.
//   - A tag moves when its closure is stored and durable, and after what is
//     attached to the image. Whatever ends a run leaves tags on whole images.
//   - What the local registry holds is not fetched again, in whatever
//     repository it is; content that several images want is fetched once, and
//     goes on where it broke off.
//   - One image that fails fails alone. The next run tries it again.
//   - What an upstream throttles ([ThrottledError]) is no failure: it is deferred
//     and in the report with its time; the rest goes on.
//   - A second run with nothing new sends one request for each repository's
//     tags and one HEAD for each tag, none for immutable tags. Referrers of
//     images that did not move, and immutable tags, are asked for once a day;
//     then manifests and links are looked at, too, and else only whether content is there.
//   - Planning writes nothing. What a plan saw is remembered when it is applied.
//
// # Order
//
// Images that are not here come before those that moved, the newest versions
// first; of the downloads that wait, those of the image that has least to fetch go
// first, and before them what a client waits for. Nothing is fetched that the disk has no room for.
//
// # Time
//
// A digest is known from the first sync on that saw it in its repository, under
// whatever tag. min-age counts from then, by the local clock. A tag vanished when
// its HEAD says so, whatever the list says; more than a fifth of a repository at
// once, or all of it, is not believed. An immutable tag that moves, and a list
// that shrinks so, are alarms. They, digests that are held and what vanished are
// events in the ledger that move no tag.
//
// # Large layers
//
// From 128 MiB on a blob is read in pieces of 8 MiB. The first tells how fast one
// stream is; below 64 MiB a second, further streams are tried, up to four, as long as
// each makes the whole faster by a fifth. The pieces wait in memory, at most four, for
// one blob at a time. Otherwise one stream reads the rest.
//
// # Limits
//
// A manifest has at most 8 MiB ([MaxManifest]), those of one image together 64 MiB;
// indexes lie at most sixteen deep inside each other. Docker schema 1 is refused:
// its digest does not cover what it refers to. Repositories that vanish from an
// upstream's catalog are not noticed: their tags stay.
package mirror
