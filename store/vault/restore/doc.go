// Package restore brings images and their history from a vault back into a store.
//
// In this order: manifests are read and ingested, blobs are ingested, images are
// published with their tags last, the events of the history are imported. Whatever
// stops it leaves content that nothing refers to, or whole images; running again
// goes on from there. Nothing in the vault is trusted: every byte is hashed, names
// are checked, sizes are bounded, and what is wrong fails only the images that it
// is in.
package restore
