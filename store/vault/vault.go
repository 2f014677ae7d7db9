package vault

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/ledger"
	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/s3"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
	"lastro/store/vault/repair"
	"lastro/store/vault/restore"
	"lastro/store/vault/verify"
)

// Store is the local registry as a vault needs it. *store.Store implements it.
type Store interface {
	mirror.Destination
	// OpenContent opens a blob or manifest by its digest; fs.ErrNotExist.
	OpenContent(ctx context.Context, d digest.Digest) (*os.File, error)
	Ledger() *ledger.Ledger
}

// Options are what Open can be told. The zero value is fine.
type Options struct {
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now
	Version string           // of the program, for the record
	Config  []byte           // the configuration, without secrets, for the record; nil: none
	Keys    string           // folder on this machine that keeps what naming the contents of an encrypted vault takes; "": none
	// Wrap puts something around the bucket; for tests, as is Step, which is called
	// before each step of a folder that changes the disk, and as are Transport and Idle:
	// the way to an S3 server, and for how long a request may stand still there.
	Wrap      func(bucket.Bucket) bucket.Bucket
	Step      func(op, key string) error
	Transport http.RoundTripper
	Idle      time.Duration
}

// Vault is a backup repository in a bucket. It may be used from many goroutines
// and by many processes at once.
type Vault struct {
	*catalog.Catalog
	include  []mirror.Pattern
	patterns []string
	requests atomic.Int64
	settings []byte             // the whole configuration, without secrets
	key      ed25519.PrivateKey // signs; nil: nothing is signed
	lock     *s3.ObjectLock     // nil: nothing is locked
}

// What can be wrong with a place for a vault.
var (
	ErrUntrusted = layout.ErrUntrusted // a snapshot that nobody vouches for whom the settings name
	ErrNewer     = layout.ErrNewer     // a newer version of the program wrote it
	ErrDamaged   = layout.ErrDamaged   // something in it is not what it has to be
	ErrForeign   = catalog.ErrForeign  // not empty, and not a vault
	ErrEmpty     = layout.ErrEmpty     // a vault without a snapshot; fs.ErrNotExist as well
	ErrNoVault   = catalog.ErrNoVault  // nothing there yet; fs.ErrNotExist as well
)

// Open prepares the use of a vault. It sends nothing and creates nothing: the
// first Backup makes the vault.
func Open(ctx context.Context, s Settings, o Options) (*Vault, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	v := &Vault{patterns: s.include(), settings: o.Config, lock: s.S3.ObjectLock}
	for _, p := range v.patterns {
		pattern, err := mirror.ParsePattern(p)
		if err != nil {
			return nil, fmt.Errorf("vault %s: include %q: %w", s.Name, p, err)
		}
		v.include = append(v.include, pattern)
	}
	var trust []ed25519.PublicKey
	var err error
	if v.key, trust, err = s.keys(); err != nil {
		return nil, fmt.Errorf("vault %s: %w", s.Name, err)
	}
	sealer, err := s.sealer()
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", s.Name, err)
	}
	b, err := s.bucket(ctx, o, func() { v.requests.Add(1) })
	if err != nil {
		return nil, fmt.Errorf("vault %s: %w", s.Name, err)
	}
	server, _ := b.(bucket.Server)
	if o.Wrap != nil {
		b = o.Wrap(b)
	}
	v.Catalog = &catalog.Catalog{Name: s.Name, Bucket: b, Server: server, Log: o.Log, Now: o.Now, Version: o.Version, Trust: trust}
	if sealer != nil {
		v.Sealed = &catalog.Sealed{Sealer: sealer, Keys: o.Keys}
	}
	return v, nil
}

// What a verification is told, what it found in a snapshot, and one thing that is
// wrong there.
type (
	VerifyOptions = verify.Options
	Verified      = verify.Report
	VerifyLevel   = verify.Level
	Coverage      = verify.Coverage
	Amount        = verify.Amount
	Problem       = verify.Problem

	RepairOptions = repair.Options
	RepairSource  = repair.Source
	RepairContent = repair.Content
)

// VerifyFull is the level at which everything is read.
const VerifyFull = verify.Full

