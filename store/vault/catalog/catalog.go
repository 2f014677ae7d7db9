package catalog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
	"lastro/store/vault/probe"
)

var (
	// ErrForeign says that something other than a vault lies at the address.
	ErrForeign = errors.New("not empty and not a vault: give it a place of its own")
	// ErrNoVault says that there is no vault yet. It is fs.ErrNotExist as well.
	ErrNoVault = fmt.Errorf("no vault there yet, a backup makes one: %w", fs.ErrNotExist)
)

// Catalog is what is in a vault. All fields are needed but where they say so.
type Catalog struct {
	Name   string // in the configuration
	Bucket bucket.Bucket
	Server bucket.Server // of the bucket; nil: a folder
	Log    *slog.Logger
	Now    func() time.Time

	Version string              // of the program, "" if not known
	Trust   []ed25519.PublicKey // who may vouch for a snapshot; none: nobody has to
	Sealed  *Sealed             // nil: what is in it is not sealed
	large   sync.Mutex          // held while a large manifest is parsed
}

// Quiet is the same catalog, which logs nothing.
func (v *Catalog) Quiet() *Catalog {
	return &Catalog{Name: v.Name, Bucket: v.Bucket, Server: v.Server, Log: slog.New(slog.DiscardHandler), Now: v.Now, Version: v.Version, Trust: v.Trust, Sealed: v.Sealed}
}

// load reads a record; parse says what it has to be. With a damaged one comes its
// ETag all the same, to replace it.
func load[T any](ctx context.Context, v *Catalog, key string, parse func([]byte) (T, error)) (T, string, error) {
	rec, err := v.Bucket.Load(ctx, key)
	if errors.Is(err, bucket.ErrTooLarge) {
		return *new(T), rec.ETag, fmt.Errorf("%w: %w", layout.ErrDamaged, err)
	}
	if err != nil {
		return *new(T), "", err
	}
	record, err := parse(rec.Data)
	if err != nil {
		return *new(T), rec.ETag, fmt.Errorf("vault %s: %s: %w", v.Bucket, key, err)
	}
	return record, rec.ETag, nil
}

// Config reads what the vault is; ErrNoVault. If that is lost or damaged, the head
// stands in, and without that the commit records.
func (v *Catalog) Config(ctx context.Context) (layout.Config, error) {
	c, _, err := v.config(ctx)
	return c, err
}

func (v *Catalog) config(ctx context.Context) (c layout.Config, lost bool, err error) {
	c, _, err = load(ctx, v, layout.KeyConfig, layout.ParseConfig)
	if _, lost = Damage(err); !lost {
		v.adapt(c)
		if err == nil {
			err = v.agree(ctx, c)
		}
		return c, false, err
	}
	h, _, headErr := load(ctx, v, layout.KeyHead, layout.ParseHead)
	gone := errors.Is(err, fs.ErrNotExist)
	switch {
	case headErr == nil && len(h.Snapshots) > 0:
		v.Log.Warn("what the vault says of itself is lost; its list of snapshots stands in", "err", err)
		c = layout.Config{Format: h.Format, ID: h.Vault, Created: h.Snapshots[0].Created, Encrypted: h.Encrypted}
		return c, true, v.agree(ctx, c)
	case isLost(headErr):
		c, found, failed := v.fromRecords(ctx)
		if failed != nil {
			return c, true, failed
		}
		if found {
			v.Log.Warn("what the vault says of itself and its list of snapshots are lost; their records stand in", "err", errors.Join(err, headErr))
			return c, true, v.agree(ctx, c)
		}
	}
	switch {
	case gone && (headErr == nil || errors.Is(headErr, fs.ErrNotExist)):
		return layout.Config{}, true, fmt.Errorf("vault %s at %s: %w", v.Name, v.Bucket, ErrNoVault)
	case gone:
		err = headErr
	}
	return layout.Config{}, true, err
}

func isLost(err error) bool {
	_, lost := Damage(err)
	return lost
}

