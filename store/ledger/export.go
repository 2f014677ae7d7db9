package ledger

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// Export writes everything that cannot be made anew from the registry, as lines of
// JSON: one that says what follows, a fact each, and one that says that it was
// all. The events are those that were there when it began, in their order; what
// is recorded meanwhile may or may not be there. It tells how many facts it wrote.
//
// The graph is made anew by a rebuild, and the reviews of what is to be collected
// follow from that.
func (l *Ledger) Export(ctx context.Context, w io.Writer) (facts int, err error) {
	if err := l.FlushPulls(ctx); err != nil {
		return 0, err
	}
	buffered := bufio.NewWriterSize(w, 64<<10)
	x := exporter{Ledger: l, out: json.NewEncoder(buffered)}
	if err := errors.Join(x.all(ctx), buffered.Flush()); err != nil {
		return x.facts, fmt.Errorf("export ledger: %w", err)
	}
	return x.facts, nil
}

type exporter struct {
	*Ledger
	out   *json.Encoder
	facts int
}

func (x *exporter) all(ctx context.Context) error {
	last, err := x.LastSeq(ctx)
	if err != nil {
		return err
	}
	if err := x.out.Encode(fact{Ledger: &exportStart{exportFormat, x.now().UTC(), last}}); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{
		func(ctx context.Context) error { return x.events(ctx, last) },
		x.self, x.marks, x.jobs, x.vaults, x.protections, x.holds, x.pulls,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return x.out.Encode(fact{End: &exportEnd{x.facts}})
}

func (x *exporter) write(f fact) error {
	x.facts++
	return x.out.Encode(f)
}

func (x *exporter) events(ctx context.Context, last uint64) error {
	for e, err := range x.Events(ctx, 0) {
		if err != nil {
			return err
		}
		if e.Seq > last {
			return nil
		}
		if err := x.write(fact{Event: &numbered{e.Seq, e}}); err != nil {
			return err
		}
	}
	return nil
}

// marks are what was noted of places: digests or tags of repositories.
func (x *exporter) marks(ctx context.Context) error {
	for _, m := range []struct {
		bucket string
		isTag  bool
		fact   func(place) fact
	}{
		{bucketAbsent, false, func(p place) fact { return fact{Absent: &p} }},
		{bucketChecked, false, func(p place) fact { return fact{Checked: &p} }},
		{bucketKnown, false, func(p place) fact { return fact{Known: &p} }},
		{bucketAsked, true, func(p place) fact { return fact{Asked: &p} }},
	} {
		err := x.each(ctx, topLevel(m.bucket), func(k, v []byte) (fact, error) {
			p, err := decodePlace(k, v, m.isTag)
			return m.fact(p), err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", m.bucket, err)
		}
	}
	return nil
}

func decodePlace(k, v []byte, isTag bool) (p place, err error) {
	repo, rest, err := cutName(k)
	p.Repo = repo
	if isTag {
		p.Tag = string(rest)
	} else if err == nil {
		p.Digest, err = lastDigest(rest)
	}
	if err == nil && len(v) > 0 {
		p.Time, _, err = cutTime(v)
	}
	if err != nil {
		return p, fmt.Errorf("read %x: %w", k, err)
	}
	return p, nil
}

func (x *exporter) jobs(ctx context.Context) error {
	return x.each(ctx, topLevel(bucketJob), func(k, v []byte) (fact, error) {
		j, err := decodeJob(k, v)
		return fact{Job: &j}, err
	})
}

func (x *exporter) vaults(ctx context.Context) error {
	var names []string
	scan := file.Scan[string]{Bucket: bucket(bucketHeld), Decode: func(_ *bolt.Tx, k, _ []byte) (string, error) { return string(k), nil }}
	for name, err := range scan.All(ctx, x.file) {
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	for _, name := range names {
		for d, err := range x.AllHeld(ctx, name) {
			if err == nil {
				err = x.write(fact{Held: &stored{name, d}})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *exporter) protections(ctx context.Context) error {
	for p, err := range x.Protections(ctx, "") {
		if err != nil {
			return err
		}
		if err := x.write(fact{Protection: &p}); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) holds(ctx context.Context) error {
	for h, err := range x.TagHolds(ctx) {
		if err != nil {
			return err
		}
		if err := x.write(fact{Hold: &h}); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) pulls(ctx context.Context) error {
	since, err := x.PullsSince(ctx)
	if err != nil {
		return err
	}
	if err := x.write(fact{PullsSince: &since}); err != nil {
		return err
	}
	for _, name := range []string{pulledTag, pulledDigest} {
		err := x.each(ctx, inside(bucketPulled, name), func(k, v []byte) (fact, error) {
			p, err := decodePlace(k, v, name == pulledTag)
			return fact{Pulled: &p}, err
		})
		if err != nil {
			return fmt.Errorf("pulls: %w", err)
		}
	}
	return nil
}

// errNone ends the reading of a bucket that is not there, or not any more.
var errNone = errors.New("there is no such bucket")

func topLevel(name string) func(*bolt.Tx) *bolt.Bucket {
	return func(tx *bolt.Tx) *bolt.Bucket { return tx.Bucket([]byte(name)) }
}

func inside(outer, name string) func(*bolt.Tx) *bolt.Bucket {
	return func(tx *bolt.Tx) *bolt.Bucket { return tx.Bucket([]byte(outer)).Bucket([]byte(name)) }
}

// each writes what every key of a bucket says.
func (x *exporter) each(ctx context.Context, of func(*bolt.Tx) *bolt.Bucket, decode func(k, v []byte) (fact, error)) error {
	scan := file.Scan[fact]{
		Bucket: func(tx *bolt.Tx) (*bolt.Bucket, error) {
			if b := of(tx); b != nil {
				return b, nil
			}
			return nil, errNone
		},
		Decode: func(_ *bolt.Tx, k, v []byte) (fact, error) { return decode(k, v) },
	}
	for f, err := range scan.All(ctx, x.file) {
		if errors.Is(err, errNone) {
			return nil
		}
		if err == nil {
			err = x.write(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
