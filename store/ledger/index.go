package ledger

import (
	"bytes"
	"errors"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// upgrade brings a ledger of an older format up to date. Format 2 has, besides
// what it records of reviews, two indexes: who holds a manifest, and which tags are
// at it.
func upgrade(tx *bolt.Tx, _ uint64) error {
	if err := dropUnfinished(tx); err != nil {
		return err
	}
	for _, name := range []string{bucketNamed, bucketReview, bucketDue} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	return errors.Join(indexHolders(tx), indexTags(tx))
}

func indexHolders(tx *bolt.Tx) error {
	all := tx.Bucket([]byte(bucketGraph))
	b := all.Bucket(all.Get([]byte(graphInUse)))
	if _, err := b.CreateBucketIfNotExists([]byte(graphHolder)); err != nil {
		return err
	}
	g, err := readGraph(tx)
	if err != nil {
		return err
	}
	return g.link.ForEach(func(k, _ []byte) error {
		repo, self, err := cutName(k)
		if err != nil {
			return err
		}
		return g.holder.Put(holderKey(self, repo), []byte{})
	})
}

func indexTags(tx *bolt.Tx) error {
	named := tx.Bucket([]byte(bucketNamed))
	return tx.Bucket([]byte(bucketTag)).ForEach(func(k, v []byte) error {
		s, err := decodeTag(k, v)
		if err != nil {
			return err
		}
		key, err := namedKey(s.Repo, s.Digest, s.Tag)
		if err != nil {
			return err
		}
		return named.Put(key, []byte{})
	})
}

func holderKey(self []byte, repo string) []byte { return append(bytes.Clone(self), repo...) }

func namedKey(repo string, d digest.Digest, tag string) ([]byte, error) {
	k, err := repoDigestKey(repo, d)
	return append(k, tag...), err
}

// hold records that repo holds the manifest with this key.
func (g graph) hold(repo string, self []byte) error {
	if err := file.Put(g.link, append(namePrefix(repo), self...), nil); err != nil {
		return err
	}
	return file.Put(g.holder, holderKey(self, repo), nil)
}

// release takes back what hold recorded under the key of a digest in a repository.
func (g graph) release(k []byte) error {
	repo, self, err := cutName(k)
	if err != nil {
		return err
	}
	return errors.Join(g.link.Delete(k), g.holder.Delete(holderKey(self, repo)))
}

// rename keeps the index of tags: the tag is at d from now on, or nowhere. It is to
// be called before the tag's state is written.
func rename(tx *bolt.Tx, tag []byte, d digest.Digest) error {
	named := tx.Bucket([]byte(bucketNamed))
	if v := tx.Bucket([]byte(bucketTag)).Get(tag); v != nil {
		old, err := decodeTag(tag, v)
		if err != nil {
			return err
		}
		k, err := namedKey(old.Repo, old.Digest, old.Tag)
		if err == nil && old.Digest != d {
			err = named.Delete(k)
		}
		if err != nil {
			return err
		}
	}
	if d == "" {
		return nil
	}
	repo, name, err := cutName(tag)
	if err != nil {
		return err
	}
	k, err := namedKey(repo, d, string(name))
	if err != nil {
		return err
	}
	return file.Put(named, k, nil)
}

// holders calls fn with the repositories that hold a manifest, until it says that
// it has seen enough.
func (g graph) holders(self []byte, fn func(repo string) (enough bool)) {
	c := g.holder.Cursor()
	for k, _ := c.Seek(self); k != nil && bytes.HasPrefix(k, self); k, _ = c.Next() {
		if fn(string(k[len(self):])) {
			return
		}
	}
}
