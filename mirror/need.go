package mirror

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// Need is what a plan needs of one upstream, against what that lets us have.
// It is an estimate: what an image is made of is known when it is read.
type Need struct {
	Upstream string    `json:"upstream"`
	Pulls    int       `json:"pulls"`    // manifests to read
	Requests int       `json:"requests"` // those and blobs, as far as can be said
	Bytes    int64     `json:"bytes"`    // what moves replaces images of this size here; nothing is known of new ones
	Limited  bool      `json:"limited"`
	Left     int       `json:"left,omitempty"`    // pulls, without the reserve
	Reserve  int       `json:"reserve,omitempty"` // pulls
	Done     time.Time `json:"done"`              // when the budget has let it all through
}

// String says it in words.
func (n Need) String() string {
	text := fmt.Sprintf("upstream %s: about %d pulls in %d requests, and %d bytes where images moved", n.Upstream, n.Pulls, n.Requests, n.Bytes)
	if !n.Limited {
		return text + "; it told of no limit"
	}
	return text + fmt.Sprintf("; %d pulls left beside a reserve of %d, done about %s", n.Left, n.Reserve, n.Done.UTC().Format(time.RFC3339))
}

// needs estimates what the changes of a plan take, by upstream.
func (p *planner) needs(ctx context.Context, plan Plan) []Need {
	byHost := map[string]*Need{}
	for _, rp := range plan.rules {
		for _, c := range rp.changes {
			n := byHost[rp.rule.host]
			if n == nil {
				n = &Need{Upstream: rp.rule.host}
				byHost[rp.rule.host] = n
			}
			p.estimate(ctx, n, rp.rule, c)
		}
	}
	var needs []Need
	for host, n := range byHost {
		if src, err := p.meter.source(host); err == nil {
			n.against(src.Budget(), p.Now())
		}
		needs = append(needs, *n)
	}
	slices.SortFunc(needs, func(a, b Need) int { return cmp.Compare(a.Upstream, b.Upstream) })
	return needs
}

// estimate adds one change, which is taken to be made like the image that is
// here, and else of an index and its platforms.
func (p *planner) estimate(ctx context.Context, n *Need, r *rule, c change) {
	if c.recheck {
		n.Requests++
		return
	}
	pulls, blobs, bytes := 1+max(1, len(r.platforms)), 0, int64(0)
	if c.previous != "" {
		s := &scale{dest: p.Dest, rule: r, repo: c.to}
		if s.weigh(ctx, c.previous, 0) {
			pulls, blobs, bytes = s.manifests, s.blobs, s.bytes
		}
	}
	n.Pulls += pulls
	n.Requests += pulls + blobs
	n.Bytes += bytes
}

// against sets what the upstream lets us have.
func (n *Need) against(b Budget, now time.Time) {
	n.Done = now.UTC()
	if !b.Known {
		return
	}
	n.Limited, n.Left, n.Reserve = true, b.Spare(), b.Reserve
	for missing, window := n.Pulls-n.Left, max(1, b.Limit-b.Reserve); missing > 0; missing -= window {
		n.Done = n.Done.Add(b.Window)
	}
}

// scale weighs an image that is here.
type scale struct {
	dest Destination
	rule *rule
	repo string

	manifests, blobs int
	bytes            int64
}

// weigh adds a manifest and what is below it, and reports whether it is here.
func (s *scale) weigh(ctx context.Context, d digest.Digest, depth int) bool {
	desc, raw, err := s.dest.Manifest(ctx, s.repo, d)
	if err != nil || depth > maxDepth {
		return false
	}
	m, err := ParseManifest(desc, raw)
	if err != nil {
		return false
	}
	s.manifests++
	s.bytes += desc.Size
	for r := range s.rule.kept(m) {
		s.blobs++
		s.bytes += r.Size
	}
	selected, _ := split(m, s.rule.platforms)
	for _, child := range selected {
		s.weigh(ctx, child.Digest, depth+1)
	}
	return true
}
