// Package serve is the registry's HTTP API: it answers pulls from the files and
// the ledger of a store.
package serve
