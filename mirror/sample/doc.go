// Package sample is an upstream registry for the demo and for tests: a real
// registry handler on a loopback address, filled with small generated images.
//
// [Images] is content as a value, the same bytes for the same [Options]. It can
// be pushed to any registry ([Images.PushTo]), and says itself what a mirror of
// it must hold, bit for bit ([Images.Expect]). [Pull] reads an image from a
// registry as a client would, and hashes every byte.
//
//	library/base                    3.20, latest: OCI index for three platforms, BuildKit attestations;
//	                                a signature, an SBOM, a signature of the SBOM (OCI 1.1 referrers),
//	                                a fallback tag, cosign .sig and .att tags
//	library/tools                   1, amd64: Docker manifest list and schema 2, on the layers of library/base
//	apps/web                        1.0 … 1.4, latest: signed OCI indexes with a zstd layer, on library/base
//	apps/all                        1: an index of indexes
//	org/team/group/project/service  a tag of 128 characters, a foreign layer, one layer twice in a manifest
//	charts/web                      0.1.0: a Helm chart
//	artifacts/model                 v1, empty: artifact types that nobody knows, the empty config
//
// The handler is go-containerregistry's. It knows no SHA-512 digests, gives the
// config's media type as the artifact type of a referrer, and answers a list of
// tags after the last one with all of them.
package sample
