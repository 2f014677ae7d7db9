package vault_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store"
	"lastro/store/vault"
)

const benchImages, benchLayer = 8, 16 << 20

func benchStore(b *testing.B, c *clock) *store.Store {
	st := openStore(b, b.TempDir(), c, nil)
	b.Cleanup(func() { _ = st.Close() })
	for i := range uint64(benchImages) {
		publish(b, st, "r", fmt.Sprint(i), plain(fmt.Sprint(i), newContent(ocispec.MediaTypeImageLayer, noise(i, benchLayer))))
	}
	b.SetBytes(benchImages * benchLayer)
	return st
}

// BenchmarkCopy is the floor: the same bytes from file to file, synced.
func BenchmarkCopy(b *testing.B) {
	c := &clock{}
	st := benchStore(b, c)
	dir := filepath.Join(b.TempDir(), "vault")
	backup(b, openVault(b, dir, c, nil), st)
	keys := files(b, dir, "blobs")
	for b.Loop() {
		to := b.TempDir()
		for i, key := range keys {
			if err := copyFile(filepath.Join(to, fmt.Sprint(i)), filepath.Join(dir, key)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	// Not a reflink or a copy in the kernel: the bytes pass through us.
	if _, err := io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in}); err != nil {
		return err
	}
	return out.Sync()
}

func BenchmarkBackup(b *testing.B) {
	c := &clock{}
	st := benchStore(b, c)
	for b.Loop() {
		backup(b, openVault(b, filepath.Join(b.TempDir(), "vault"), c, nil), st)
	}
}

func BenchmarkRestore(b *testing.B) {
	c := &clock{}
	st := benchStore(b, c)
	v := openVault(b, filepath.Join(b.TempDir(), "vault"), c, nil)
	backup(b, v, st)
	for b.Loop() {
		back := openStore(b, b.TempDir(), c, nil)
		restore(b, v, back, vault.RestoreOptions{})
		if err := back.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
