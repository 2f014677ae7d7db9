package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/opencontainers/go-digest"
)

// Prune is what is going to be removed, as the head has it. It is marked first; then
// somebody removes what is still not needed, and nobody commits meanwhile.
type Prune struct {
	ID      string        `json:"id"`
	Plan    string        `json:"plan"`        // key of the Plan
	Digest  digest.Digest `json:"plan_digest"` // of its bytes
	Blobs   int           `json:"blobs"`
	Bytes   int64         `json:"bytes"`
	Marked  time.Time     `json:"marked"`
	Sweeper string        `json:"sweeper,omitempty"` // who removes; "": nobody does yet
	Beat    time.Time     `json:"beat,omitzero"`     // when the sweeper last said so; zero: it gave up
}

func (p *Prune) check() error {
	if p == nil {
		return nil
	}
	_, err := ulid.ParseStrict(p.ID)
	if name, ok := strings.CutPrefix(p.Plan, DirPrune); err == nil && (!ok || strings.ContainsAny(name, `/\`) || !fs.ValidPath(name)) {
		err = fmt.Errorf("plan %.80q", p.Plan)
	}
	return errors.Join(err, CheckDigest(p.Digest))
}

func checkSwept(id string) error {
	if id == "" {
		return nil
	}
	_, err := ulid.ParseStrict(id)
	return err
}

// MaxPlan is how many blobs a plan names; there may be more in the next.
const MaxPlan = 200_000

// Plan is what no snapshot needed when it was marked.
type Plan struct {
	Format  int         `json:"format"`
	ID      string      `json:"id"`
	Vault   string      `json:"vault"`
	Created time.Time   `json:"created"`
	Blobs   []Condemned `json:"blobs"`
	Records int         `json:"records"` // commit records of snapshots that are not there
}

// Condemned is a blob that no snapshot needed.
type Condemned struct {
	Digest   digest.Digest `json:"digest"` // as the vault calls it
	Size     int64         `json:"size"`
	Modified time.Time     `json:"modified"` // by the bucket's clock; another time is another blob
}

// PlanKey is where a plan lies.
func PlanKey(id string) string { return DirPrune + id + ".json" }

// VerifiedIDOf is the id of the snapshot that a verification's receipt is of, "" for
// none.
func VerifiedIDOf(key string) string {
	rest, ok := strings.CutPrefix(key, DirVerified)
	id, _, nested := strings.Cut(rest, "/")
	if _, err := ulid.ParseStrict(id); !ok || !nested || err != nil {
		return ""
	}
	return id
}

// ForgottenKey is where it lies that the commit record of a snapshot says nothing any more.
func ForgottenKey(id string) string { return DirForgotten + id + ".json" }

// ForgottenIDOf is the id of the snapshot of which a key says so, "" for none.
func ForgottenIDOf(key string) string { return idUnder(DirForgotten, key) }

// PlanIDOf is the id of the plan that lies at a key, "" for none.
func PlanIDOf(key string) string { return idUnder(DirPrune, key) }

func idUnder(dir, key string) string {
	name, ok := strings.CutPrefix(key, dir)
	id, isRecord := strings.CutSuffix(name, ".json")
	if _, err := ulid.ParseStrict(id); !ok || !isRecord || err != nil {
		return ""
	}
	return id
}

// ParsePlan reads a plan, which may be anything: ErrNewer, ErrDamaged.
func ParsePlan(data []byte) (Plan, error) {
	var p Plan
	if err := decode(data, &p); err != nil {
		return Plan{}, err
	}
	_, err := ulid.ParseStrict(p.ID)
	for _, b := range p.Blobs {
		err = errors.Join(err, CheckName(b.Digest))
	}
	if err != nil {
		return Plan{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return p, nil
}

// DigestOf is how the vault calls the content that lies at a key, if one can: in one
// that is not sealed by its digest.
func DigestOf(key string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(key, DirBlobs)
	algorithm, encoded, cut := strings.Cut(rest, "/")
	d := digest.Digest(algorithm + ":" + encoded)
	return d, ok && cut && CheckName(d) == nil
}

// IDOf is the id of the snapshot whose commit record lies at a key, "" for none.
func IDOf(key string) string {
	name, ok := strings.CutPrefix(key, DirSnapshots)
	name, isRecord := strings.CutSuffix(name, ".json")
	_, id, _ := strings.Cut(name, "-")
	if _, err := ulid.ParseStrict(id); !ok || !isRecord || err != nil {
		return ""
	}
	return id
}
