package storetest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

// Ask sends one request to a registry; headers are pairs.
func Ask(h http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// ErrorCode is the code of an error body of the distribution-spec.
func ErrorCode(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || len(body.Errors) != 1 {
		t.Errorf("body %q: %v", w.Body, err)
		return ""
	}
	return body.Errors[0].Code
}
