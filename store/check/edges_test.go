package check

import (
	hexadecimal "encoding/hex"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// alter changes a bucket of the ledger's graph while nobody has it open.
func (s *site) alter(t *testing.T, bucket string, change func(b *bolt.Bucket) error) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(s.dir, "ledger.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		graph := tx.Bucket([]byte("graph"))
		return change(graph.Bucket(graph.Get([]byte("in use"))).Bucket([]byte(bucket)))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s.open(t)
}

// raw is a digest as the ledger has it in its keys.
func raw(t *testing.T, d digest.Digest) []byte {
	t.Helper()
	b, err := hexadecimal.DecodeString(d.Encoded())
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{1}, b...)
}

func TestEdgesThatDifferAreFoundAndRecordedAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		bucket string
		change func(t *testing.T, s *site) func(b *bolt.Bucket) error
		stays  bool // until a rebuild
	}{
		{name: "a manifest that lost its references", bucket: "child", change: func(t *testing.T, s *site) func(*bolt.Bucket) error {
			return func(b *bolt.Bucket) error { return b.Put(raw(t, hex(s.tools, 0)), []byte("[]")) }
		}},
		{name: "a manifest that the ledger has forgotten", bucket: "node", change: func(t *testing.T, s *site) func(*bolt.Bucket) error {
			return func(b *bolt.Bucket) error { return b.Delete(raw(t, hex(s.tools, 0))) }
		}},
		{name: "a blob that lost its parent", bucket: "parent", change: func(t *testing.T, s *site) func(*bolt.Bucket) error {
			return func(b *bolt.Bucket) error {
				return b.Delete(slices.Concat(raw(t, layer(s.tools, 0, 1)), raw(t, hex(s.tools, 0))))
			}
		}},
		{name: "a subject that lost its referrer", bucket: "subject", change: func(t *testing.T, s *site) func(*bolt.Bucket) error {
			return func(b *bolt.Bucket) error {
				return b.Delete(slices.Concat(raw(t, s.tools.Root.Digest), raw(t, hex(s.tools, 3))))
			}
		}},
		{name: "a parent too much", bucket: "parent", stays: true, change: func(t *testing.T, s *site) func(*bolt.Bucket) error {
			return func(b *bolt.Bucket) error {
				return b.Put(slices.Concat(raw(t, layer(s.web, 0, 2)), raw(t, hex(s.tools, 0))), nil)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.alter(t, c.bucket, c.change(t, s))
			r := s.check(t, Options{})
			i := slices.IndexFunc(r.Problems, func(p Problem) bool { return p.Kind == Edges })
			if len(r.Problems) != 1 || i < 0 {
				t.Fatal(words(r))
			}
			if p := r.Problems[0]; p.Repo != "tools" || !slices.Equal(p.Images, []string{"tools:2"}) && p.Digest != hex(s.tools, 3) {
				t.Errorf("%+v", p)
			}
			if healed := s.check(t, Options{Repair: true}); (healed.Left() > 0) != c.stays {
				t.Error(words(healed))
			}
			if c.stays {
				if _, err := s.Rebuild(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			s.clean(t)
		})
	}
}
