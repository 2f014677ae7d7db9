package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// bucketProtection is made on Open, because ledgers of the same format were
// without it.
const (
	bucketProtection = "protection"
	protectionName   = "name"
	protectionDigest = "digest"
)

// Protection is a name that a person gave to a manifest of a repository so that
// it and all it refers to stay. One name may be given to many, and a manifest
// may have many names.
type Protection struct {
	Name    string        `json:"name"`
	Repo    string        `json:"repo"`
	Digest  digest.Digest `json:"digest"`
	Tag     string        `json:"tag,omitempty"` // the tag that the person named, which may be elsewhere by now
	Owner   string        `json:"owner"`
	Reason  string        `json:"reason,omitempty"`
	Created time.Time     `json:"created"`
	Expires time.Time     `json:"expires,omitzero"` // zero: never
}

// Active reports whether p protects at t. One that has expired stays recorded
// until it is removed.
func (p Protection) Active(t time.Time) bool { return p.Expires.IsZero() || t.Before(p.Expires) }

// String says by whom, until when and why.
func (p Protection) String() string {
	text := fmt.Sprintf("protected as %q by %s", p.Name, p.Owner)
	if !p.Expires.IsZero() {
		text += " until " + p.Expires.UTC().Format(time.RFC3339)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

var protectionNames = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)

// CheckProtectionName refuses what cannot be the name of a protection.
func CheckProtectionName(name string) error {
	if !protectionNames.MatchString(name) {
		return fmt.Errorf("%.140q cannot name a protection: take a letter or digit, then up to 127 more, dots, dashes, underscores and slashes (example: release-2026.1)", name)
	}
	return nil
}

// Check says what is wrong with p, its digest aside.
func (p Protection) Check() error {
	err := errors.Join(CheckProtectionName(p.Name), checkRepo(p.Repo), checkName("tag", p.Tag), checkLine("owner", p.Owner), checkLine("reason", p.Reason))
	if p.Owner == "" {
		err = errors.Join(err, errors.New("owner is empty"))
	}
	if !p.Expires.IsZero() {
		err = errors.Join(err, checkTime(p.Expires))
	}
	return errors.Join(err, checkTime(p.Created))
}

// checkLine refuses what does not show on a line.
func checkLine(what, text string) error {
	const most = 1024
	switch {
	case len(text) > most:
		return fmt.Errorf("%s %.40q…: longer than %d bytes", what, text, most)
	case !utf8.ValidString(text), strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("%s %q: not one line of text", what, text)
	}
	return nil
}

// trackProtections makes what protections are recorded in, unless it is there.
func trackProtections(tx *bolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucketProtection))
	if err != nil {
		return err
	}
	for _, name := range []string{protectionName, protectionDigest} {
		if _, err := b.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	return nil
}

func protectionBucket(tx *bolt.Tx, name string) *bolt.Bucket {
	return tx.Bucket([]byte(bucketProtection)).Bucket([]byte(name))
}

// protectionKeys are the key of the protection, and that of its manifest.
func protectionKeys(name, repo string, d digest.Digest) (byName, byDigest []byte, err error) {
	if byName, err = appendDigest(namePrefix(name, repo), d); err != nil {
		return nil, nil, err
	}
	byDigest, err = repoDigestKey(repo, d)
	return byName, append(byDigest, name...), err
}

// RecordProtection records p, and an event in the history of its tag, or of its
// repository when it has none, in one transaction. A zero Created is now. A name
// that the manifest has already is replaced, since when it was created stays;
// nothing is recorded when nothing differs but the tag.
func (l *Ledger) RecordProtection(ctx context.Context, p Protection) error {
	p.Created = cmp.Or(p.Created, l.now()).UTC()
	if !p.Expires.IsZero() {
		p.Expires = p.Expires.UTC()
	}
	err := p.Check()
	if err == nil {
		err = l.update(ctx, func(tx *bolt.Tx) error { return recordProtection(tx, p, l.now()) })
	}
	if err != nil {
		return fmt.Errorf("protect %s@%s as %q: %w", p.Repo, p.Digest, p.Name, err)
	}
	return nil
}

