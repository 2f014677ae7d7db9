package upstream

import (
	"net/http"
	"strings"
	"testing"
)

func FuzzDetail(f *testing.F) {
	f.Add("application/json", []byte(`{"errors":[{"code":"DENIED","message":"no\u001b[31m"}]}`))
	f.Fuzz(func(t *testing.T, kind string, raw []byte) {
		text := plain(detail(http.Header{"Content-Type": {kind}}, raw))
		if strings.ContainsAny(text, "\n\r\x1b\x00") || len([]rune(text)) > maxDetail+1 {
			t.Errorf("%q", text)
		}
	})
}
