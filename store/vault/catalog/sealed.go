package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
	"lastro/store/vault/seal"
)

// Sealed is what it takes to use a vault that is sealed. A folder of this machine keeps
// what a daemon needs that can seal and not open:
//
//	<id of the vault>       the key that names contents
//	<id of the vault>.json  the commit record of the newest snapshot of this store
type Sealed struct {
	*seal.Sealer
	Keys string // that folder; "": there is none

	mu     sync.Mutex
	vault  string // its id
	lost   bool   // the key is not to be had from the vault
	mended bool   // it was lost there, and was stored again
	names  atomic.Pointer[seal.Names]
}

// errNoNames says that nothing can be found in the vault.
var errNoNames = errors.New("it is encrypted, and the key that names its contents is not on this machine: set backup[].identity once, or copy the key")

func (s *Sealed) nameOf(d digest.Digest) digest.Digest {
	if n := s.names.Load(); n != nil {
		return n.Of(d)
	}
	return digest.NewDigestFromEncoded(seal.HMAC, "unknown")
}

// ready is nil when contents can be found.
func (s *Sealed) ready() error {
	if s.names.Load() != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vault == "" || s.Keys == "" {
		return errNoNames
	}
	return fmt.Errorf("%w %s from one that backs up to it", errNoNames, s.file(""))
}

// Ready is nil when contents can be stored and found.
func (v *Catalog) Ready() error {
	if v.Sealed == nil {
		return nil
	}
	if err := v.Sealed.ready(); err != nil {
		return v.fail(err)
	}
	return nil
}

// object is a content sealed for a bucket. It is read and sealed twice: what a bucket
// takes has to be named by its hash, and there is no copy.
func (s *Sealed) object(o bucket.Object) (bucket.Object, error) {
	if err := errors.Join(s.ready(), o.Check()); err != nil {
		return bucket.Object{}, err
	}
	x, err := s.Seal(o.Content, o.Size)
	if err != nil {
		return bucket.Object{}, err
	}
	h := o.Digest.Algorithm().Hash()
	sum, err := x.Sum(h)
	if err == nil && digest.NewDigest(o.Digest.Algorithm(), h) != o.Digest {
		err = bucket.ErrWrongBytes
	}
	if err != nil {
		return bucket.Object{}, &bucket.ContentError{Digest: o.Digest, Err: err}
	}
	return bucket.Object{Size: x.Size, Digest: digest.NewDigestFromBytes(digest.SHA256, sum), Content: x, Bulk: o.Bulk}, nil
}

// Format is the format of the records of the vault.
func (v *Catalog) Format() int {
	if v.Sealed == nil {
		return layout.Format
	}
	return layout.FormatSealed
}

// agree refuses a vault that is not what the settings say, and learns how a sealed one
// calls its contents, if that can be learned.
func (v *Catalog) agree(ctx context.Context, c layout.Config) error {
	switch {
	case c.Encrypted == nil && v.Sealed == nil:
		return nil
	case c.Encrypted == nil:
		return v.fail(layout.ErrPlain)
	case v.Sealed == nil:
		return v.fail(layout.ErrSealed)
	}
	return v.learnNames(ctx, c.ID, c.Encrypted.Names)
}

func (v *Catalog) learnNames(ctx context.Context, vault, id string) error {
	s := v.Sealed
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.names.Load(); n != nil && n.ID() == id {
		return nil
	}
	s.vault = vault
	s.names.Store(nil)
	names, err := s.kept(id)
	if err != nil {
		return v.fail(err)
	}
	if s.Opens() {
		names, err = v.storedNames(ctx, id, names)
	}
	if names != nil && err == nil {
		s.names.Store(names)
	}
	return err
}

// storedNames reads the key from the vault, which also proves the identity right. What
// is kept here stands in for one that is lost.
func (v *Catalog) storedNames(ctx context.Context, id string, kept *seal.Names) (*seal.Names, error) {
	key := layout.NamesKey(id)
	names, _, err := load(ctx, v, key, func(data []byte) (*seal.Names, error) {
		text, err := v.openRecord(data)
		if err != nil {
			return nil, err
		}
		names, err := seal.ParseNames(text)
		if err == nil && names.ID() != id {
			err = errors.New("another key than the vault says")
		}
		if err != nil {
			err = fmt.Errorf("%w: %w", layout.ErrDamaged, err)
		}
		return names, err
	})
	if errors.Is(err, seal.ErrOthers) {
		return nil, v.fail(fmt.Errorf("%s: %w", key, seal.ErrOthers))
	}
	if _, lost := Damage(err); lost && kept != nil {
		v.Log.Warn("the key that names the contents of the vault is lost there; the one that is kept on this machine stands in, and the next backup stores it again", "err", err, "file", v.Sealed.file(""))
		v.Sealed.lost = true
		return kept, nil
	}
	if err == nil && kept == nil {
		if err := v.Sealed.keep("", names.Text()); err != nil {
			return nil, v.fail(err)
		}
	}
	return names, err
}