// Verify reads and hashes everything that a snapshot needs: "" or "latest", an id,
// or the start of one. See VerifyAll.
func (v *Vault) Verify(ctx context.Context, snapshot string, progress mirror.Progress) (Verified, error) {
	all, err := v.VerifyAll(ctx, VerifyOptions{Snapshot: snapshot}, progress)
	if len(all.Snapshots) == 0 {
		return Verified{Format: v.Format(), Vault: v.Name, Problems: []Problem{}, Requests: all.Requests, TookSeconds: all.TookSeconds}, err
	}
	return all.One(), err
}

// One is the first snapshot's report, with what is said of the whole run.
func (a VerifiedAll) One() Verified {
	r := a.Snapshots[0]
	r.Requests, r.TookSeconds = a.Requests, a.TookSeconds
	r.OldestRead, r.OldestUnreadSeconds = a.OldestRead, a.OldestUnreadSeconds
	return r
}

// VerifiedAll is what a verification found in all snapshots.
type VerifiedAll struct {
	Vault               string      `json:"vault"`
	Snapshots           []Verified  `json:"snapshots"` // oldest first
	Level               VerifyLevel `json:"level"`
	Part                int         `json:"part,omitempty"`
	Parts               int         `json:"parts,omitempty"`
	verify.Coverage                 // of all that the snapshots need, each thing once
	OldestRead          time.Time   `json:"oldest_read,omitzero"`  // when what is longest unread in the vault was read and hashed, or sent there
	OldestUnreadSeconds int64       `json:"oldest_unread_seconds"` // its age: of the oldest byte that nobody has read since
	Requests            int64       `json:"requests"`
	TookSeconds         float64     `json:"took_seconds"`
}

// Left counts what is wrong and not repaired, each once, in however many snapshots it is.
func (a VerifiedAll) Left() int {
	left := map[digest.Digest]bool{}
	for p := range a.each() {
		if !p.Repaired {
			left[p.Digest] = true
		}
	}
	return len(left)
}

// Repaired counts what was repaired, each once, by source.
func (a VerifiedAll) Repaired() map[string]int {
	seen, n := map[digest.Digest]bool{}, map[string]int{}
	for p := range a.each() {
		if p.Repaired && !seen[p.Digest] {
			seen[p.Digest] = true
			n[p.Source]++
		}
	}
	return n
}