func recordProtection(tx *bolt.Tx, p Protection, now time.Time) error {
	byName, byDigest, err := protectionKeys(p.Name, p.Repo, p.Digest)
	if err != nil {
		return err
	}
	names := protectionBucket(tx, protectionName)
	if v := names.Get(byName); v != nil {
		old, err := decodeProtection(byName, v)
		if err != nil {
			return err
		}
		p.Created = old.Created
		if old.Owner == p.Owner && old.Reason == p.Reason && old.Expires.Equal(p.Expires) {
			return nil
		}
	}
	text, err := json.Marshal(p)
	if err == nil {
		err = file.Put(names, byName, text)
	}
	if err == nil {
		err = file.Put(protectionBucket(tx, protectionDigest), byDigest, nil)
	}
	if err == nil && !p.Expires.IsZero() {
		err = queue(tx, Review{Held: Held{p.Repo, p.Digest}, Due: p.Expires, Why: "its protection " + p.Name + " ended"})
	}
	if err != nil {
		return err
	}
	return record(tx, p.event(Protected, p.Owner, now))
}

// event is a note, without a digest: the tag may be elsewhere by now.
func (p Protection) event(what, by string, now time.Time) Event {
	return Event{Time: now, Repo: p.Repo, Tag: p.Tag, Event: what, By: by, Reason: fmt.Sprintf("%s %s", p.Digest, p)}
}

// RemoveProtection removes a name from a manifest, and records who did so as
// RecordProtection does. A manifest that does not have it is fs.ErrNotExist.
func (l *Ledger) RemoveProtection(ctx context.Context, name, repo string, d digest.Digest, by string) error {
	byName, byDigest, err := protectionKeys(name, repo, d)
	if err == nil {
		err = checkLine("who removes", by)
	}
	if err == nil {
		err = l.update(ctx, func(tx *bolt.Tx) error { return removeProtection(tx, byName, byDigest, by, l.now()) })
	}
	if err != nil {
		return fmt.Errorf("remove protection %q of %s@%s: %w", name, repo, d, err)
	}
	return nil
}

func removeProtection(tx *bolt.Tx, byName, byDigest []byte, by string, now time.Time) error {
	names := protectionBucket(tx, protectionName)
	v := names.Get(byName)
	if v == nil {
		return fs.ErrNotExist
	}
	p, err := decodeProtection(byName, v)
	if err != nil {
		return err
	}
	if err := errors.Join(names.Delete(byName), protectionBucket(tx, protectionDigest).Delete(byDigest)); err != nil {
		return err
	}
	why := Review{Held: Held{p.Repo, p.Digest}, Due: now, Why: "its protection " + p.Name + " was removed"}
	return errors.Join(queue(tx, why), record(tx, p.event(Unprotected, by, now)))
}

func decodeProtection(k, v []byte) (p Protection, err error) {
	if err := json.Unmarshal(v, &p); err != nil {
		return Protection{}, fmt.Errorf("read protection %q: %w", k, err)
	}
	return p, nil
}

// Protections yields all protections, or those that are named name, ordered by
// name, repository and digest; those that have expired, too.
func (l *Ledger) Protections(ctx context.Context, name string) iter.Seq2[Protection, error] {
	scan := file.Scan[Protection]{
		Bucket: func(tx *bolt.Tx) (*bolt.Bucket, error) { return protectionBucket(tx, protectionName), nil },
		Decode: func(_ *bolt.Tx, k, v []byte) (Protection, error) { return decodeProtection(k, v) },
	}
	if name != "" {
		scan.Prefix = namePrefix(name)
	}
	return scan.All(ctx, l.file)
}

// ProtectionsOf are the protections that repo's manifest d itself has, ordered by
// name; those that have expired, too. They keep what d refers to as well, which
// has none of its own.
func (l *Ledger) ProtectionsOf(ctx context.Context, repo string, d digest.Digest) (all []Protection, err error) {
	err = l.ofRepository(ctx, repo, d, func(tx *bolt.Tx, prefix []byte) error {
		all, err = protectionsOf(tx, repo, d, prefix)
		return err
	})
	return all, err
}

func protectionsOf(tx *bolt.Tx, repo string, d digest.Digest, prefix []byte) (all []Protection, err error) {
	c := protectionBucket(tx, protectionDigest).Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		byName, _, err := protectionKeys(string(k[len(prefix):]), repo, d)
		if err != nil {
			return nil, err
		}
		p, err := decodeProtection(byName, protectionBucket(tx, protectionName).Get(byName))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}
