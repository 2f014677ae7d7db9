// Package progress is how long work looks while it goes on.
//
// On a terminal it is one line, redrawn at most ten times a second, that gives
// way to whatever else is printed and is gone when the work has ended:
//
//	[==========>           ]  42%  1.2 GiB of 2.8 GiB  57 MiB/s  12 of 40 images  28s left
//
// A narrow terminal shows less of it. Failed items are said at once, above the
// line. Elsewhere, in a log or a pipe, every item that is done is a line, and
// every ten seconds there is one with the totals:
//
//	done docker.io/library/alpine:3.20
//	failed docker.io/library/busybox:1: upstream docker.io: 404 Not Found
//	12 of 40 images, 1.2 GiB of 2.8 GiB, 57 MiB/s, 28s left
//
// It belongs on standard error: standard output is for results. What upstreams
// say is shown without its control characters, so that no error message can
// play with the terminal.
package progress
