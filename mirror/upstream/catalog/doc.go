// Package catalog tells which repositories an upstream without a _catalog has:
// Docker Hub's and GHCR's ways.
//
//	Address   where the list of a host is, if it has one here
//	Catalog   lists the repositories of one namespace
//
// Docker Hub lists a namespace at hub.docker.com, official images as library:
// public repositories to everybody, private ones to who logs in. GHCR's packages
// are listed by GitHub's API at api.github.com, for an organisation or else a
// user, and only with a token that may read packages. Neither lists all
// namespaces. Other upstreams have a _catalog, or no list at all.
//
// Pages are followed on the list's own host only, 1,000 at most and each of at
// most 8 MiB. Names that no repository may have are left out, and logged. No
// error holds a password or a token.
package catalog
