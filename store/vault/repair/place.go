package repair

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// errWrong says that bytes are not those that are looked for.
var errWrong = errors.New("its bytes do not match the digest and size")

// limit is how many bytes it can have.
func (d Damaged) limit() int64 {
	if d.Size >= 0 {
		return d.Size
	}
	return bucket.MaxRecord
}

// check hashes what may be one byte longer than it should.
func (d Damaged) check(from io.Reader) (int64, error) {
	v := d.Digest.Verifier()
	n, err := io.CopyBuffer(v, onlyReader{from}, make([]byte, 128<<10))
	if err == nil && (d.Size >= 0 && n != d.Size || !v.Verified()) {
		err = errWrong
	}
	return n, err
}

type onlyReader struct{ io.Reader }

// place is the key of what is damaged.
func (r *Repairer) place(d Damaged) string {
	if d.Record != "" {
		return d.Record
	}
	return r.BlobKey(d.Digest)
}

// look reads and hashes what lies in the vault.
func (r *Repairer) look(ctx context.Context, d Damaged) error {
	body, err := r.open(ctx, d)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = d.check(io.LimitReader(body, d.limit()+1))
	if errors.Is(err, errWrong) {
		return fmt.Errorf("vault %s: %s: %w: %w", r.Bucket, r.place(d), layout.ErrDamaged, err)
	}
	return err
}

func (r *Repairer) open(ctx context.Context, d Damaged) (body io.ReadCloser, err error) {
	if d.Record != "" {
		body, _, err = r.Bucket.Get(ctx, d.Record, 0)
	} else {
		body, _, err = r.OpenBlob(ctx, d.Digest, 0)
	}
	return body, err
}

func (r *Repairer) replace(ctx context.Context, d Damaged, o bucket.Object) error {
	if d.Record != "" {
		return r.Bucket.Replace(ctx, d.Record, o)
	}
	return r.ReplaceBlob(ctx, d.Digest, o)
}

// stillNamed takes a commit record away again whose snapshot is not there any more:
// if the head were lost, it would stand in for it.
func (r *Repairer) stillNamed(ctx context.Context, record string) error {
	h, err := r.Heads(ctx)
	if err != nil || slices.ContainsFunc(h.Snapshots, func(e layout.Entry) bool { return e.Record == record }) {
		return err
	}
	_, err = r.Bucket.Remove(ctx, []bucket.Info{{Key: record}})
	return errors.Join(errors.New("the snapshot was forgotten meanwhile"), err)
}
