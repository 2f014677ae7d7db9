package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// TagState is where a tag points, or pointed.
type TagState struct {
	Repo, Tag string
	Digest    digest.Digest
	Since     time.Time // start of the unbroken run of that digest
}

// Tag is where a tag points now. One that is not there is fs.ErrNotExist.
func (l *Ledger) Tag(ctx context.Context, repo, tag string) (s TagState, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		var ok bool
		if s, ok, err = tagState(tx, repo, tag); err == nil && !ok {
			err = fs.ErrNotExist
		}
		return err
	})
	if err != nil {
		return TagState{}, fmt.Errorf("tag %s in the ledger: %w", name(repo, tag), err)
	}
	return s, nil
}

// Tags yields the tags of repo, or of every repository when repo is empty,
// ordered by repository and tag.
func (l *Ledger) Tags(ctx context.Context, repo string) iter.Seq2[TagState, error] {
	scan := file.Scan[TagState]{
		Bucket: bucket(bucketTag),
		Decode: func(_ *bolt.Tx, k, v []byte) (TagState, error) { return decodeTag(k, v) },
	}
	if repo != "" {
		scan.Prefix = namePrefix(repo)
	}
	return scan.All(ctx, l.file)
}

// At is where a tag pointed at a time: at what the newest event until then
// says. One that was not there is fs.ErrNotExist. A time that is not in the
// past is now.
func (l *Ledger) At(ctx context.Context, repo, tag string, t time.Time) (s TagState, err error) {
	if !t.Before(l.now()) {
		return l.Tag(ctx, repo, tag)
	}
	limit := append(appendTime(namePrefix(repo, tag), t), numberKey(1<<64-1)...)
	err = checkTime(t)
	if err == nil {
		err = l.view(ctx, func(tx *bolt.Tx) error {
			var ok bool
			if s, ok, err = run(tx, repo, tag, limit); err == nil && !ok {
				err = fs.ErrNotExist
			}
			return err
		})
	}
	if err != nil {
		return TagState{}, fmt.Errorf("tag %s at %s in the ledger: %w", name(repo, tag), t.UTC().Format(time.RFC3339), err)
	}
	return s, nil
}

// Repositories yields the names of the repositories that have a tag or hold a
// manifest, in order.
func (l *Ledger) Repositories(ctx context.Context) iter.Seq2[string, error] {
	return file.Pages([]byte{}, func(from []byte) ([]string, []byte, error) { return l.repositories(ctx, from) })
}

// repositories reads a page of names, jumping from one to the next in both
// buckets that know some.
func (l *Ledger) repositories(ctx context.Context, from []byte) (page []string, next []byte, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		links, err := readGraph(tx)
		if err != nil {
			return err
		}
		a, b := tx.Bucket([]byte(bucketTag)).Cursor(), links.link.Cursor()
		for len(page) < file.PageSize {
			key := first(a, b, from)
			if key == nil {
				next = nil
				return nil
			}
			repo, _, err := cutName(key)
			if err != nil {
				return err
			}
			page = append(page, repo)
			from = append([]byte(repo), 1)
			next = from
		}
		return nil
	})
	return page, next, err
}

// first is the smallest key of both buckets that is not before from.
func first(a, b *bolt.Cursor, from []byte) []byte {
	x, _ := a.Seek(from)
	y, _ := b.Seek(from)
	if x == nil || y != nil && bytes.Compare(y, x) < 0 {
		return y
	}
	return x
}

// tagState reads where the tag points now.
func tagState(tx *bolt.Tx, repo, tag string) (TagState, bool, error) {
	k := tagKey(repo, tag)
	v := tx.Bucket([]byte(bucketTag)).Get(k)
	if v == nil {
		return TagState{}, false, nil
	}
	s, err := decodeTag(k, v)
	return s, err == nil, err
}

func decodeTag(k, v []byte) (s TagState, err error) {
	repo, tag, err := cutName(k)
	if err == nil {
		s.Digest, v, err = cutDigest(v)
	}
	if err == nil {
		s.Since, v, err = cutTime(v)
	}
	if err != nil || len(v) > 0 {
		return TagState{}, fmt.Errorf("read tag state %q: %w", k, errKey)
	}
	s.Repo, s.Tag = repo, string(tag)
	return s, nil
}

// follow makes the tag's state what its newest event says.
func follow(tx *bolt.Tx, repo, tag string) error {
	if tag == "" {
		return nil
	}
	limit := append(namePrefix(repo, tag), bytes.Repeat([]byte{0xff}, 16)...)
	s, ok, err := run(tx, repo, tag, limit)
	if err != nil {
		return err
	}
	tags := tx.Bucket([]byte(bucketTag))
	if err := rename(tx, tagKey(repo, tag), s.Digest); err != nil {
		return err
	}
	if !ok {
		return errors.Join(tags.Delete(tagKey(repo, tag)), pulledBucket(tx, pulledTag).Delete(tagKey(repo, tag)))
	}
	v, err := digestKey(s.Digest)
	if err != nil {
		return err
	}
	return file.Put(tags, tagKey(repo, tag), appendTime(v, s.Since))
}

// run walks the tag's history back from limit, to the start of the run of the
// digest that it had there. ok is false when it had none.
func run(tx *bolt.Tx, repo, tag string, limit []byte) (s TagState, ok bool, err error) {
	prefix := namePrefix(repo, tag)
	c := tx.Bucket([]byte(bucketHistory)).Cursor()
	for k, v := last(c, limit); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Prev() {
		t, _, err := cutHistory(k[len(prefix):])
		if err != nil {
			return TagState{}, false, err
		}
		d, kind, err := cutEntry(v)
		if err != nil {
			return TagState{}, false, err
		}
		if kind == entryNote {
			continue
		}
		if kind == entryRemoved || s.Digest != "" && d != s.Digest {
			break
		}
		s = TagState{Repo: repo, Tag: tag, Digest: d, Since: t}
	}
	return s, s.Digest != "", nil
}

// cutEntry reads the value of a history entry.
func cutEntry(v []byte) (d digest.Digest, kind byte, err error) {
	if len(v) == 0 || v[0] > entryRemoved || v[0] != entryAt && len(v) > 1 {
		return "", 0, errKey
	}
	if v[0] == entryAt {
		d, err = lastDigest(v[1:])
	}
	return d, v[0], err
}

// newest is the last history entry of the tag that prefix names.
func newest(tx *bolt.Tx, prefix []byte) (k, v []byte) {
	k, v = last(tx.Bucket([]byte(bucketHistory)).Cursor(), append(bytes.Clone(prefix), bytes.Repeat([]byte{0xff}, 16)...))
	if !bytes.HasPrefix(k, prefix) {
		return nil, nil
	}
	return k, v
}

// last moves c to the last key that is not after limit.
func last(c *bolt.Cursor, limit []byte) (k, v []byte) {
	k, v = c.Seek(limit)
	switch {
	case k == nil:
		return c.Last()
	case bytes.Equal(k, limit):
		return k, v
	}
	return c.Prev()
}
