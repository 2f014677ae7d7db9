// Package repair puts right bytes in the place of what is damaged or missing in a vault.
//
// They come from the first of these that has them: the local store, an older version of
// the same object (of a bucket that keeps versions), then what the caller names: other
// vaults, and upstreams, which are asked for the digest.
//
// Whatever a source sends is hashed before the first byte goes to the vault, again on
// its way there, and once more when it is read back. What lies there is looked at again
// first: bytes that are what their name says are never written over. What is wrong is
// replaced whole; in a bucket with versions the wrong bytes
// stay as an older one, and Object Lock locks the new one as it does what a backup
// writes. So it may run beside backups and prunes, on any number of machines: the worst
// that two of them do is to write the same bytes twice, and what a prune has made
// garbage meanwhile the next one removes.
//
// A commit record comes from an older version only. If its snapshot was forgotten while
// it was put back, it is taken away again.
package repair
