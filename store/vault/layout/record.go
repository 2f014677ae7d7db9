package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	// ErrNewer says that a newer version of the program wrote the vault.
	ErrNewer = errors.New("written by a newer version: use that one")
	// ErrEmpty says that a vault has no snapshot yet. It is fs.ErrNotExist as well.
	ErrEmpty = fmt.Errorf("no snapshot there yet, a backup makes one: %w", fs.ErrNotExist)
	// ErrDamaged says that something in the vault is not what it has to be.
	ErrDamaged = errors.New("damaged")
)

// The names of what lies beside the blobs.
const (
	KeyLayout    = "oci-layout"
	KeyIndex     = "index.json"
	KeyConfig    = "vault/config.json"
	KeyHead      = "vault/HEAD.json"
	DirBlobs     = "blobs/"
	DirSnapshots = "vault/snapshots/"
	DirVerified  = "vault/verified/"
	DirForgotten = "vault/forgotten/"
	DirPrune     = "vault/prune/"
	DirDrills    = "vault/drills/"
	DirProbe     = "vault/probe/"
)

// BlobKey is where a content lies.
func BlobKey(d digest.Digest) string {
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded()
}

// CheckDigest refuses what is not the SHA-256 or SHA-512 of anything.
func CheckDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %.150q: %w", d, err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("digest %.150q: %w", d, digest.ErrDigestUnsupported)
	}
	return nil
}

// Format is what is written into a vault that is not sealed.
const Format = 1

// Config says that this is a vault, and which.
type Config struct {
	Format  int       `json:"format"`
	Sum     Sum       `json:"sum"`
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Proven  Proven    `json:"proven"`

	Encrypted *Encrypted `json:"encrypted,omitempty"` // nil: what is in it is not sealed
}

// Proven is what the place was seen to do, when that was last tried.
type Proven struct {
	Conditions bool      `json:"conditions"` // writes under conditions are not refused as unknown
	PutOnce    bool      `json:"put_once"`   // of many writers of one name exactly one creates it
	Swap       bool      `json:"swap"`       // of many writers from one state exactly one wins
	Coherent   bool      `json:"coherent"`   // what is written is read and listed at once
	Checksum   bool      `json:"checksum"`   // bytes that are not what their SHA-256 says are refused
	Delete     bool      `json:"delete"`     // what is removed is gone
	Versions   bool      `json:"versions"`   // what is replaced or removed stays as a version
	Lock       bool      `json:"lock"`       // versions can be locked
	When       time.Time `json:"when,omitzero"`
	Version    string    `json:"version,omitempty"` // of the program that tried
}

// Mode is how many processes may change a vault at a time.
type Mode string

const (
	// Strict vaults are committed and pruned by many processes beside each other.
	Strict Mode = "strict"
	// SingleWriter vaults have one process that changes them: who commits looks,
	// writes and looks again; who prunes waits out the others by the clock.
	SingleWriter Mode = "single writer"
)

// Mode follows from what the place was proven to do.
func (c Config) Mode() Mode {
	if p := c.Proven; p.PutOnce && p.Swap && p.Coherent {
		return Strict
	}
	return SingleWriter
}

// ParseConfig reads a config, which may be anything: ErrNewer, ErrDamaged.
func ParseConfig(data []byte) (Config, error) {
	var c Config
	if err := decodeWhole(data, "proven", &c); err != nil {
		return Config{}, err
	}
	if _, err := ulid.ParseStrict(c.ID); err != nil {
		return Config{}, fmt.Errorf("%w: id %.40q: %w", ErrDamaged, c.ID, err)
	}
	if err := c.Encrypted.check(c.Format); err != nil {
		return Config{}, err
	}
	return c, nil
}

// checkDense refuses what would take up many times its own length in memory: lists
// of next to nothing.
func checkDense(data []byte) error {
	if len(data) < 1<<20 {
		return nil
	}
	if bytes.Count(data, []byte("{")) > len(data)/32 || bytes.Count(data, []byte(",")) > len(data)/8 {
		return fmt.Errorf("%w: a document of empty values", ErrDamaged)
	}
	return nil
}

