// Package probe finds out what the place of a vault really does, whatever it says.
//
// It races writers against each other, sends bytes under a wrong hash, and reads and
// lists what it has just written. All of it happens under vault/probe/<id>-…, and is
// removed afterwards, also what an earlier probe left that was cut short.
package probe
