package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"lastro/store/vault/bucket"
)

// coherent reads and lists what was just written.
func (r *run) coherent(ctx context.Context) error {
	const name, times = "reads and lists at once", 5
	for i := range times {
		key, data := fmt.Sprintf("%sread-%d", r.prefix, i), fmt.Sprintf("object %d", i)
		if _, err := r.b.Put(ctx, key, bucket.Bytes([]byte(data))); err != nil {
			return err
		}
		rec, err := r.b.Load(ctx, key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		listed, err := r.list(ctx, r.prefix+"read-")
		if err != nil {
			return err
		}
		if string(rec.Data) != data || len(listed) != i+1 {
			r.note(name, &r.result.Proven.Coherent, false, "of %d objects just written, %d are listed, and the last reads %q", i+1, len(listed), rec.Data)
			return nil
		}
	}
	r.note(name, &r.result.Proven.Coherent, true, "%d objects, each right after it was written", times)
	return nil
}

func (r *run) list(ctx context.Context, prefix string) (all []bucket.Info, err error) {
	for info, err := range r.b.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}

// checksum sends bytes that are not what their hash says.
func (r *run) checksum(ctx context.Context) error {
	const name = "checks SHA-256"
	if r.o.Server == nil {
		r.note(name, &r.result.Proven.Checksum, true, "hashed here, on their way")
		return nil
	}
	refused, err := r.o.Server.RefusesWrong(ctx, r.prefix+"wrong")
	r.note(name, &r.result.Proven.Checksum, refused, "%s", choose(refused, "wrong bytes are refused", "wrong bytes are stored"))
	return err
}

func (r *run) features(ctx context.Context) (err error) {
	var f bucket.Features
	if r.o.Server != nil {
		f, err = r.o.Server.Features(ctx)
	}
	r.note("versions", &r.result.Proven.Versions, f.Versions, "%s", choose(f.Versions, "on", "off"))
	if err != nil || r.o.Server == nil {
		r.note(lockName, &r.result.Proven.Lock, false, "off")
		return err
	}
	return r.locks(ctx, f.Lock)
}

const lockName = "Object Lock"

// locks tries a lock only if the settings want any: what is locked stays for minutes.
func (r *run) locks(ctx context.Context, on bool) error {
	wanted, kept, err := r.o.Server.Locks(ctx, r.prefix+"locked")
	if err == nil && wanted && !kept {
		err = fmt.Errorf("s3.object-lock is set, and the bucket removes what is locked: use another one, or take the setting out")
	}
	seen := choose(on, "on", "off")
	if wanted {
		seen = choose(kept, "what is locked cannot be removed", "what is locked can be removed")
	}
	r.note(lockName, &r.result.Proven.Lock, on && (kept || !wanted), "%s", seen)
	return err
}

// remove removes an object for good.
func (r *run) remove(ctx context.Context) error {
	const name = "deletes"
	deletes := &r.result.Proven.Delete
	all, err := r.list(ctx, r.prefix+"read-0")
	if err != nil || len(all) == 0 {
		r.note(name, deletes, false, "not tried: nothing is listed")
		return err
	}
	kept, err := r.b.Remove(ctx, all)
	if len(kept) > 0 {
		err = kept[0].Err
	}
	if len(kept) > 0 || errors.Is(err, fs.ErrPermission) {
		r.note(name, deletes, false, "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	_, err = r.b.Head(ctx, all[0].Key)
	gone := errors.Is(err, fs.ErrNotExist)
	r.note(name, deletes, gone, "%s", choose(gone, "what was removed is gone", "what was removed is still there"))
	if gone {
		return nil
	}
	return err
}
