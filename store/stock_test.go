package store

import (
	"testing"

	"lastro/store/storetest"
)

func TestStockCountsSharedContentOnce(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := storetest.New("a")
	m.MustPut(t, s, "lib/a", "v1")
	m.MustPut(t, s, "lib/a", "v2")
	m.MustPut(t, s, "lib/b", "v1")
	want := Stock{Repositories: 2, Tags: 3, Manifests: 2 * len(m.Manifests), Blobs: len(m.Content)}
	for _, data := range m.Content {
		want.Bytes += int64(len(data))
	}
	got, err := s.Stock(t.Context())
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}
