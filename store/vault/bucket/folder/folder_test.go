package folder

import (
	"path/filepath"
	"testing"

	"lastro/store/vault/bucket/buckettest"
)

func TestAFolderIsABucket(t *testing.T) {
	buckettest.Acceptance(t, Open(filepath.Join(t.TempDir(), "not", "there"), Options{}))
}