// fromRecords is what the commit records say of their vault, if all that read say the
// same. Those that are sealed do not say it.
func (v *Catalog) fromRecords(ctx context.Context) (c layout.Config, found bool, err error) {
	for info, err := range v.Bucket.List(ctx, layout.DirSnapshots) {
		if err != nil {
			return c, false, err
		}
		s, _, err := load(ctx, v, info.Key, layout.ParseSnapshot)
		switch {
		case isLost(err) || errors.Is(err, layout.ErrNewer):
			continue
		case err != nil:
			return c, false, err
		case !found:
			c, found = layout.Config{Format: s.Format, ID: s.Vault, Created: s.Created}, true
		case s.Vault != c.ID:
			return layout.Config{}, false, nil
		}
	}
	return c, found, nil
}

// adapt makes the server be used as it was found.
func (v *Catalog) adapt(c layout.Config) {
	if v.Server != nil && !c.Proven.When.IsZero() {
		v.Server.Adapt(probe.LacksOf(c.Proven))
	}
}

// ConfigOrNew makes the vault if there is none. It takes an empty place only. What
// the place does is found out if nobody has for a month.
func (v *Catalog) ConfigOrNew(ctx context.Context) (layout.Config, error) {
	c, lost, err := v.config(ctx)
	if err == nil {
		err = v.mendNames(ctx)
	}
	if err == nil && !lost && v.Now().Sub(c.Proven.When) < probe.GoodFor {
		return c, nil
	}
	if err != nil && !errors.Is(err, ErrNoVault) {
		return c, err
	}
	p, err := v.establish(ctx, c, err)
	return p.Config, err
}

// checkEmpty tolerates what an interrupted create left.
func (v *Catalog) checkEmpty(ctx context.Context) error {
	for info, err := range v.Bucket.List(ctx, "") {
		if err != nil {
			return err
		}
		if info.Key != layout.KeyHead && info.Key != layout.KeyLayout && !strings.HasPrefix(info.Key, layout.DirProbe) && !strings.HasPrefix(info.Key, layout.DirKeys) {
			return fmt.Errorf("vault %s at %s: %w (it holds %s)", v.Name, v.Bucket, ErrForeign, info.Key)
		}
	}
	return nil
}

// create writes the config last: until then there is no vault. The head comes
// first, and of two that do this at once the one whose head it is names the vault.
func (v *Catalog) create(ctx context.Context, p layout.Proven) (layout.Config, error) {
	h, err := v.firstHead(ctx)
	if err != nil {
		return layout.Config{}, err
	}
	c := layout.Config{Format: h.Format, ID: h.Vault, Created: v.Now().UTC().Truncate(time.Second), Proven: p, Encrypted: h.Encrypted}
	if err := v.agree(ctx, c); err != nil {
		return layout.Config{}, err
	}
	if err := v.Mark(ctx); err != nil {
		return layout.Config{}, err
	}
	return v.claim(ctx, c)
}

// firstHead creates the head, unless there is one.
func (v *Catalog) firstHead(ctx context.Context) (layout.Head, error) {
	h := layout.Head{Format: v.Format(), Vault: ulid.MustNew(ulid.Timestamp(v.Now()), ulid.DefaultEntropy()).String()}
	if v.Sealed != nil {
		there, _, err := load(ctx, v, layout.KeyHead, layout.ParseHead)
		if !errors.Is(err, fs.ErrNotExist) {
			return there, err
		}
		if h.Encrypted, err = v.newNames(ctx, h.Vault); err != nil {
			return h, v.fail(err)
		}
	}
	data, err := layout.Encode(h)
	if err != nil {
		return h, err
	}
	_, err = v.Bucket.Swap(ctx, layout.KeyHead, "", data)
	if !errors.Is(err, bucket.ErrChanged) {
		return h, err
	}
	if v.Sealed != nil {
		v.Sealed.drop(h.Vault)
	}
	h, _, err = load(ctx, v, layout.KeyHead, layout.ParseHead)
	return h, err
}