// mendNames stores the key again if it is lost there: without it nobody who has but the
// identity finds anything.
func (v *Catalog) mendNames(ctx context.Context) error {
	s := v.Sealed
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.names.Load()
	if names == nil {
		return nil
	}
	key := layout.NamesKey(names.ID())
	if !s.Opens() { // who does has read it
		info, err := v.Bucket.Head(ctx, key)
		if _, damaged := Damage(err); err != nil && !damaged {
			return err
		}
		s.lost = err != nil || !v.Fits(info.Size, int64(len(names.Text())))
	}
	if !s.lost {
		return nil
	}
	data, err := s.SealBytes(names.Text())
	if err == nil {
		err = v.Bucket.Replace(ctx, key, bucket.Bytes(data))
	}
	if err != nil {
		return err
	}
	v.Log.Warn("the key that names the contents of the vault was lost there, and is stored again", "vault", v.Name, "key", key)
	s.lost, s.mended = false, true
	return nil
}

// NamesWereLost reports whether a ConfigOrNew has stored the key again that names the
// contents. Meanwhile nobody who had but the identity could verify anything.
func (v *Catalog) NamesWereLost() bool {
	if v.Sealed == nil {
		return false
	}
	v.Sealed.mu.Lock()
	defer v.Sealed.mu.Unlock()
	return v.Sealed.mended
}

// newNames draws a key for a vault that is being made, and stores it.
func (v *Catalog) newNames(ctx context.Context, vault string) (*layout.Encrypted, error) {
	s := v.Sealed
	names := seal.NewNames()
	if s.Keys == "" && !s.Opens() {
		return nil, errors.New("nobody would keep the key that names its contents: there is no folder for it, and no identity to read it back")
	}
	s.mu.Lock()
	s.vault = vault
	s.mu.Unlock()
	if err := s.keep("", names.Text()); err != nil {
		return nil, err
	}
	data, err := s.SealBytes(names.Text())
	if err != nil {
		return nil, err
	}
	_, err = v.Bucket.Put(ctx, layout.NamesKey(names.ID()), bucket.Bytes(data))
	return &layout.Encrypted{Names: names.ID(), To: s.Recipients()}, err
}

// SealRecord is how a record lies in the vault that names images.
func (v *Catalog) SealRecord(data []byte) ([]byte, error) {
	if v.Sealed == nil {
		return data, nil
	}
	return v.Sealed.SealBytes(data)
}

func (v *Catalog) openRecord(data []byte) ([]byte, error) {
	if v.Sealed == nil {
		return data, nil
	}
	data, err := v.Sealed.OpenBytes(data)
	if errors.Is(err, seal.ErrDamaged) || errors.Is(err, seal.ErrOthers) {
		err = fmt.Errorf("%w: %w", layout.ErrDamaged, err)
	}
	return data, err
}

// Keep keeps a commit record for a daemon that cannot read it back.
func (v *Catalog) Keep(record []byte) error {
	if v.Sealed == nil {
		return nil
	}
	return v.Sealed.keep(".json", record)
}

// keptRecord is a commit record that this machine has kept.
func (v *Catalog) keptRecord(e layout.Entry) (layout.Snapshot, []byte, error) {
	raw, err := os.ReadFile(v.Sealed.file(".json"))
	if err == nil {
		if s, bad := layout.ParseSnapshot(raw); bad == nil && s.ID == e.ID && v.NameOf(s.Root.Digest) == e.Root {
			return s, raw, nil
		}
	}
	return layout.Snapshot{}, nil, v.fail(seal.ErrNoIdentity)
}

// Entry is how the head lists a snapshot, whose record lies so under a key.
func (v *Catalog) Entry(s layout.Snapshot, key string, stored []byte) layout.Entry {
	e := s.Entry(key, stored)
	e.Root = v.NameOf(e.Root)
	return e
}

// file is one of those that are kept.
func (s *Sealed) file(suffix string) string { return filepath.Join(s.Keys, s.vault+suffix) }

// kept is the key that is kept here; nil: there is none.
func (s *Sealed) kept(id string) (*seal.Names, error) {
	if s.Keys == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.file(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := seal.ParseNames(text)
	if err == nil && names.ID() != id {
		err = errors.New("not the key that the vault says")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: put the right one there, or move it away and set backup[].identity", s.file(""), err)
	}
	return names, nil
}

// keep writes a file whole or not at all.
func (s *Sealed) keep(suffix string, data []byte) error {
	if s.Keys == "" {
		return nil
	}
	if err := os.MkdirAll(s.Keys, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(s.Keys, ".new-*") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), s.file(suffix))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncFolder(s.Keys)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// drop removes the key of a vault that another one was faster to make.
func (s *Sealed) drop(vault string) {
	if s.Keys != "" {
		_ = os.Remove(filepath.Join(s.Keys, vault)) // nothing was ever named by it
	}
}
