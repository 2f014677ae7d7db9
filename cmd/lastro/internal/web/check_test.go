package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestACheckTellsWhatItLeftAndWhatIsLongestUnread(t *testing.T) {
	now := fixed()
	s := New(Options{Now: func() time.Time { return now }})
	for _, name := range []string{"lastro_check_last_end_timestamp_seconds", "lastro_check_last_success_timestamp_seconds", "lastro_check_oldest_unread_seconds"} {
		if got := value(t, s, name); got != -1 {
			t.Errorf("%s before the first check: %v", name, got)
		}
	}
	s.Checked(Check{Ended: now, Succeeded: now, Oldest: now, Problems: map[string]int{"corrupt": 3, "missing": 0}}, 100, 2)
	now = now.Add(time.Hour)
	s.Checked(Check{Ended: now, Succeeded: fixed(), Oldest: fixed(), Problems: map[string]int{"corrupt": 1, "missing": 0}}, 10, 1)
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"lastro_check_problems", []string{"kind=corrupt"}, 1},
		{"lastro_check_problems", []string{"kind=missing"}, 0},
		{"lastro_check_read_bytes_total", nil, 110},
		{"lastro_check_repaired_total", nil, 3},
		{"lastro_check_oldest_unread_seconds", nil, 3600},
		{"lastro_check_last_end_timestamp_seconds", nil, seconds(now)},
		{"lastro_check_last_success_timestamp_seconds", nil, seconds(fixed())},
	} {
		if got := value(t, s, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v: got %v, want %v", c.name, c.labels, got, c.want)
		}
	}
}

func TestTheServerIsBusyWhileClientsAreAnswered(t *testing.T) {
	s := New(Options{Now: fixed})
	during := false
	handler := s.Instrument(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { during = s.Busy() }))
	if s.Busy() {
		t.Error("busy without clients")
	}
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil))
	if !during || s.Busy() {
		t.Errorf("busy during a request %v, after it %v", during, s.Busy())
	}
}