// decode reads a record. Fields that it does not know are fine within a format.
func decode(data []byte, into any) error {
	if err := checkDense(data); err != nil {
		return err
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if version.Format > FormatSealed {
		return fmt.Errorf("format %d: %w", version.Format, ErrNewer)
	}
	if version.Format < 1 {
		return fmt.Errorf("%w: no format given", ErrDamaged)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// decodeWhole reads a record that nothing else has the hash of: it has its own, and a
// field by which it is known from other records.
func decodeWhole(data []byte, field string, into any) error {
	if err := decode(data, into); err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if _, there := fields[field]; !there {
		return fmt.Errorf("%w: it has no %s, and is something else", ErrDamaged, field)
	}
	return checkSum(data)
}

// Encode writes a record.
func Encode(record any) ([]byte, error) {
	data, err := json.MarshalIndent(record, "", " ")
	return summed(append(data, '\n')), err
}

// Head is the commit point: what is in it exists, the rest does not.
type Head struct {
	Format    int             `json:"format"`
	Sum       Sum             `json:"sum"`
	Vault     string          `json:"vault"`
	Epoch     uint64          `json:"epoch"` // counts the changes
	Snapshots []Entry         `json:"snapshots"`
	Damaged   []digest.Digest `json:"damaged,omitempty"` // as the vault calls what Verify found; the next backup repairs it
	Locked    time.Time       `json:"locked,omitzero"`   // all that the snapshots need is locked at least until then; zero: not known
	Read      []time.Time     `json:"read,omitempty"`    // when each of so many parts of all blobs was last read and hashed; zero: never
	Prune     *Prune          `json:"prune,omitempty"`   // what is going to be removed
	Swept     string          `json:"swept,omitempty"`   // id of the newest prune that began to remove
	Encrypted *Encrypted      `json:"encrypted,omitempty"`

	// Unusable are the keys of commit records that say nothing usable, in a head that
	// was lost and made again from them.
	Unusable []string `json:"-"`
}

// All are the snapshots, and those of which nothing but a commit record is left that is
// unusable: their digest is none that anything has.
func (h Head) All() []Entry {
	if len(h.Unusable) == 0 {
		return h.Snapshots
	}
	all := slices.Clone(h.Snapshots)
	for _, key := range h.Unusable {
		if id := IDOf(key); id != "" {
			all = append(all, Entry{ID: id, Record: key, Digest: digest.FromString(key)})
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Sweeping tells whether a prune removes at this moment: what its plan names may be
// here and gone a moment later.
func (h Head) Sweeping() bool { return h.Prune != nil && h.Prune.Sweeper != "" }

// HeldAs is under which name a ledger knows what lies in the vault. What it knew
// before a prune removed something, it knows under another name.
func (h Head) HeldAs() string {
	if h.Swept == "" {
		return h.Vault
	}
	return h.Vault + "@" + h.Swept
}

// MaxParts is into how many parts a vault can be divided to be read.
const MaxParts = 999

// Entry is a snapshot as the head lists it, oldest first.
type Entry struct {
	ID       string        `json:"id"`
	Record   string        `json:"record"`        // key of the commit record
	Digest   digest.Digest `json:"record_digest"` // of its bytes
	Created  time.Time     `json:"created"`
	Root     digest.Digest `json:"root"` // as the vault calls it
	Images   int           `json:"images"`
	Blobs    int           `json:"blobs"`
	Bytes    int64         `json:"bytes"`
	Verified time.Time     `json:"verified,omitzero"` // last read whole and found right
	Store    string        `json:"store,omitempty"`   // what its store is called, to know the snapshots of one from those of another
	Signed   string        `json:"signed,omitempty"`  // the KeyID of who signed it, as the record says
}

// ParseHead reads a head, which may be anything: ErrNewer, ErrDamaged.
func ParseHead(data []byte) (Head, error) {
	var h Head
	if err := decodeWhole(data, "snapshots", &h); err != nil {
		return Head{}, err
	}
	if _, err := ulid.ParseStrict(h.Vault); err != nil {
		return Head{}, fmt.Errorf("%w: vault id %.40q", ErrDamaged, h.Vault)
	}
	for _, e := range h.Snapshots {
		if err := e.check(); err != nil {
			return Head{}, fmt.Errorf("%w: snapshot %.40q: %w", ErrDamaged, e.ID, err)
		}
	}
	if len(h.Read) > MaxParts {
		return Head{}, fmt.Errorf("%w: %d parts", ErrDamaged, len(h.Read))
	}
	if err := errors.Join(h.Prune.check(), checkSwept(h.Swept)); err != nil {
		return Head{}, fmt.Errorf("%w: prune: %w", ErrDamaged, err)
	}
	for _, d := range h.Damaged {
		if err := CheckName(d); err != nil {
			return Head{}, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if err := h.Encrypted.check(h.Format); err != nil {
		return Head{}, err
	}
	return h, nil
}

func (e Entry) check() error {
	_, err := ulid.ParseStrict(e.ID)
	if name, ok := strings.CutPrefix(e.Record, DirSnapshots); err == nil && (!ok || strings.ContainsAny(name, `/\`) || !fs.ValidPath(name)) {
		err = fmt.Errorf("record %.80q", e.Record)
	}
	return errors.Join(err, CheckDigest(e.Digest), CheckName(e.Root))
}

// Snapshot is the commit record of a snapshot.
type Snapshot struct {
	Format    int                `json:"format"`
	ID        string             `json:"id"`
	Vault     string             `json:"vault"`
	Parent    string             `json:"parent,omitempty"` // for people: no snapshot needs another one
	Created   time.Time          `json:"created"`
	Writer    string             `json:"writer"`
	Store     string             `json:"store,omitempty"` // what the store is called that it is of
	Version   string             `json:"version,omitempty"`
	Root      ocispec.Descriptor `json:"root"`
	Images    int                `json:"images"`
	Blobs     int                `json:"blobs"`
	Bytes     int64              `json:"bytes"`
	Closure   digest.Digest      `json:"closure"`           // SHA-256 over the sorted digests of all blobs, a line each
	Foreign   []digest.Digest    `json:"foreign,omitempty"` // layers with a home elsewhere that are kept all the same
	Elsewhere []Layer            `json:"elsewhere"`         // such layers that are not kept; null: not known
	Include   []string           `json:"include"`
	History   History            `json:"history"`
	State     *Layer             `json:"state,omitempty"`  // what people said of images: protections and holds
	Config    *Layer             `json:"config,omitempty"` // the configuration, without secrets
	Signature *Signature         `json:"signature,omitempty"`
}

// Layer is a layer with a home elsewhere, or another content beside the images.
type Layer struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// History is the ledger's events up to a snapshot.
type History struct {
	Segments []Segment     `json:"segments"`
	Seq      uint64        `json:"seq"`  // of the newest event, in the ledger that wrote it
	Last     digest.Digest `json:"last"` // SHA-256 of the newest event's line, to know that ledger again
}

// Segment is a blob of events: JSON lines, Zstandard.
type Segment struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
	Events int           `json:"events"`
}

// ParseSnapshot reads a commit record, which may be anything: ErrNewer, ErrDamaged.
func ParseSnapshot(data []byte) (Snapshot, error) {
	var s Snapshot
	if err := decode(data, &s); err != nil {
		return Snapshot{}, err
	}
	_, err := ulid.ParseStrict(s.ID)
	err = errors.Join(err, CheckDigest(s.Root.Digest), CheckDigest(s.Closure))
	for _, d := range s.Foreign {
		err = errors.Join(err, CheckDigest(d))
	}
	for _, l := range s.Elsewhere {
		err = errors.Join(err, CheckDigest(l.Digest))
	}
	for _, d := range s.Beside() {
		err = errors.Join(err, CheckDigest(d))
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return s, nil
}

// Beside are the contents that a snapshot needs besides what its root leads to.
func (s Snapshot) Beside() (list []digest.Digest) {
	for _, g := range s.History.Segments {
		list = append(list, g.Digest)
	}
	for _, l := range []*Layer{s.State, s.Config} {
		if l != nil {
			list = append(list, l.Digest)
		}
	}
	return list
}

// Entry is how the head lists the snapshot, whose record has these bytes.
func (s Snapshot) Entry(key string, data []byte) Entry {
	e := Entry{ID: s.ID, Record: key, Digest: digest.FromBytes(data), Created: s.Created, Root: s.Root.Digest, Images: s.Images, Blobs: s.Blobs, Bytes: s.Bytes, Store: s.Store}
	if s.Signature != nil {
		e.Signed = s.Signature.Key
	}
	return e
}

// Pick finds the snapshot that is meant: "" or "latest", an id or the start of
// one, or the newest that is not after a time. Errors are ErrEmpty and other
// fs.ErrNotExist, or that more than one is meant.
func (h Head) Pick(id string, asOf time.Time) (Entry, error) {
	var found []Entry
	for _, e := range h.Snapshots {
		switch {
		case !asOf.IsZero() && e.Created.After(asOf):
		case id == "" || id == "latest":
			found = []Entry{e}
		case strings.HasPrefix(e.ID, strings.ToUpper(id)):
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(h.Snapshots) == 0:
		return Entry{}, ErrEmpty
	case len(found) > 1:
		return Entry{}, fmt.Errorf("snapshot %q: %d start so: give more of the id", id, len(found))
	case !asOf.IsZero():
		return Entry{}, fmt.Errorf("snapshot as of %s: %w: see `lastro backup list`", asOf.Format(time.RFC3339), fs.ErrNotExist)
	}
	return Entry{}, fmt.Errorf("snapshot %q: %w: see `lastro backup list`", id, fs.ErrNotExist)
}
