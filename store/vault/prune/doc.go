// Package prune lets snapshots of a vault go.
//
// Forget takes snapshots off the vault's head, by compare-and-swap: from then on they
// do not exist. Their records and blobs stay where they lie. It never takes the last
// snapshot of a vault, nor the last that a store has there, and does nothing where the
// head is lost and something stands in for it.
package prune
