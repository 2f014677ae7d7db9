package layout

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"lastro/store/ledger"
)

// StateMax is the largest State or Config document that is read.
const StateMax = 64 << 20

// Fact is something that people said of images, and that only the ledger knows: one
// of the two.
type Fact struct {
	Protection *ledger.Protection `json:"protection,omitempty"`
	Hold       *ledger.TagHold    `json:"hold,omitempty"`
}

// EncodeState writes facts, a line each.
func EncodeState(facts []Fact) ([]byte, error) {
	var buffer bytes.Buffer
	out := json.NewEncoder(&buffer)
	for _, f := range facts {
		if err := out.Encode(f); err != nil {
			return nil, err
		}
	}
	return buffer.Bytes(), nil
}

// ParseState reads facts, which may be anything: ErrDamaged. Whether the ledger takes
// them is for it to say.
func ParseState(data []byte) (facts []Fact, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, EventMax)
	for lines.Scan() {
		var f Fact
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("state: %w: %w", ErrDamaged, err)
		}
		if f.Protection != nil && f.Hold != nil {
			return nil, fmt.Errorf("state: %w: a line that says two things", ErrDamaged)
		}
		facts = append(facts, f)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("state: %w: %w", ErrDamaged, errors.Unwrap(err))
	}
	return facts, nil
}
