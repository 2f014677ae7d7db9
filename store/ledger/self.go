package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

const (
	// bucketSelf is made when it is first asked for, because ledgers of the same
	// format were without it.
	bucketSelf = "self"
	selfID     = "id"
)

// ID names this ledger among all, for as long as it lasts: a copy of it, and what an
// import makes of its export, have the same.
func (l *Ledger) ID(ctx context.Context) (id string, err error) {
	if err = l.view(ctx, func(tx *bolt.Tx) error { id = ownID(tx); return nil }); err == nil && id == "" {
		err = l.update(ctx, func(tx *bolt.Tx) error { id, err = makeID(tx); return err })
	}
	if err != nil {
		return "", fmt.Errorf("name of the ledger: %w", err)
	}
	return id, nil
}

func ownID(tx *bolt.Tx) string {
	if b := tx.Bucket([]byte(bucketSelf)); b != nil {
		return string(b.Get([]byte(selfID)))
	}
	return ""
}

func makeID(tx *bolt.Tx) (string, error) {
	if id := ownID(tx); id != "" {
		return id, nil // another caller was faster
	}
	id := rand.Text()
	return id, putID(tx, id)
}

func putID(tx *bolt.Tx, id string) error {
	if id == "" {
		return errors.New("the name of the ledger is empty")
	}
	if err := checkLine("the name of the ledger", id); err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists([]byte(bucketSelf))
	if err != nil {
		return err
	}
	return file.Put(b, []byte(selfID), []byte(id))
}

func (x *exporter) self(ctx context.Context) error {
	var id string
	if err := x.view(ctx, func(tx *bolt.Tx) error { id = ownID(tx); return nil }); err != nil || id == "" {
		return err
	}
	return x.write(fact{Self: &id})
}
