package verify

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// conclude says what was found in a snapshot.
func (r *verify) conclude(s *snapshot) {
	all := map[digest.Digest]int64{}
	if s.root != nil {
		all[s.root.digest] = s.root.size
	}
	for v := range s.versions {
		for _, n := range v.needs {
			all[n.digest] = n.size
		}
	}
	for d, p := range r.problems {
		if _, needed := all[d]; needed || slices.Contains(s.own, d) {
			p.Images = r.hurt(s, d)
			p.Next = r.next(p)
			s.report.Problems = append(s.report.Problems, p)
		}
	}
	s.report.Level, s.report.Part, s.report.Coverage = r.o.level(), r.o.part(), r.coverage(maps.Keys(all))
	_, _, closure := layout.Measure(all)
	if want := s.record.Closure; s.report.Left() == 0 && closure != want {
		s.report.Problems = append(s.report.Problems, Problem{Digest: want, Kind: "incomplete", Images: []string{}, Error: fmt.Sprintf("%d blobs are named below the root, the record counts %d", len(all), s.record.Blobs)})
	}
	slices.SortFunc(s.report.Problems, func(a, b Problem) int { return cmp.Compare(a.Digest, b.Digest) })
}

// next is what a person can do about a problem.
func (r *verify) next(p Problem) string {
	switch {
	case p.Repaired || p.Kind == "untrusted":
		return ""
	case r.repairer == nil:
		return "lastro backup verify --repair " + r.Name
	case len(p.Images) > 0:
		return "bring what it hurts here again (lastro sync, or push it), then lastro backup verify --repair " + r.Name
	}
	return "lastro backup " + r.Name + ": a new snapshot writes its own; what is whole of the damaged one can be restored"
}

// coverage says how far contents were proven right.
func (r *verify) coverage(all iter.Seq[digest.Digest]) (c Coverage) {
	for d := range all {
		n := r.needs[d]
		c.Blobs++
		c.Bytes += n.size
		if r.bad(d) {
			continue
		}
		if to := c.by(n.proof); to != nil {
			to.Blobs++
			to.Bytes += n.size
		}
	}
	return c
}

func (c *Coverage) by(p proof) *Amount {
	switch p {
	case read:
		return &c.Read
	case byHash:
		return &c.ByHash
	case byLength:
		return &c.ByLength
	}
	return nil
}

// hurt names the images of a snapshot that need a content.
func (r *verify) hurt(s *snapshot, d digest.Digest) []string {
	names := []string{}
	if n := r.needs[d]; n != nil {
		for _, img := range n.images {
			if s.versions[img.in] {
				names = append(names, img.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// record leaves what was found in the vault.
func (r *verify) record(ctx context.Context, c layout.Config, reports []Report) (now layout.Head, err error) {
	for _, report := range reports {
		if err := r.receipt(ctx, report); err != nil {
			return now, err
		}
	}
	err = r.ChangeHead(ctx, c, func(h *layout.Head) error {
		for _, report := range reports {
			note(h.Snapshots, report)
		}
		h.Damaged = r.damaged(h.Damaged)
		h.Read = r.o.parts(h.Read, r.began)
		now = *h
		return nil
	})
	return now, err
}

func (r *verify) receipt(ctx context.Context, report Report) error {
	id := ulid.MustNew(ulid.Timestamp(report.Time), ulid.DefaultEntropy()).String()
	data, err := layout.Encode(report)
	if err == nil {
		data, err = r.SealRecord(data)
	}
	if err != nil {
		return err
	}
	_, err = r.Bucket.Put(ctx, layout.DirVerified+report.Snapshot+"/"+id+".json", bucket.Bytes(data))
	return err
}

// note keeps when a snapshot was read whole and found right.
func note(entries []layout.Entry, report Report) {
	for i, e := range entries {
		if e.ID != report.Snapshot {
			continue
		}
		switch {
		case report.Left() > 0:
			entries[i].Verified = time.Time{}
		case report.Level == Full:
			entries[i].Verified = report.Time
		}
	}
}

// damaged takes off the list what was found right and puts on it what was not.
func (r *verify) damaged(list []digest.Digest) []digest.Digest {
	set := map[digest.Digest]bool{}
	for _, d := range list {
		set[d] = true
	}
	for d, n := range r.needs {
		if r.bad(d) || n.proof == read {
			r.settle(set, d)
		}
	}
	for g := range r.segments {
		r.settle(set, g.Digest)
	}
	for d := range r.sides {
		r.settle(set, d)
	}
	return slices.Sorted(maps.Keys(set))
}

func (r *verify) settle(set map[digest.Digest]bool, d digest.Digest) {
	name := r.NameOf(d)
	delete(set, name)
	if r.bad(d) {
		set[name] = true
	}
}
