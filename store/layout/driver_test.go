package layout

import (
	"path/filepath"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"
)

func TestDriverPassesDistributionsSuite(t *testing.T) {
	dir := t.TempDir()
	testsuites.Driver(t, func() (storagedriver.StorageDriver, error) {
		tree, err := Open(filepath.Join(dir, "registry"), filepath.Join(dir, "partial"), Options{})
		if err != nil {
			return nil, err
		}
		return tree.Driver(), nil
	}, false)
}
