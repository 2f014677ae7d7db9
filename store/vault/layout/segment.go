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

	disk "lastro/store/layout"
	"lastro/store/ledger"
)

const (
	SegmentEvents = 20_000   // in a full segment
	SegmentMax    = 64 << 20 // bytes of a segment, packed or not
	EventMax      = 1 << 20  // bytes of one line, its end included
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

// ParseSegment reads a segment, which may be anything: neither its unpacked size,
// nor a line of it, nor their number may be too large, and each is an event that
// a ledger takes.
func ParseSegment(data []byte) iter.Seq2[ledger.Event, error] {
	return func(yield func(ledger.Event, error) bool) {
		dec, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(SegmentMax), zstd.WithDecoderMaxWindow(SegmentMax))
		if err != nil {
			yield(ledger.Event{}, fmt.Errorf("segment: %w: %w", ErrDamaged, err))
			return
		}
		defer dec.Close()
		lines := bufio.NewScanner(io.LimitReader(dec, SegmentMax))
		lines.Buffer(nil, EventMax)
		for n := 1; lines.Scan(); n++ {
			e, err := parseEvent(lines.Bytes())
			if err == nil && n > SegmentEvents {
				err = fmt.Errorf("more than %d events", SegmentEvents)
			}
			if err != nil {
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

func parseEvent(line []byte) (e ledger.Event, err error) {
	if err := json.Unmarshal(line, &e); err != nil {
		return e, err
	}
	return e, CheckEvent(e)
}

// CheckEvent refuses an event that could not be brought back.
func CheckEvent(e ledger.Event) error {
	err := disk.CheckRepository(e.Repo)
	if err == nil && e.Tag != "" {
		err = disk.CheckTag(e.Tag)
	}
	for _, d := range []digest.Digest{e.Digest, e.Previous} {
		if err == nil && d != "" {
			err = CheckDigest(d)
		}
	}
	// The years are those whose nanoseconds a ledger counts.
	if y := e.Time.Year(); err == nil && (e.Event == "" || y < 1700 || y > 2200) {
		err = fmt.Errorf("event %.40q at %s", e.Event, e.Time)
	}
	return err
}
