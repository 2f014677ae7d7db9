package layout

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
)

func TestAStateReadsBackAsItWasWritten(t *testing.T) {
	facts := []Fact{
		{Protection: &ledger.Protection{Name: "a", Repo: "r", Digest: digest.FromString("x"), Owner: "o", Reason: "line\nfeed", Created: time.Unix(5, 0).UTC()}},
		{Hold: &ledger.TagHold{Repo: "r", Tag: "1", Digest: digest.FromString("x"), By: "b", Since: time.Unix(6, 0).UTC()}},
	}
	data, err := EncodeState(facts)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseState(data)
	if d := cmp.Diff(facts, got); d != "" || err != nil {
		t.Error(d, err)
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"protection":{"name":"a"}}` + "\n" + `{"hold":{"tag":"1"}}`))
	f.Add([]byte(`{"protection":{},"hold":{}}`))
	f.Add([]byte("\n"))
	f.Add([]byte(strings.Repeat("x", 2*EventMax)))
	f.Fuzz(func(t *testing.T, data []byte) {
		facts, err := ParseState(data)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := EncodeState(facts)
		if err != nil {
			return // a time beyond the year 9999, which no ledger takes either
		}
		if _, err := ParseState(again); err != nil {
			t.Error(err)
		}
	})
}
