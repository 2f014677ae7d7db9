// Package keychain finds credentials that others keep: Docker's configuration and
// credential helpers.
//
//	Keys     the names under which those for a host may be kept
//	Docker   what docker login stored, or the helper that the configuration names has
//	Helper   what one helper has
//
// They are looked up anew each time, so that a docker login needs no restart. No
// error holds a secret.
package keychain
