// Package verify reads and hashes everything that a snapshot in a vault needs.
//
// It reads in the order of references: the commit record, the history, the root, the
// indexes of repositories, the manifests, then all blobs. It changes nothing but the
// head, where it notes when the snapshot was found right, or what is damaged, and
// adds a receipt.
package verify
