package store

import "testing"

func TestStockCountsSharedContentOnce(t *testing.T) {
	s := open(t, memory(t), Options{})
	m := newImage("a", false)
	mustPut(t, s, m, "lib/a", "v1")
	mustPut(t, s, m, "lib/a", "v2")
	mustPut(t, s, m, "lib/b", "v1")
	want := Stock{Repositories: 2, Tags: 3, Manifests: 2 * len(m.manifests), Blobs: len(m.content)}
	for _, data := range m.content {
		want.Bytes += int64(len(data))
	}
	got, err := s.Stock(t.Context())
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}
