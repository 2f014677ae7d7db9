package layout

import (
	"flag"
	"path/filepath"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"
)

var long = flag.Bool("long", false, "run the long variants too")

func TestDriverPassesDistributionsSuite(t *testing.T) {
	t.Parallel()
	if !*long { // leaves out the suite's streams of gigabytes
		if err := flag.Set("test.short", "true"); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	testsuites.Driver(t, func() (storagedriver.StorageDriver, error) {
		tree, err := Open(filepath.Join(dir, "registry"), filepath.Join(dir, "partial"), Options{})
		if err != nil {
			return nil, err
		}
		return tree.Driver(), nil
	}, false)
}
