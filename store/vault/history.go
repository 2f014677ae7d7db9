package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
	"lastro/store/vault/layout"
)

// smallSegments is how many segments that are not full may pile up.
const smallSegments = 32

// history stores the events since those of a snapshot, or all of them if it is not
// certain that the snapshot's are the earlier ones of this ledger.
func (v *Vault) history(ctx context.Context, l *ledger.Ledger, before layout.History, put func([]byte) (digest.Digest, error)) (layout.History, error) {
	goesOn, err := isPast(ctx, l, before)
	if err != nil {
		return layout.History{}, err
	}
	if !goesOn {
		before = layout.History{}
	}
	p := &layout.Packer{Put: put, Made: slices.Clone(before.Segments)}
	h := before
	for e, err := range l.Events(ctx, before.Seq) {
		if err != nil {
			return layout.History{}, err
		}
		line, err := json.Marshal(e)
		if err != nil {
			return layout.History{}, err
		}
		h.Seq, h.Last = e.Seq, digest.FromBytes(line)
		if !v.includes(e.Repo) {
			continue
		}
		err = layout.CheckEvent(e)
		if err == nil && len(line)+1 >= layout.EventMax {
			err = fmt.Errorf("%d bytes", len(line))
		}
		if err != nil {
			v.Log.Warn("an event that no ledger could take back is left out of the backup", "repo", e.Repo, "tag", e.Tag, "err", err)
			continue
		}
		if err := p.Add(line); err != nil {
			return layout.History{}, err
		}
	}
	if err := p.Flush(); err != nil {
		return layout.History{}, err
	}
	h.Segments = p.Made
	return h, nil
}

// isPast tells whether h is how the history of this ledger begins: the event of
// the same number is the same one. Many small segments are not worth going on with.
func isPast(ctx context.Context, l *ledger.Ledger, h layout.History) (bool, error) {
	small := 0
	for _, s := range h.Segments {
		if s.Events < layout.SegmentEvents {
			small++
		}
	}
	last, err := l.LastSeq(ctx)
	if err != nil || h.Seq == 0 || small > smallSegments && last > h.Seq {
		return false, err
	}
	for e, err := range l.Events(ctx, h.Seq-1) {
		if err != nil || e.Seq != h.Seq {
			return false, err
		}
		line, err := json.Marshal(e)
		return digest.FromBytes(line) == h.Last, err
	}
	return false, nil
}
