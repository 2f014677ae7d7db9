package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
)

func packed(t testing.TB, raw []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(raw, nil)
}

func line(e ledger.Event) []byte {
	raw, _ := json.Marshal(e)
	return append(raw, '\n')
}

func TestParseSegment(t *testing.T) {
	good := ledger.Event{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Repo: "r", Tag: "1", Digest: digest.FromString("x"), Event: ledger.Seen}
	with := func(change func(*ledger.Event)) []byte {
		e := good
		change(&e)
		return line(e)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		want int // events; -1: damaged
	}{
		{name: "an event is read", raw: line(good), want: 1},
		{name: "a full segment is read", raw: bytes.Repeat(line(good), SegmentEvents), want: SegmentEvents},
		{name: "one event more is too many", raw: bytes.Repeat(line(good), SegmentEvents+1), want: -1},
		{name: "empty objects are no events", raw: bytes.Repeat([]byte("{}\n"), 10), want: -1},
		{name: "a line beyond all is refused", raw: append(bytes.Repeat([]byte("["), eventMax+1), '\n'), want: -1},
		{name: "a repository outside is refused", raw: with(func(e *ledger.Event) { e.Repo = "../r" }), want: -1},
		{name: "a tag outside is refused", raw: with(func(e *ledger.Event) { e.Tag = "../1" }), want: -1},
		{name: "a digest of another kind is refused", raw: with(func(e *ledger.Event) { e.Digest = "md5:x" }), want: -1},
		{name: "an event without a time is refused", raw: with(func(e *ledger.Event) { e.Time = time.Time{} }), want: -1},
		{name: "an event without a name is refused", raw: with(func(e *ledger.Event) { e.Event = "" }), want: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := countEvents(packed(t, c.raw))
			if c.want < 0 && !errors.Is(err, ErrDamaged) || c.want >= 0 && (err != nil || n != c.want) {
				t.Errorf("got %d events, %v", n, err)
			}
		})
	}
}

func countEvents(data []byte) (n int, err error) {
	for _, err := range ParseSegment(data) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func TestASegmentThatUnpacksBeyondAllIsBounded(t *testing.T) {
	bomb := packed(t, make([]byte, 4*SegmentMax))
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	if _, err := countEvents(bomb); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

const ulidOf = "01KE0000000000000000000000"

func TestParseHead(t *testing.T) {
	entry := func(record string) string {
		d := digest.FromString("x")
		return fmt.Sprintf(`{"format":1,"vault":%q,"snapshots":[{"id":%q,"record":%q,"record_digest":%q,"root":%q}]}`, ulidOf, ulidOf, record, d, d)
	}
	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{name: "a head is read", raw: entry("vault/snapshots/a.json")},
		{name: "a record elsewhere is refused", raw: entry("blobs/sha256/a"), want: ErrDamaged},
		{name: "a record outside is refused", raw: entry("vault/snapshots/../../../a"), want: ErrDamaged},
		{name: "a record without a name is refused", raw: entry("vault/snapshots/"), want: ErrDamaged},
		{name: "a newer format is refused", raw: `{"format":2}`, want: ErrNewer},
		{name: "no format is refused", raw: `{}`, want: ErrDamaged},
		{name: "a page in HTML is refused", raw: `<html>`, want: ErrDamaged},
		{name: "brackets without end are refused", raw: strings.Repeat("[", 1<<20), want: ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseHead([]byte(c.raw)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// FuzzParse gives any bytes to all that read a vault: each reads or refuses them.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"` + ulidOf + `"}`))
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
	f.Add(packed(f, []byte("{}\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, config := ParseConfig(data)
		_, head := ParseHead(data)
		_, snapshot := ParseSnapshot(data)
		_, index := ParseIndex(data)
		_, segment := countEvents(data)
		for _, err := range []error{config, head, snapshot, index, segment} {
			if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Errorf("got %v, want one of ours", err)
			}
		}
	})
}
