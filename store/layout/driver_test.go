package layout

import (
	"errors"
	"flag"
	"path/filepath"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"

	"lastro/store/storetest"
)

var long = flag.Bool("long", false, "run the long variants too")

func TestDriverPassesDistributionsSuite(t *testing.T) {
	t.Parallel()
	if !*long { // leaves out the suite's streams of gigabytes, and a test that sleeps for a quarter of a minute
		if err := errors.Join(flag.Set("test.short", "true"), flag.Set("testify.m", "^Test([^S]|S[^t]|St[^a]|Stat[^C])")); err != nil {
			t.Fatal(err)
		}
	}
	dir := storetest.Folder(t)
	testsuites.Driver(t, func() (storagedriver.StorageDriver, error) {
		tree, err := Open(filepath.Join(dir, "registry"), filepath.Join(dir, "partial"), Options{})
		if err != nil {
			return nil, err
		}
		return tree.Driver(), nil
	}, false)
}

func TestStatSaysWhatAFileIsAndWhenItChanged(t *testing.T) {
	d := open(t, storetest.Folder(t), Options{}).Driver()
	began := time.Now().Add(-time.Second)
	if err := d.PutContent(t.Context(), "/a/b", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	info, err := d.Stat(t.Context(), "/a/b")
	if err != nil || info.Path() != "/a/b" || info.Size() != 5 || info.IsDir() || info.ModTime().Before(began) || time.Since(info.ModTime()) < -time.Second {
		t.Errorf("file: %+v, %v", info, err)
	}
	info, err = d.Stat(t.Context(), "/a")
	if err != nil || info.Path() != "/a" || info.Size() != 0 || !info.IsDir() {
		t.Errorf("folder: %+v, %v", info, err)
	}
	for _, absent := range []string{"/a/c", "/a/b/c"} {
		_, err = d.Stat(t.Context(), absent)
		if _, gone := errors.AsType[storagedriver.PathNotFoundError](err); !gone {
			t.Errorf("%s: %v", absent, err)
		}
	}
}