func (v *Catalog) claim(ctx context.Context, c layout.Config) (layout.Config, error) {
	data, err := layout.Encode(c)
	if err == nil {
		_, err = v.Bucket.Put(ctx, layout.KeyConfig, bucket.Bytes(data))
	}
	if errors.Is(err, bucket.ErrDiffers) { // another one was faster
		return v.Config(ctx)
	}
	return c, err
}

// Mark stores the marker by which other programs know an OCI image layout. A vault
// that is sealed is none.
func (v *Catalog) Mark(ctx context.Context) error {
	if v.Sealed != nil {
		return nil
	}
	marker := []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
	right, err := v.holds(ctx, layout.KeyLayout, marker)
	if err != nil || right {
		return err
	}
	_, err = v.Bucket.Put(ctx, layout.KeyLayout, bucket.Bytes(marker))
	if errors.Is(err, bucket.ErrDiffers) {
		err = v.Bucket.Replace(ctx, layout.KeyLayout, bucket.Bytes(marker))
	}
	return err
}

// holds tells by one request whether a small object is what it has to be.
func (v *Catalog) holds(ctx context.Context, key string, want []byte) (bool, error) {
	body, info, err := v.Bucket.Get(ctx, key, 0)
	if _, bad := Damage(err); bad {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer body.Close()
	if info.Size != int64(len(want)) {
		return false, nil
	}
	got, err := io.ReadAll(io.LimitReader(body, info.Size))
	return bytes.Equal(got, want), err
}

// Head reads the commit point, and an etag to swap it from. If it is lost or
// damaged, the commit records stand in: each was written when all below it was there.
func (v *Catalog) Head(ctx context.Context, c layout.Config) (layout.Head, string, error) {
	h, etag, err := load(ctx, v, layout.KeyHead, layout.ParseHead)
	if errors.Is(err, layout.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		v.Log.Warn("the vault's list of snapshots is lost; it is made again from their records", "err", err)
		h, err = v.collectRecords(ctx, c)
	}
	if err == nil && h.Vault != c.ID {
		err = fmt.Errorf("vault %s: %w: %s is of vault %s, %s of vault %s", v.Bucket, layout.ErrDamaged, layout.KeyHead, h.Vault, layout.KeyConfig, c.ID)
	}
	return h, etag, err
}

func (v *Catalog) collectRecords(ctx context.Context, c layout.Config) (layout.Head, error) {
	h := layout.Head{Format: c.Format, Vault: c.ID, Encrypted: c.Encrypted}
	forgotten, err := v.forgotten(ctx, &h)
	if err != nil {
		return layout.Head{}, err
	}
	for info, err := range v.Bucket.List(ctx, layout.DirSnapshots) {
		if err != nil {
			return layout.Head{}, err
		}
		if forgotten[layout.IDOf(info.Key)] {
			continue
		}
		e, _, err := load(ctx, v, info.Key, func(data []byte) (layout.Entry, error) {
			raw, err := v.openRecord(data)
			if err != nil {
				return layout.Entry{}, err
			}
			s, err := layout.ParseSnapshot(raw)
			if err == nil && s.Vault != c.ID {
				err = fmt.Errorf("%w: of vault %s", layout.ErrDamaged, s.Vault)
			}
			return v.Entry(s, info.Key, data), err
		})
		if _, bad := Damage(err); bad || errors.Is(err, layout.ErrNewer) {
			v.Log.Warn("a record that cannot be used is no snapshot", "err", err)
			h.Unusable = append(h.Unusable, info.Key)
			continue
		}
		if err != nil {
			return layout.Head{}, err
		}
		h.Snapshots = append(h.Snapshots, e)
	}
	slices.SortFunc(h.Snapshots, func(a, b layout.Entry) int { return strings.Compare(a.ID, b.ID) })
	return h, nil
}

// ChangeHead replaces the commit point with what change makes of it, as often as
// another process comes in between. With an error of change nothing is replaced.
func (v *Catalog) ChangeHead(ctx context.Context, c layout.Config, change func(*layout.Head) error) error {
	const tries = 20
	for n := 1; ; n++ {
		h, etag, err := v.Head(ctx, c)
		if err != nil {
			return err
		}
		if err := v.SwapHead(ctx, c, h, etag, change); !errors.Is(err, bucket.ErrChanged) || n == tries {
			return err
		}
	}
}

// SwapHead replaces exactly the commit point that was read with an etag;
// bucket.ErrChanged.
func (v *Catalog) SwapHead(ctx context.Context, c layout.Config, h layout.Head, etag string, change func(*layout.Head) error) error {
	if err := change(&h); err != nil {
		return err
	}
	h.Epoch++
	data, err := layout.Encode(h)
	if err != nil {
		return err
	}
	if c.Mode() == layout.Strict {
		_, err = v.Bucket.Swap(ctx, layout.KeyHead, etag, data)
		return err
	}
	return v.replaceHead(ctx, etag, data)
}

// replaceHead commits where nothing keeps another writer away: it looks, writes, and
// looks again. What comes in between within that moment is lost to the list, not to
// the bucket.
func (v *Catalog) replaceHead(ctx context.Context, etag string, data []byte) error {
	now, err := v.Bucket.Load(ctx, layout.KeyHead)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, bucket.ErrTooLarge) {
		return err
	}
	if now.ETag != etag {
		return bucket.ErrChanged
	}
	if _, err := v.Bucket.Swap(ctx, layout.KeyHead, etag, data); err != nil {
		return err
	}
	if now, err = v.Bucket.Load(ctx, layout.KeyHead); err != nil {
		return err
	}
	if !bytes.Equal(now.Data, data) {
		return bucket.ErrChanged
	}
	return nil
}

