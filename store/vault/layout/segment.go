package layout

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
)

const (
	SegmentEvents = 20_000   // in a full segment
	SegmentMax    = 64 << 20 // bytes of a segment, packed or not
	eventMax      = 1 << 20  // bytes of one line
)

// Packer makes segments out of lines, one full segment at a time.
type Packer struct {
	Put    func(data []byte) (digest.Digest, error)
	Made   []Segment
	lines  bytes.Buffer
	events int
}

// Add adds the line of an event.
func (p *Packer) Add(line []byte) error {
	p.lines.Write(append(line, '\n'))
	if p.events++; p.events == SegmentEvents || p.lines.Len() > SegmentMax/2 {
		return p.Flush()
	}
	return nil
}

// Flush ends a segment. The same events give the same bytes.
func (p *Packer) Flush() error {
	if p.events == 0 {
		return nil
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	data := enc.EncodeAll(p.lines.Bytes(), nil)
	d, err := p.Put(data)
	if err != nil {
		return err
	}
	p.Made = append(p.Made, Segment{Digest: d, Size: int64(len(data)), Events: p.events})
	p.events = 0
	p.lines.Reset()
	return nil
}

// ParseSegment reads a segment, which may be anything: neither its unpacked size
// nor a line of it may be too large.
func ParseSegment(data []byte) iter.Seq2[ledger.Event, error] {
	return func(yield func(ledger.Event, error) bool) {
		dec, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(SegmentMax), zstd.WithDecoderMaxWindow(SegmentMax))
		if err != nil {
			yield(ledger.Event{}, fmt.Errorf("segment: %w: %w", ErrDamaged, err))
			return
		}
		defer dec.Close()
		lines := bufio.NewScanner(io.LimitReader(dec, SegmentMax))
		lines.Buffer(nil, eventMax)
		for lines.Scan() {
			var e ledger.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				yield(ledger.Event{}, fmt.Errorf("segment: %w: %w", ErrDamaged, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(ledger.Event{}, fmt.Errorf("segment: %w: %w", ErrDamaged, err))
		}
	}
}
