// Package owner says which addresses are one client's, for what is counted by
// client: connections, requests and failed logins.
package owner

import "net/netip"

// Of is an address without its zone, of IPv6 the network of 64 bits that one
// client has. IPv4 in IPv6 is IPv4.
func Of(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	p, _ := a.Prefix(64) // it is an IPv6 address
	return p.Addr()
}