func (a VerifiedAll) each() iter.Seq[Problem] {
	return func(yield func(Problem) bool) {
		for _, s := range a.Snapshots {
			for _, p := range s.Problems {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// VerifyAll verifies what the options name; see verify.Run. progress may be nil.
func (v *Vault) VerifyAll(ctx context.Context, o VerifyOptions, progress mirror.Progress) (VerifiedAll, error) {
	start, sent := v.Now(), v.requests.Load()
	o.Repair = v.withDocuments(o.Repair)
	r, err := verify.Run(ctx, v.Catalog, o, watched(progress))
	all := VerifiedAll{Vault: v.Name, Snapshots: r.Snapshots, Level: r.Level, Part: r.Part, Parts: o.Parts, Coverage: r.Coverage, OldestRead: r.OldestRead}
	all.Requests, all.TookSeconds = v.requests.Load()-sent, v.Now().Sub(start).Seconds()
	if !r.OldestRead.IsZero() {
		all.OldestUnreadSeconds = int64(max(0, v.Now().Sub(r.OldestRead)) / time.Second)
	}
	if err != nil {
		return all, fmt.Errorf("verify vault %s: %w", v.Name, err)
	}
	return all, nil
}

// VerifyKnown is what somebody can verify who backs up to a sealed vault and cannot read
// it: what this store has sent there is compared with a listing, in name and length; see
// verify.Known. The sizes are those of what is here still.
func (v *Vault) VerifyKnown(ctx context.Context, st Store) (VerifiedAll, error) {
	start, sent := v.Now(), v.requests.Load()
	all := VerifiedAll{Vault: v.Name, Snapshots: []Verified{}, Level: verify.List}
	r, err := v.verifyKnown(ctx, st)
	if err != nil {
		return all, fmt.Errorf("verify vault %s: %w", v.Name, err)
	}
	all.Snapshots, all.Coverage = append(all.Snapshots, r), r.Coverage
	all.Requests, all.TookSeconds = v.requests.Load()-sent, v.Now().Sub(start).Seconds()
	return all, nil
}

func (v *Vault) verifyKnown(ctx context.Context, st Store) (Verified, error) {
	as, err := v.HeldAs(ctx)
	if err != nil {
		return Verified{}, err
	}
	sizes := map[digest.Digest]int64{}
	for d, err := range st.Ledger().AllHeld(ctx, as) {
		if err == nil {
			sizes[d], err = sizeHere(ctx, st, d)
		}
		if err != nil {
			return Verified{}, err
		}
	}
	return verify.Known(ctx, v.Catalog, as, sizes)
}

// sizeHere is how long a content of the store is; -1: it is not here.
func sizeHere(ctx context.Context, st Store, d digest.Digest) (int64, error) {
	f, err := st.OpenContent(ctx, d)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// What a restore is told, would do, and did.
type (
	RestoreOptions = restore.Options
	RestorePlan    = restore.Plan
	Restored       = restore.Report
	Target         = restore.Target
	Failure        = catalog.Failure
)

// CheckPatterns is nil when a restore can read the patterns. It asks no vault.
func CheckPatterns(patterns []string) error { return restore.CheckPatterns(patterns) }

// PlanRestore tells what Restore would do. It changes nothing.
func (v *Vault) PlanRestore(ctx context.Context, st Store, o RestoreOptions) (RestorePlan, error) {
	start, sent := v.Now(), v.requests.Load()
	p, err := restore.Prepare(ctx, v.Catalog, st, o)
	if err == nil {
		err = p.Guess(ctx, v.Catalog, v.requests.Load()-sent, v.Now().Sub(start))
	}
	if err != nil {
		return p, fmt.Errorf("plan restore from vault %s: %w", v.Name, err)
	}
	return p, nil
}

// Restore brings images and their history back into a store; see restore.Run.
// progress may be nil.
func (v *Vault) Restore(ctx context.Context, st Store, o RestoreOptions, progress mirror.Progress) (Restored, error) {
	start, sent := v.Now(), v.requests.Load()
	r, err := restore.Run(ctx, v.Catalog, st, o, watched(progress))
	r.TookSeconds, r.Requests = v.Now().Sub(start).Seconds(), v.requests.Load()-sent
	if err != nil {
		return r, fmt.Errorf("restore from vault %s: %w", v.Name, err)
	}
	return r, nil
}

// PlanCopy tells what Copy would do. It changes nothing.
func (v *Vault) PlanCopy(ctx context.Context, to Target, o RestoreOptions) (RestorePlan, error) {
	start, sent := v.Now(), v.requests.Load()
	p, err := restore.PrepareCopy(ctx, v.Catalog, to, o)
	if err == nil {
		err = p.Guess(ctx, v.Catalog, v.requests.Load()-sent, v.Now().Sub(start))
	}
	if err != nil {
		return p, fmt.Errorf("plan copy from vault %s to %s: %w", v.Name, to, err)
	}
	return p, nil
}

// Copy brings images to another registry or into a folder; see restore.Copy.
// progress may be nil.
func (v *Vault) Copy(ctx context.Context, to Target, o RestoreOptions, progress mirror.Progress) (Restored, error) {
	start, sent := v.Now(), v.requests.Load()
	r, err := restore.Copy(ctx, v.Catalog, to, o, watched(progress))
	r.TookSeconds, r.Requests = v.Now().Sub(start).Seconds(), v.requests.Load()-sent
	if err != nil {
		return r, fmt.Errorf("copy from vault %s to %s: %w", v.Name, to, err)
	}
	return r, nil
}

// watched is a progress that is there.
func watched(p mirror.Progress) mirror.Progress {
	if p == nil {
		return unwatched{}
	}
	return p
}

type unwatched struct{}

func (unwatched) Plan(int, int64)    {}
func (unwatched) Bytes(int64)        {}
func (unwatched) Done(string, error) {}
