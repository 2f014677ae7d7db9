// Package catalog reads what is in a vault, and changes its head.
//
// The head is the commit point: a snapshot that it lists is whole, any other does
// not exist. It changes by compare-and-swap only, so of two processes that change
// it at once neither loses anything. If it is lost or damaged, the commit records
// stand in; if the config is, the head does. Everything else is found by its digest
// and checked against it whenever it is read.
package catalog
