package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// bucketHold is made when it is first written, because ledgers of the same
// format were without it.
const bucketHold = "hold"

// TagHold is a tag that a person put back, and that stays there, whatever its
// upstream has, until it is released.
type TagHold struct {
	Repo   string        `json:"repo"`
	Tag    string        `json:"tag"`
	Digest digest.Digest `json:"digest"`
	By     string        `json:"by"`
	Reason string        `json:"reason,omitempty"`
	Since  time.Time     `json:"since"`
}

// String says by whom, since when and why.
func (h TagHold) String() string {
	text := fmt.Sprintf("rolled back by %s on %s", h.By, h.Since.UTC().Format(time.RFC3339))
	if h.Reason != "" {
		text += ": " + h.Reason
	}
	return text
}

// Check says what is wrong with h.
func (h TagHold) Check() error {
	err := errors.Join(checkRepo(h.Repo), checkName("tag", h.Tag), h.Digest.Validate(), checkLine("who holds it", h.By), checkLine("reason", h.Reason), checkTime(h.Since))
	if h.Tag == "" {
		err = errors.Join(err, errors.New("tag is empty"))
	}
	return err
}

// RecordTagHold holds a tag, in place of an older hold of it. A zero Since is now.
// It moves no tag and is no event: that the tag was put back is.
func (l *Ledger) RecordTagHold(ctx context.Context, h TagHold) error {
	h.Since = cmp.Or(h.Since, l.now()).UTC()
	if err := l.update(ctx, h.put); err != nil {
		return fmt.Errorf("hold %s: %w", name(h.Repo, h.Tag), err)
	}
	return nil
}

func (h TagHold) put(tx *bolt.Tx) error {
	if err := h.Check(); err != nil {
		return err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists([]byte(bucketHold))
	if err != nil {
		return err
	}
	return file.Put(b, tagKey(h.Repo, h.Tag), text)
}

// TagHold is the hold of a tag. Without one ok is false.
func (l *Ledger) TagHold(ctx context.Context, repo, tag string) (h TagHold, ok bool, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		h, ok, err = tagHold(tx, repo, tag)
		return err
	})
	if err != nil {
		return TagHold{}, false, fmt.Errorf("hold of %s in the ledger: %w", name(repo, tag), err)
	}
	return h, ok, nil
}

func tagHold(tx *bolt.Tx, repo, tag string) (h TagHold, ok bool, err error) {
	b := tx.Bucket([]byte(bucketHold))
	if b == nil {
		return TagHold{}, false, nil
	}
	v := b.Get(tagKey(repo, tag))
	if v == nil {
		return TagHold{}, false, nil
	}
	h, err = decodeHold(tagKey(repo, tag), v)
	return h, err == nil, err
}

func decodeHold(k, v []byte) (h TagHold, err error) {
	if err := json.Unmarshal(v, &h); err != nil {
		return TagHold{}, fmt.Errorf("read hold %q: %w", k, err)
	}
	return h, nil
}

// TagHolds yields all holds, ordered by repository and tag.
func (l *Ledger) TagHolds(ctx context.Context) iter.Seq2[TagHold, error] {
	return file.Pages([]byte{}, func(from []byte) (page []TagHold, next []byte, err error) {
		err = l.view(ctx, func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte(bucketHold))
			if b == nil {
				return nil
			}
			page, next, err = holdPage(b.Cursor(), from)
			return err
		})
		return page, next, err
	})
}

func holdPage(c *bolt.Cursor, from []byte) (page []TagHold, next []byte, err error) {
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if len(page) == file.PageSize {
			return page, append([]byte{}, k...), nil
		}
		h, err := decodeHold(k, v)
		if err != nil {
			return page, nil, err
		}
		page = append(page, h)
	}
	return page, nil, nil
}

// RecordTagReleased ends the hold of a tag, with an event that moves no tag and says
// who did so and why. A tag that is not held is fs.ErrNotExist.
func (l *Ledger) RecordTagReleased(ctx context.Context, repo, tag, by, reason string) error {
	err := errors.Join(checkLine("who releases it", by), checkLine("reason", reason))
	if err == nil {
		err = l.update(ctx, func(tx *bolt.Tx) error {
			h, ok, err := tagHold(tx, repo, tag)
			if err == nil && !ok {
				err = fs.ErrNotExist
			}
			if err == nil {
				err = tx.Bucket([]byte(bucketHold)).Delete(tagKey(repo, tag))
			}
			if err != nil {
				return err
			}
			return record(tx, Event{Time: l.now(), Repo: repo, Tag: tag, Event: Released, By: by, Reason: cmp.Or(reason, h.String())})
		})
	}
	if err != nil {
		return fmt.Errorf("release %s: %w", name(repo, tag), err)
	}
	return nil
}
