package access

import (
	"strings"
	"testing"

	"lastro/store/serve/access/certs"
	"lastro/store/serve/access/limit"
	"lastro/store/serve/access/token"
)

func TestSettingsSayWhatIsWrongWithThem(t *testing.T) {
	rule := Rule{Match: "a", Users: []string{"ci"}, Allow: []string{"push"}}
	issuer := token.Settings{Issuer: "i", Service: "s", Realm: "https://a.example/t", JWKS: "/keys"}
	for _, c := range []struct {
		name string
		make func(*Settings)
		want []string // how the messages begin
	}{
		{"nothing is right", func(*Settings) {}, nil},
		{"a file of users is right", func(s *Settings) { s.Auth = &Auth{Htpasswd: "f", Rules: []Rule{rule}} }, nil},
		{"certificates of clients are enough", func(s *Settings) {
			s.Auth, s.TLS = &Auth{}, &certs.Settings{Certificate: "c", Key: "k", ClientCA: "a"}
		}, nil},
		{"nobody could log in", func(s *Settings) { s.Auth = &Auth{} }, []string{"auth: names neither"}},
		{"half a pair", func(s *Settings) { s.TLS = &certs.Settings{Certificate: "c"} }, []string{"tls.key: names no file"}},
		{"a word that is none", func(s *Settings) { s.Auth = &Auth{Htpasswd: "f", Anonymous: "push"} }, []string{`auth.anonymous: "push" is neither`}},
		{"all of a rule", func(s *Settings) {
			s.Auth = &Auth{Htpasswd: "f", Rules: []Rule{rule, {Match: "[", Allow: []string{"write"}}, {Match: "a"}}}
		}, []string{"auth.rules[1].match: ", "auth.rules[1].users: ", `auth.rules[1].allow: "write"`, "auth.rules[2].users: ", "auth.rules[2].allow: "}},
		{"an issuer is right", func(s *Settings) { s.Auth = &Auth{Token: &issuer} }, nil},
		{"keys over http", func(s *Settings) {
			i := issuer
			i.JWKS = "http://a.example/keys"
			s.Auth = &Auth{Token: &i}
		}, []string{"auth.token.jwks: is neither"}},
		{"no issuer at all", func(s *Settings) { s.Auth = &Auth{Token: &token.Settings{}} },
			[]string{"auth.token.issuer: ", "auth.token.service: ", "auth.token.realm: ", "auth.token.jwks: "}},
		{"limits of nothing", func(s *Settings) { s.Limits = limit.Settings{} }, []string{
			"limits.connections: ", "limits.connections-per-address: ", "limits.requests: ", "limits.header-bytes: ",
			"limits.header-timeout: ", "limits.body-timeout: ", "limits.idle-timeout: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Settings{Limits: limit.Defaults()}
			c.make(&s)
			var got []string
			if err := s.Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("got %q, want %q", got[i], c.want[i])
				}
			}
		})
	}
}
