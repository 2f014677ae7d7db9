package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// Job is the last run of a job: a sync of a rule, a backup, …
type Job struct {
	Name    string          `json:"name"`
	Started time.Time       `json:"started"`
	Ended   time.Time       `json:"ended"`   // before Started while it runs, or when it was cut short
	LastOK  time.Time       `json:"last_ok"` // when a run last ended well; zero: never
	Err     string          `json:"err,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

// Job is the record of the job name. One that never ran is fs.ErrNotExist.
func (l *Ledger) Job(ctx context.Context, name string) (j Job, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		v := tx.Bucket([]byte(bucketJob)).Get([]byte(name))
		if v == nil {
			return fs.ErrNotExist
		}
		j, err = decodeJob([]byte(name), v)
		return err
	})
	if err != nil {
		return Job{}, fmt.Errorf("job %q in the ledger: %w", name, err)
	}
	return j, nil
}

// Jobs are the records of all jobs, ordered by name.
func (l *Ledger) Jobs(ctx context.Context) ([]Job, error) {
	var jobs []Job
	scan := file.Scan[Job]{Bucket: bucket(bucketJob), Decode: func(_ *bolt.Tx, k, v []byte) (Job, error) { return decodeJob(k, v) }}
	for j, err := range scan.All(ctx, l.file) {
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// RecordJob replaces the record of the job j.Name.
func (l *Ledger) RecordJob(ctx context.Context, j Job) error {
	err := checkName("job", j.Name)
	if j.Name == "" {
		err = errors.New("job has no name")
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(j)
	}
	if err == nil {
		err = l.update(ctx, func(tx *bolt.Tx) error {
			return file.Put(tx.Bucket([]byte(bucketJob)), []byte(j.Name), text)
		})
	}
	if err != nil {
		return fmt.Errorf("record job %q: %w", j.Name, err)
	}
	return nil
}

func decodeJob(k, v []byte) (j Job, err error) {
	if err := json.Unmarshal(v, &j); err != nil {
		return Job{}, fmt.Errorf("read job %q: %w", k, err)
	}
	j.Name = string(k)
	return j, nil
}
