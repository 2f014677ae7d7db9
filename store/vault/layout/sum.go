package layout

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Sum is the place in a record for the SHA-256 of its own bytes, with nothing between
// the quotes there. Encode fills it and the Parse functions check it: nobody has to
// carry it. A record with nothing there is taken as it is.
type Sum struct{}

// MarshalText leaves the place empty.
func (Sum) MarshalText() ([]byte, error) { return nil, nil }

// UnmarshalText takes anything: the Parse functions look at the bytes.
func (*Sum) UnmarshalText([]byte) error { return nil }

func place(sum digest.Digest) []byte { return []byte(`"sum": "` + string(sum) + `"`) }

// summed fills the place, if a record has one.
func summed(data []byte) []byte {
	return bytes.Replace(data, place(""), place(digest.FromBytes(data)), 1)
}

// checkSum refuses bytes that are not those that were written.
func checkSum(data []byte) error {
	var record struct {
		Sum digest.Digest `json:"sum"`
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if record.Sum == "" {
		return nil
	}
	if n := bytes.Count(data, place(record.Sum)); n != 1 || digest.FromBytes(bytes.Replace(data, place(record.Sum), place(""), 1)) != record.Sum {
		return fmt.Errorf("%w: not the bytes that were written", ErrDamaged)
	}
	return nil
}
