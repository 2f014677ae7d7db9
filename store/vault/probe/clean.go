package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

const (
	cleaning = 30 * time.Second
	stale    = 24 * time.Hour // nobody probes for so long
)

// clean removes every trace of this probe and of old ones, even when ctx ended.
func (r *run) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
	defer cancel()
	ours, err := r.traces(ctx)
	if err == nil {
		err = r.removeAll(ctx, ours)
	}
	if err != nil {
		return fmt.Errorf("removing what was tried under %s: %w", layout.DirProbe, err)
	}
	return nil
}

func (r *run) traces(ctx context.Context) (ours []bucket.Info, err error) {
	all := r.b.List(ctx, layout.DirProbe)
	if r.o.Server != nil {
		f, err := r.o.Server.Features(ctx)
		if err != nil {
			return nil, err
		}
		if f.Versions {
			all = r.o.Server.Versions(ctx, layout.DirProbe)
		}
	}
	for info, err := range all {
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(info.Key, r.prefix) || r.o.Now.Sub(info.Modified) > stale {
			ours = append(ours, info)
		}
	}
	return ours, nil
}

// removeAll notes what may not be removed.
func (r *run) removeAll(ctx context.Context, ours []bucket.Info) error {
	kept, err := r.b.Remove(ctx, ours)
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.result.Left, r.result.Why = len(ours), err
		return nil
	case len(kept) > 0:
		r.result.Left, r.result.Why = len(kept), kept[0].Err
	}
	return err
}
