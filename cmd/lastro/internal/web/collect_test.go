package web

import "testing"

func TestACollectTellsWhatItDidAndWhatItLeft(t *testing.T) {
	s := New(Options{Now: fixed})
	s.Collected(Collect{Waiting: 5, KeptByDoubt: 2, Deleted: 3, FreedBytes: 100, TakenBack: 1})
	s.Collected(Collect{Waiting: 4, Deleted: 1, FreedBytes: 10, TakenBack: 3})
	for name, want := range map[string]float64{
		"lastro_collect_condemned":         4,
		"lastro_collect_kept_by_doubt":     0,
		"lastro_collect_deleted_total":     4,
		"lastro_collect_freed_bytes_total": 110,
		"lastro_collect_taken_back_total":  3,
	} {
		if got := value(t, s, name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}
