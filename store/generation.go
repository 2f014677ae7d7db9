package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lastro/store/ledger"
)

// generation is the file beside the ledger that says the same as the ledger, and
// something new from each opening on: a ledger that was put back from a copy says
// otherwise, however cleanly it was closed.
const generation = "generation"

// The names under which the ledger records these.
const (
	jobUnclean    = "unclean"
	jobGeneration = "generation"
)

// LastUnclean is when the store was last opened after an end that was not clean, or
// with a ledger that is not the one that was here, by this process or an earlier
// one; zero is never. What clients were told until then is not known.
func (s *Store) LastUnclean(ctx context.Context) (time.Time, error) {
	job, err := s.ledger.Job(ctx, jobUnclean)
	return job.Started, ignoreGone(err)
}

// noteOpened records what LastUnclean tells, before anything else is.
func (s *Store) noteOpened(ctx context.Context, dir string) error {
	name := filepath.Join(dir, generation)
	same, err := s.sameLedger(ctx, name)
	if err != nil {
		return err
	}
	if s.ledger.Unclean() || !same {
		if err := s.ledger.RecordJob(ctx, ledger.Job{Name: jobUnclean, Started: s.now()}); err != nil {
			return err
		}
	}
	random := make([]byte, 16)
	_, _ = rand.Read(random) // it does not fail
	text := hex.EncodeToString(random)
	result, err := json.Marshal(text)
	if err != nil {
		return err
	}
	if err := s.ledger.RecordJob(ctx, ledger.Job{Name: jobGeneration, Started: s.now(), Result: result}); err != nil {
		return err
	}
	// A crash before this makes the next opening an unclean one, which it is.
	return writeAside(name, []byte(text))
}

// sameLedger compares the ledger with the file. A folder with neither is new.
func (s *Store) sameLedger(ctx context.Context, name string) (bool, error) {
	file, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	job, err := s.ledger.Job(ctx, jobGeneration)
	if errors.Is(err, fs.ErrNotExist) {
		return len(file) == 0, nil
	}
	var known string
	if err == nil {
		err = json.Unmarshal(job.Result, &known)
	}
	return known == string(file), err
}

// writeAside replaces a small file of mode 0600, durably.
func writeAside(name string, content []byte) error {
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(name))
}
