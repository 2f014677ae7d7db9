package file

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// mapped is how much of files this process has in its memory, in KiB.
func mapped(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, after, found := bytes.Cut(status, []byte("RssFile:"))
	if !found {
		t.Skip("the kernel does not tell")
	}
	n, err := strconv.Atoi(string(bytes.Fields(after)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWhatWasReadIsNoMoreCountedAsTheProcessOwnMemory(t *testing.T) {
	f := mustOpen(t, t.TempDir()+"/file", testSettings())
	const size = 32 << 20
	text := bytes.Repeat([]byte("x"), size)
	must(t, f.Update(t.Context(), func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketTest)).Put([]byte("large"), text)
	}))
	read := func() {
		must(t, f.View(t.Context(), func(tx *bolt.Tx) error {
			if !bytes.Equal(tx.Bucket([]byte(bucketTest)).Get([]byte("large")), text) {
				t.Error("it reads otherwise")
			}
			return nil
		}))
	}
	read()
	before := mapped(t)
	must(t, f.Relax(t.Context()))
	if after := mapped(t); before-after < size>>11 {
		t.Errorf("%d KiB of files are mapped, %d before", after, before)
	}
	read()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
