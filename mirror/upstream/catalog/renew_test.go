package catalog

import (
	"context"
	"net/http"
	"strings"
	"testing"
)

func TestAListThatRefusesCredentialsIsReadOnWithOthersOnce(t *testing.T) {
	const next = `</more?of=a,b>; rel=next`
	for _, c := range []struct {
		name     string
		login    string // afterwards
		others   bool   // whether there are others
		first    http.HandlerFunc
		want     string
		err      string
		renewals int
	}{
		{"at its first page", "new", true, refuse(401, ""), "org/b org/c", "", 1},
		{"when they may not read it", "new", true, refuse(403, ""), "org/b org/c", "", 1},
		{"at a later page", "new", true, refuse(200, `[{"name":"a"}]`, "Link", next), "org/a org/c", "", 1},
		{"but not when there are none", "old", false, refuse(401, ""), "", "401 Unauthorized", 1},
		{"nor a second time", "wrong", true, refuse(401, ""), "", "401 Unauthorized", 1},
		{"nor when it is limited", "new", true, refuse(403, "", "X-RateLimit-Remaining", "0"), "", "limits requests", 0},
		{"nor when it has a fault", "new", true, refuse(500, ""), "", "500", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			login, renewals := "old", 0
			list := at(t, "ghcr.io", func(w http.ResponseWriter, r *http.Request) {
				switch who := r.Header.Get("Authorization"); {
				case who == "Bearer new" && r.URL.Path == "/more":
					refuse(200, `[{"name":"c"}]`)(w, r)
				case who == "Bearer new":
					refuse(200, `[{"name":"b"}]`, "Link", next)(w, r)
				case who == "Bearer old" && r.URL.Path != "/more":
					c.first(w, r)
				default:
					refuse(401, "")(w, r)
				}
			})
			list.Login = func(context.Context) (string, string, error) { return "me", login, nil }
			list.Renew = func(context.Context) bool {
				renewals++
				login = c.login
				return c.others
			}
			got, err := collect(list.Repositories(t.Context(), "org"))
			if strings.Join(got, " ") != c.want || renewals != c.renewals {
				t.Errorf("got %q after %d renewals", got, renewals)
			}
			if c.err != "" {
				wantError(t, err, c.err)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}
