package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lastro/store/ledger"
	"lastro/store/storetest"
)

func TestAnImportedLedgerHasTheHistoryOfTheExportAndTheGraphOfTheRegistry(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	img := storetest.New("img")
	img.MustPut(t, s, "a/img", "v1")
	history, err := s.Ledger().History(t.Context(), "a/img", "v1")
	if err != nil || len(history) == 0 {
		t.Fatalf("%v, %v", history, err)
	}
	var text bytes.Buffer
	if _, err := s.Ledger().Export(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	exported := text.String()
	take := func() (LedgerImported, error) {
		return ImportLedger(t.Context(), dir, strings.NewReader(exported), Options{Now: time.Now})
	}
	if _, err := take(); !isLocked(err) {
		t.Errorf("into a folder in use: got %v, want a LockedError", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := take(); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "move that one away") {
		t.Errorf("into a folder with a ledger: got %v, want fs.ErrExist", err)
	}
	if err := os.Remove(filepath.Join(dir, "ledger.db")); err != nil {
		t.Fatal(err)
	}
	n, err := take()
	if err != nil || n.Events != len(history) || n.Rebuilt.Tags != 1 || n.Rebuilt.Manifests == 0 {
		t.Errorf("got %+v, %v", n, err)
	}
	again := open(t, dir, Options{})
	got, err := again.Ledger().History(t.Context(), "a/img", "v1")
	if diff := cmp.Diff(history, got); err != nil || diff != "" {
		t.Errorf("history: %v %s", err, diff)
	}
	if linked, err := again.Ledger().Linked(t.Context(), "a/img", img.Root.Digest); err != nil || !linked {
		t.Errorf("the manifest is linked: %v, %v", linked, err)
	}
}

func isLocked(err error) bool {
	_, ok := errors.AsType[*LockedError](err)
	return ok
}

func TestAnImportThatCannotReadTheRegistryMakesNoLedger(t *testing.T) {
	dir := storetest.Folder(t)
	l, err := ledger.Open(filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var text bytes.Buffer
	if _, err := l.Export(t.Context(), &text); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "registry"), []byte("no folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportLedger(t.Context(), dir, &text, Options{Now: time.Now}); err == nil {
		t.Error("an import without a registry that can be read is no error")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "ledger*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}
