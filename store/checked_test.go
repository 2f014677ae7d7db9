package store

import (
	"testing"

	"lastro/store/storetest"
)

func TestTheCheckForReferrersIsRecordedAfterTheLastBarrier(t *testing.T) {
	for _, c := range []struct {
		name, tag string
		again     bool // the tag is there already
	}{
		{name: "with a new tag", tag: "v1"},
		{name: "with a tag that stays", tag: "v1", again: true},
		{name: "without a tag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, barriers, early := wide(), 0, false
			var s *Store
			s = open(t, storetest.Folder(t), Options{Step: func(op, _ string) {
				if op != "syncfs" {
					return
				}
				barriers++
				checked, err := s.ReferrersChecked(t.Context(), "r", m.Root.Digest)
				early = early || err != nil || !checked.IsZero()
			}})
			if c.again {
				m.MustPut(t, s, "r", c.tag)
			}
			if err := m.Ingest(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			p := m.Publication("r", c.tag)
			p.Checked = true
			if _, err := s.Publish(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if early || barriers == 0 {
				t.Errorf("%d barriers, checked before the last: %v", barriers, early)
			}
			if checked, err := s.ReferrersChecked(t.Context(), "r", m.Root.Digest); err != nil || !checked.Equal(storetest.Now()) {
				t.Errorf("checked at %v, %v", checked, err)
			}
		})
	}
}
