// Package version reads tags as versions: it orders them, parts them into lines,
// and chooses by them.
//
// A tag is read as
//
//	prefix  numbers      prerelease  build  variant
//	v       1.25.3       rc1
//	        3.13.0       a1                 slim-bookworm
//	        21.0.3                   9      jdk
//	        2.440.1                         lts-jdk17
//	noble-  2024.4.23 (written 20240423)
//
// Any part but the numbers may be missing; what has no numbers where a version
// begins is a [Word], or a [Hash]. A suffix is a prerelease when it is a word
// that says so (rc, beta, dev, …), a build when it only counts (4, r0, k3s1),
// else a variant. Nothing is guessed from what other tags a repository has.
//
// # Lines
//
// Tags that replace each other are of one line, see [Version.Line]: same kind,
// prefix, variant and number of numbers, prereleases for themselves. What a
// variant counts for itself is not part of the line but of the order within it:
// a system's dotted version (alpine3.19), a number of its own (debian-12, ce.0),
// a counter (r4). Other numbers name a choice (jdk17, php8.2, ltsc2022).
package version