// Record reads a commit record as the head knows it, whoever vouches for it.
func (v *Catalog) Record(ctx context.Context, e layout.Entry) (layout.Snapshot, error) {
	s, _, err := v.recordBytes(ctx, e)
	return s, err
}

// Trusted reads a commit record and refuses one for which nobody vouches that
// v.Trust names: layout.ErrUntrusted.
func (v *Catalog) Trusted(ctx context.Context, e layout.Entry) (layout.Snapshot, error) {
	s, data, err := v.recordBytes(ctx, e)
	if err == nil && len(v.Trust) > 0 {
		err = layout.CheckSignature(data, s.Signature, v.Trust)
	}
	if errors.Is(err, layout.ErrUntrusted) {
		return layout.Snapshot{}, fmt.Errorf("vault %s: snapshot %s: %w", v.Bucket, e.ID, err)
	}
	return s, err
}

func (v *Catalog) recordBytes(ctx context.Context, e layout.Entry) (s layout.Snapshot, raw []byte, err error) {
	if v.Sealed != nil && !v.Sealed.Opens() {
		return v.keptRecord(e)
	}
	s, _, err = load(ctx, v, e.Record, func(data []byte) (_ layout.Snapshot, err error) {
		if digest.FromBytes(data) != e.Digest {
			return layout.Snapshot{}, fmt.Errorf("%w: not the bytes that were written", layout.ErrDamaged)
		}
		if raw, err = v.openRecord(data); err != nil {
			return layout.Snapshot{}, err
		}
		return layout.ParseSnapshot(raw)
	})
	return s, raw, err
}

// Find reads the commit record of the snapshot that is meant, as Head.Pick does, if
// it is Trusted.
func (v *Catalog) Find(ctx context.Context, snapshot string, asOf time.Time) (layout.Snapshot, error) {
	h, err := v.Heads(ctx)
	if err != nil {
		return layout.Snapshot{}, err
	}
	e, err := h.Pick(snapshot, asOf)
	if err != nil {
		return layout.Snapshot{}, err
	}
	return v.Trusted(ctx, e)
}

// Heads reads the commit point for those who change nothing; ErrNoVault.
func (v *Catalog) Heads(ctx context.Context) (layout.Head, error) {
	c, err := v.Config(ctx)
	if err != nil {
		return layout.Head{}, err
	}
	h, _, err := v.Head(ctx, c)
	return h, err
}
