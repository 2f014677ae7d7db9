package limit

import (
	"net"
	"net/netip"
	"sync"

	"lastro/store/serve/access/owner"
)

// share divides something among addresses.
type share struct {
	mu    sync.Mutex
	total int
	by    map[netip.Addr]int
	most  int // of all
	each  int // of an address
}

func newShare(most, each int) *share { return &share{by: map[netip.Addr]int{}, most: most, each: each} }

func (s *share) resize(most, each int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most, s.each = most, each
}

func (s *share) take(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.most || s.by[a] >= s.each {
		return false
	}
	s.total++
	s.by[a]++
	return true
}

func (s *share) give(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.by[a]--; s.by[a] == 0 {
		delete(s.by, a)
	}
}

func (s *share) used() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// whose is whom a connection belongs to: an address, of IPv6 a network of 64
// bits. What has no address is one owner.
func whose(remote net.Addr) netip.Addr {
	if remote, ok := remote.(*net.TCPAddr); ok {
		return owner.Of(remote.AddrPort().Addr())
	}
	return netip.Addr{}
}

func whoseIs(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return owner.Of(at.Addr())
}
