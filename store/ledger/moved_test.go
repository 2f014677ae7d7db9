package ledger_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"pgregory.net/rapid"

	"lastro/store/ledger"
)

// moveHouse makes another ledger of an export: it says the same but for the
// graph, and exports the same.
func (m *machine) moveHouse(t *rapid.T) {
	exported := m.export(t, m.l)
	m.flush()
	m.opened++
	path := filepath.Join(m.dir, fmt.Sprint("moved", m.opened))
	defer os.Remove(path)
	atFirst := ledger.Options{Now: func() time.Time { return m.since }} // later would raise since when pulls are noted
	n, err := ledger.Import(t.Context(), path, bytes.NewReader(exported), atFirst, func(l *ledger.Ledger) error {
		without := *m.oracle
		without.graph, without.noted = newContent(), map[pullKey]time.Time{}
		moved := *m
		moved.oracle, moved.l = &without, l
		same(t, "moved", "", moved.differs(t))
		return nil
	})
	must(t, err)
	same(t, "events imported", len(m.events), n.Events)
	l, err := ledger.Open(path, ledger.Options{Now: func() time.Time { return m.now }})
	must(t, err)
	defer l.Close()
	same(t, "export of what was imported", string(exported), string(m.export(t, l)))
}

func (m *machine) export(t *rapid.T, l *ledger.Ledger) []byte {
	var out bytes.Buffer
	facts, err := l.Export(t.Context(), &out)
	must(t, err)
	same(t, "lines", facts+2, bytes.Count(out.Bytes(), []byte("\n")))
	return out.Bytes()
}
