package ledger

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"lastro/mirror"
)

// checkIndexes compares both indexes with what they are made of.
func checkIndexes(t *testing.T, l *Ledger) {
	t.Helper()
	want, got := map[string]bool{}, map[string]bool{}
	must(t, l.view(t.Context(), func(tx *bolt.Tx) error {
		gs, err := writtenGraphs(tx)
		must(t, err)
		for i, g := range gs {
			must(t, g.link.ForEach(func(k, _ []byte) error {
				repo, self, err := cutName(k)
				want[fmt.Sprintf("%d %x %s", i, self, repo)] = true
				return err
			}))
			must(t, g.holder.ForEach(func(k, _ []byte) error {
				d, repo, err := cutDigest(k)
				self, _ := digestKey(d)
				got[fmt.Sprintf("%d %x %s", i, self, repo)] = true
				return err
			}))
		}
		must(t, tx.Bucket([]byte(bucketTag)).ForEach(func(k, v []byte) error {
			s, err := decodeTag(k, v)
			want[s.Repo+"@"+s.Digest.String()+" "+s.Tag] = true
			return err
		}))
		return tx.Bucket([]byte(bucketNamed)).ForEach(func(k, _ []byte) error {
			repo, rest, err := cutName(k)
			must(t, err)
			d, tag, err := cutDigest(rest)
			got[repo+"@"+d.String()+" "+string(tag)] = true
			return err
		})
	}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the indexes are not what they index (-want +got):\n%s", diff)
	}
}

func TestALedgerWithoutIndexesGetsThem(t *testing.T) {
	path := ledgerPath(t)
	l := mustOpen(t, path, Options{})
	for _, repo := range []string{"a", "a/b"} {
		must(t, l.RecordGraph(t.Context(), repo, []mirror.Manifest{image("m", layer("x")), image("n")}, nil))
		must(t, l.RecordEvent(t.Context(), Event{Repo: repo, Tag: "1", Digest: dig("m"), Event: Seen}))
		must(t, l.RecordEvent(t.Context(), Event{Repo: repo, Tag: "2", Digest: dig("m"), Event: Seen}))
	}
	must(t, l.Close())
	db, err := bolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{bucketNamed, bucketReview, bucketDue} {
			must(t, tx.DeleteBucket([]byte(name)))
		}
		all := tx.Bucket([]byte(bucketGraph))
		must(t, all.Bucket(all.Get([]byte(graphInUse))).DeleteBucket([]byte(graphHolder)))
		return tx.Bucket([]byte("meta")).Put([]byte("format"), numberKey(1))
	}))
	must(t, db.Close())
	l = mustOpen(t, path, Options{})
	checkIndexes(t, l)
	whys, err := l.Needs(t.Context(), []Held{{"a", dig("x")}, {"a/b", dig("m")}, {"a", dig("n")}, {"", dig("x")}, {"", dig("y")}}, at(1), nil)
	want := []string{"it is part of " + dig("m").String(), "the tag 1 is at it", "", "a serves it", ""}
	if diff := cmp.Diff(want, whys); diff != "" || err != nil {
		t.Errorf("%v: %s", err, diff)
	}
}
