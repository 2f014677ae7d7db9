package repair

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"lastro/mirror"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
)

// Options are where right bytes may come from. The zero value leaves older versions.
type Options struct {
	Store  Store    // nil: there is none
	Others []Source // in their order
	Dir    string   // where what is fetched lies, without a name, until it is in the vault; "": for temporary files
}

// Repairer repairs one vault. It may be used from many goroutines.
type Repairer struct {
	*catalog.Catalog
	o Options
}

// New returns a Repairer for a vault.
func New(c *catalog.Catalog, o Options) *Repairer { return &Repairer{c, o} }

// Damaged is what seems to be damaged or missing.
type Damaged struct {
	Content          // Size -1: not known
	Record  string   // the key of a commit record; "": it is a content
	Repos   []string // that need it
}

// Repair puts right bytes in the place of what is damaged and says which source had
// them; "": nothing was wrong. A *NoSourceError has changed nothing.
func (r *Repairer) Repair(ctx context.Context, d Damaged) (source string, err error) {
	state := r.look(ctx, d)
	if _, damaged := catalog.Damage(state); !damaged {
		return "", state
	}
	failed := &NoSourceError{}
	for _, s := range r.sources(ctx, d) {
		o, done, err := r.fetch(ctx, s, d)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err != nil {
			failed.Tried = append(failed.Tried, Tried{s.String(), err})
			continue
		}
		err = r.write(ctx, d, o)
		done()
		return s.String(), err
	}
	return "", failed
}

func (r *Repairer) sources(ctx context.Context, d Damaged) []Source {
	if d.Record != "" {
		return r.versions(ctx, d.Record)
	}
	var list []Source
	if r.o.Store != nil {
		list = append(list, local{r.o.Store})
	}
	list = append(list, r.versions(ctx, r.place(d))...)
	return append(list, r.o.Others...)
}

// fetch brings the bytes of a source here and hashes them.
func (r *Repairer) fetch(ctx context.Context, s Source, d Damaged) (o bucket.Object, done func(), err error) {
	body, err := s.Fetch(ctx, d.Repos, d.Content)
	if err != nil {
		return o, nil, err
	}
	file, here := body.(*os.File)
	if !here {
		defer body.Close()
		if file, err = r.spool(body, d); err != nil {
			return o, nil, err
		}
	}
	size, err := d.check(io.NewSectionReader(file, 0, d.limit()+1))
	if err != nil {
		return o, nil, errors.Join(err, file.Close())
	}
	// No manifest is longer.
	bulk := size > mirror.MaxManifest
	return bucket.Object{Size: size, Digest: d.Digest, Content: file, Bulk: bulk}, func() { _ = file.Close() }, nil
}

// spool copies to a file that is gone when it is closed, whatever happens.
func (r *Repairer) spool(body io.Reader, d Damaged) (*os.File, error) {
	file, err := os.CreateTemp(r.o.Dir, ".repair-*")
	if err != nil {
		return nil, err
	}
	if err = os.Remove(file.Name()); err == nil {
		_, err = io.Copy(file, io.LimitReader(body, d.limit()+1))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// write stores bytes that were hashed where something is damaged or missing, and reads
// them back. It asks for no condition: there are servers that refuse to create what was
// removed and has older versions.
func (r *Repairer) write(ctx context.Context, d Damaged, o bucket.Object) error {
	err := r.replace(ctx, d, o)
	if err == nil && d.Record != "" {
		err = r.stillNamed(ctx, d.Record)
	}
	if err != nil {
		return fmt.Errorf("right bytes were found, and could not be written to vault %s: %w", r.Bucket, err)
	}
	if err := r.look(ctx, d); err != nil {
		return fmt.Errorf("right bytes were written to vault %s, and are not what is read there now: %w", r.Bucket, err)
	}
	return nil
}
