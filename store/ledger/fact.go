package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// exportFormat is the version of what Export writes.
const exportFormat = 1

// fact is a line of an export: one of these.
type fact struct {
	Ledger     *exportStart `json:"ledger,omitempty"` // the first line
	Event      *numbered    `json:"event,omitempty"`
	Absent     *place       `json:"absent,omitempty"`
	Checked    *place       `json:"checked,omitempty"`
	Known      *place       `json:"known,omitempty"`
	Asked      *place       `json:"asked,omitempty"`
	Self       *string      `json:"self,omitempty"` // the ledger's name
	Job        *Job         `json:"job,omitempty"`
	Held       *stored      `json:"held,omitempty"`
	Protection *Protection  `json:"protection,omitempty"`
	Hold       *TagHold     `json:"hold,omitempty"`
	PullsSince *time.Time   `json:"pulls_since,omitempty"`
	Pulled     *place       `json:"pulled,omitempty"`
	End        *exportEnd   `json:"end,omitempty"` // the last line
}

type exportStart struct {
	Format int       `json:"format"`
	Time   time.Time `json:"time"`
	Events uint64    `json:"events"` // number of the newest
}

type exportEnd struct {
	Facts int `json:"facts"` // lines between the first and the last
}

// numbered is an event with its number.
type numbered struct {
	Seq uint64 `json:"seq"`
	Event
}

// place is a digest or a tag of a repository, and when something was so.
type place struct {
	Repo   string        `json:"repo"`
	Tag    string        `json:"tag,omitempty"`
	Digest digest.Digest `json:"digest,omitempty"`
	Time   time.Time     `json:"time,omitzero"`
}

// stored is what a vault holds.
type stored struct {
	Vault  string        `json:"vault"`
	Digest digest.Digest `json:"digest"`
}

func (p place) isTag() bool { return p.Digest == "" }

func (p place) key() ([]byte, error) {
	err := errors.Join(checkRepo(p.Repo), checkName("tag", p.Tag))
	if !p.Time.IsZero() {
		err = errors.Join(err, checkTime(p.Time))
	}
	if err != nil {
		return nil, err
	}
	if p.isTag() {
		if p.Tag == "" {
			return nil, errors.New("neither a tag nor a digest")
		}
		return tagKey(p.Repo, p.Tag), nil
	}
	if p.Tag != "" {
		return nil, errors.New("both a tag and a digest")
	}
	return repoDigestKey(p.Repo, p.Digest)
}

// only says what a place is to be of, beside its repository.
func (p place) only(tag, hasTime bool) error {
	if p.isTag() != tag {
		return errors.New("a tag where a digest belongs, or a digest where a tag does")
	}
	if p.Time.IsZero() == hasTime {
		return errors.New("a time is missing, or not to be there")
	}
	return nil
}

// record writes a fact of an export into a ledger that knows only such facts.
func (f fact) record(tx *bolt.Tx) error {
	switch {
	case f.Event != nil:
		return recordNumbered(tx, *f.Event)
	case f.Absent != nil:
		return errors.Join(f.Absent.only(false, false), f.Absent.put(tx, bucketAbsent))
	case f.Checked != nil:
		return errors.Join(f.Checked.only(false, true), f.Checked.put(tx, bucketChecked))
	case f.Known != nil:
		return errors.Join(f.Known.only(false, true), f.Known.put(tx, bucketKnown))
	case f.Asked != nil:
		return errors.Join(f.Asked.only(true, true), f.Asked.put(tx, bucketAsked))
	case f.Self != nil:
		return putID(tx, *f.Self)
	case f.Job != nil:
		return f.Job.put(tx)
	case f.Held != nil:
		return f.Held.put(tx)
	case f.Protection != nil:
		return f.Protection.put(tx)
	case f.Hold != nil:
		return f.Hold.put(tx)
	case f.PullsSince != nil:
		return raisePullsSince(tx, *f.PullsSince)
	case f.Pulled != nil:
		return recordPulled(tx, *f.Pulled)
	}
	return errors.New("no fact")
}

// recordNumbered appends an event with its own number, and leaves its tag to be
// followed.
func recordNumbered(tx *bolt.Tx, e numbered) error {
	events := tx.Bucket([]byte(bucketEvent))
	switch {
	case e.Seq <= events.Sequence():
		return fmt.Errorf("event %d comes after event %d", e.Seq, events.Sequence())
	case e.Time.IsZero():
		return errors.New("event has no time")
	}
	if err := errors.Join(e.check(), events.SetSequence(e.Seq-1)); err != nil {
		return err
	}
	return appendEvent(tx, e.Event)
}

// put writes an empty value where there is no time.
func (p place) put(tx *bolt.Tx, bucket string) error {
	k, err := p.key()
	if err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	if p.Time.IsZero() {
		return file.Put(b, k, nil)
	}
	return file.Put(b, k, appendTime(nil, p.Time))
}

func (j Job) put(tx *bolt.Tx) error {
	if j.Name == "" {
		return errors.New("job has no name")
	}
	text, err := json.Marshal(j)
	if err := errors.Join(err, checkName("job", j.Name)); err != nil {
		return err
	}
	return file.Put(tx.Bucket([]byte(bucketJob)), []byte(j.Name), text)
}

func (s stored) put(tx *bolt.Tx) error {
	if s.Vault == "" {
		return errors.New("vault has no name")
	}
	if err := checkName("vault", s.Vault); err != nil {
		return err
	}
	return recordHeld(tx, s.Vault, []digest.Digest{s.Digest})
}

// put writes the protection alone: its events are events.
func (p Protection) put(tx *bolt.Tx) error {
	if err := p.Check(); err != nil {
		return err
	}
	byName, byDigest, err := protectionKeys(p.Name, p.Repo, p.Digest)
	if err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return errors.Join(file.Put(protectionBucket(tx, protectionName), byName, text), file.Put(protectionBucket(tx, protectionDigest), byDigest, nil))
}

// raisePullsSince never lowers it: what was pulled since then, and before this
// ledger was made, may be in no export.
func raisePullsSince(tx *bolt.Tx, t time.Time) error {
	if err := checkTime(t); err != nil {
		return err
	}
	b := tx.Bucket([]byte(bucketPulled))
	known, err := pulledAt(b, []byte(pulledSince))
	if err != nil || !t.After(known) {
		return err
	}
	return b.Put([]byte(pulledSince), appendTime(nil, t))
}

// recordPulled forgets a tag that is not there: it came, or went, while the export
// was written.
func recordPulled(tx *bolt.Tx, p place) error {
	k, err := p.key()
	if err := errors.Join(err, p.only(p.isTag(), true)); err != nil {
		return err
	}
	b := pulledBucket(tx, pulledDigest)
	if p.isTag() {
		if b = pulledBucket(tx, pulledTag); tx.Bucket([]byte(bucketTag)).Get(k) == nil {
			return nil
		}
	}
	return file.Put(b, k, appendTime(nil, p.Time))
}
