package layout

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// TestEveryFlippedBitOfARecordWithItsOwnSumIsSeen flips each bit of a head and a config.
// Only the spelling of the word format may change, in a way that reads the same.
func TestEveryFlippedBitOfARecordWithItsOwnSumIsSeen(t *testing.T) {
	for name, record := range map[string]any{
		"head":   Head{Format: Format, Vault: ulidOf, Epoch: 3, Snapshots: []Entry{}},
		"config": Config{Format: Format, ID: ulidOf},
	} {
		parse := func(data []byte) (err error) {
			if name == "head" {
				_, err = ParseHead(data)
			} else {
				_, err = ParseConfig(data)
			}
			return err
		}
		data, err := Encode(record)
		if err != nil || bytes.Contains(data, place("")) {
			t.Fatal(string(data), err)
		}
		if err := parse(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for at := range data {
			for bit := range 8 {
				now := slices.Clone(data)
				now[at] ^= 1 << bit
				if err := parse(now); err == nil && !namesSum(data, at) {
					t.Errorf("%s: %q became %q unseen", name, data[max(0, at-9):min(at+9, len(data))], now[max(0, at-9):min(at+9, len(now))])
				}
			}
		}
	}
}

// namesSum tells whether a byte is within the word by which the sum is found: without
// it there is none, and all else is as it was.
func namesSum(data []byte, at int) bool {
	word := bytes.Index(data, []byte(`"sum"`))
	return at > word && at < word+len(`"sum"`)-1
}

func TestARecordOfAnotherKindIsNoHeadAndNoConfig(t *testing.T) {
	plan := []byte(`{"format":1,"id":"` + ulidOf + `","vault":"` + ulidOf + `"}`)
	if _, err := ParseHead(plan); !errors.Is(err, ErrDamaged) {
		t.Errorf("head: got %v", err)
	}
	if _, err := ParseConfig(plan); !errors.Is(err, ErrDamaged) {
		t.Errorf("config: got %v", err)
	}
}
