package vault

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/layout"
	"lastro/store/vault/repair"
)

// documents are the indexes and the like that a backup would write of the store now.
// As long as nothing has changed since, they are those of the newest snapshot.
type documents struct {
	v  *Vault
	st Store

	make sync.Once
	all  map[digest.Digest][]byte
	err  error
}

func (*documents) String() string { return "local store" }

// Fetch is for [repair.Source]. What images need is no document of ours.
func (d *documents) Fetch(ctx context.Context, repos []string, c repair.Content) (io.ReadCloser, error) {
	if len(repos) > 0 {
		return nil, fs.ErrNotExist
	}
	d.make.Do(func() { d.all, d.err = d.v.documentsOf(ctx, d.st) })
	if d.err != nil {
		return nil, d.err
	}
	data, known := d.all[c.Digest]
	if !known {
		return nil, fmt.Errorf("a backup would not write it now: %w", fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (v *Vault) documentsOf(ctx context.Context, st Store) (map[digest.Digest][]byte, error) {
	repos, err := v.freeze(ctx, st.Ledger())
	if err != nil {
		return nil, err
	}
	root, each, err := layout.Indexes(listed(repos))
	if err != nil {
		return nil, err
	}
	facts, err := v.newBackup(st, "", nil).facts(ctx)
	if err != nil {
		return nil, err
	}
	state, err := layout.EncodeState(facts)
	if err != nil {
		return nil, err
	}
	all := map[digest.Digest][]byte{digest.FromBytes(state): state, digest.FromBytes(v.settings): v.settings}
	for _, doc := range append(each, root) {
		all[doc.Desc.Digest] = doc.Data
	}
	return all, nil
}

// withDocuments adds them where the store is a source.
func (v *Vault) withDocuments(o *RepairOptions) *RepairOptions {
	if o == nil {
		return nil
	}
	with := *o
	if st, ok := o.Store.(Store); ok {
		with.Others = append([]RepairSource{&documents{v: v, st: st}}, o.Others...)
	}
	return &with
}
