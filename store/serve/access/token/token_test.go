package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var b64 = base64.RawURLEncoding

// issuer signs whatever it is told to.
type issuer struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
	now time.Time
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, err3 := ed25519.GenerateKey(rand.Reader)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	return &issuer{r, e, d, time.Unix(1e9, 0)}
}

// jwks is the set, of the keys that are named.
func (i *issuer) jwks(kids ...string) []byte {
	point, _ := i.ec.PublicKey.Bytes()
	all := map[string]map[string]string{
		"r": {"kty": "RSA", "n": b64.EncodeToString(i.rsa.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(i.rsa.E)).Bytes()), "use": "sig", "alg": "RS256"},
		"e": {"kty": "EC", "crv": "P-256", "x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:])},
		"d": {"kty": "OKP", "crv": "Ed25519", "x": b64.EncodeToString(i.ed.Public().(ed25519.PublicKey))},
		"h": {"kty": "oct", "k": "c2VjcmV0"},
	}
	var list []map[string]string
	for _, kid := range kids {
		all[kid]["kid"] = kid
		list = append(list, all[kid])
	}
	text, _ := json.Marshal(map[string]any{"keys": list})
	return text
}

func (i *issuer) sign(head, claims map[string]any, with string) string {
	h, _ := json.Marshal(head)
	c, _ := json.Marshal(claims)
	text := b64.EncodeToString(h) + "." + b64.EncodeToString(c)
	sum := sha256.Sum256([]byte(text))
	var sig []byte
	switch with {
	case "r":
		sig, _ = rsa.SignPKCS1v15(rand.Reader, i.rsa, crypto.SHA256, sum[:])
	case "e":
		r, s, _ := ecdsa.Sign(rand.Reader, i.ec, sum[:])
		sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case "d":
		sig = ed25519.Sign(i.ed, []byte(text))
	case "h":
		mac := hmac.New(sha256.New, i.jwks("r")) // the old trick: the public key as a shared secret
		mac.Write([]byte(text))
		sig = mac.Sum(nil)
	}
	return text + "." + b64.EncodeToString(sig)
}

func (i *issuer) claims(changed map[string]any) map[string]any {
	c := map[string]any{
		"iss": "https://auth.example.com", "aud": "registry", "sub": "ann", "exp": i.now.Add(time.Minute).Unix(),
		"access": []map[string]any{{"type": "repository", "name": "a/b", "actions": []string{"pull"}}},
	}
	maps.Copy(c, changed)
	return c
}

func (i *issuer) settings(jwks string) Settings {
	return Settings{Issuer: "https://auth.example.com", Service: "registry", Realm: "https://auth.example.com/token", JWKS: jwks}
}

func (i *issuer) opened(t testing.TB, set []byte) (*Verifier, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := Open(i.settings(path), slog.New(slog.DiscardHandler), func() time.Time { return i.now })
	if err != nil {
		t.Fatal(err)
	}
	return v, path
}

func TestTokensThatAreTaken(t *testing.T) {
	i := newIssuer(t)
	v, _ := i.opened(t, i.jwks("r", "e", "d", "h"))
	head := func(alg, kid string) map[string]any { return map[string]any{"alg": alg, "kid": kid, "typ": "JWT"} }
	good := i.sign(head("RS256", "r"), i.claims(nil), "r")
	at := func(d time.Duration) int64 { return i.now.Add(d).Unix() }
	parts := strings.Split(good, ".")
	for _, c := range []struct{ name, raw, want string }{
		{"RS256", good, ""},
		{"ES256", i.sign(head("ES256", "e"), i.claims(nil), "e"), ""},
		{"EdDSA", i.sign(head("EdDSA", "d"), i.claims(nil), "d"), ""},
		{"a list of audiences", i.sign(head("RS256", "r"), i.claims(map[string]any{"aud": []string{"x", "registry"}}), "r"), ""},
		{"a clock that is behind", i.sign(head("RS256", "r"), i.claims(map[string]any{"exp": at(-50 * time.Second)}), "r"), ""},
		{"a clock that is ahead", i.sign(head("RS256", "r"), i.claims(map[string]any{"nbf": at(50 * time.Second)}), "r"), ""},
		{"none", i.sign(head("none", "r"), i.claims(nil), ""), "signature"},
		{"HS256 with the public key", i.sign(head("HS256", "r"), i.claims(nil), "h"), "signature"},
		{"HS256 with a key of the set", i.sign(head("HS256", "h"), i.claims(nil), "h"), "does not have"},
		{"another algorithm than the key's", i.sign(head("ES256", "r"), i.claims(nil), "r"), "signature"},
		{"another key's signature", i.sign(head("RS256", "r"), i.claims(nil), "d"), "signature"},
		{"another issuer's key", newIssuer(t).sign(head("RS256", "r"), i.claims(nil), "r"), "signature"},
		{"a key that is not known", i.sign(head("RS256", "x"), i.claims(nil), "r"), "does not have"},
		{"no kid where there are many", i.sign(map[string]any{"alg": "RS256"}, i.claims(nil), "r"), "does not have"},
		{"what is critical", i.sign(map[string]any{"alg": "RS256", "kid": "r", "crit": []string{"b64"}}, i.claims(nil), "r"), "is not a signed"},
		{"other claims under its signature", parts[0] + "." + b64.EncodeToString([]byte(`{"sub":"root"}`)) + "." + parts[2], "signature"},
		{"no signature", parts[0] + "." + parts[1] + ".", "signature"},
		{"two parts", parts[0] + "." + parts[1], "is not a signed"},
		{"padding", good + "=", "is not a signed"},
		{"too large", good + strings.Repeat("A", maxToken), "is not a signed"},
		{"another issuer", i.sign(head("RS256", "r"), i.claims(map[string]any{"iss": "https://evil.example.com"}), "r"), "another issuer"},
		{"another service", i.sign(head("RS256", "r"), i.claims(map[string]any{"aud": "other"}), "r"), "another service"},
		{"no audience", i.sign(head("RS256", "r"), i.claims(map[string]any{"aud": nil}), "r"), "another service"},
		{"expired", i.sign(head("RS256", "r"), i.claims(map[string]any{"exp": at(-61 * time.Second)}), "r"), "expired"},
		{"without end", i.sign(head("RS256", "r"), i.claims(map[string]any{"exp": nil}), "r"), "expired"},
		{"without a sensible end", i.sign(head("RS256", "r"), i.claims(map[string]any{"exp": 1e300}), "r"), "is not a signed"},
		{"not yet", i.sign(head("RS256", "r"), i.claims(map[string]any{"nbf": at(61 * time.Second)}), "r"), "not valid yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 { // also what is remembered
				got, err := v.Verify(t.Context(), c.raw)
				switch {
				case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
					t.Errorf("got %v, want %q", err, c.want)
				case err == nil && (got.User != "ann" || !got.Allows("a/b", "pull") || got.Allows("a/b", "push") || got.Allows("a", "pull") || got.Catalog()):
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

func TestATokenIsNotTakenAfterItsEnd(t *testing.T) {
	i := newIssuer(t)
	v, _ := i.opened(t, i.jwks("d"))
	raw := i.sign(map[string]any{"alg": "EdDSA"}, i.claims(nil), "d") // the only key needs no name
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	i.now = i.now.Add(2*time.Minute + time.Second)
	if _, err := v.Verify(t.Context(), raw); err == nil {
		t.Error("it is")
	}
}

func TestAKeyThatIsGoneEndsItsTokens(t *testing.T) {
	i := newIssuer(t)
	v, path := i.opened(t, i.jwks("r", "d"))
	raw := i.sign(map[string]any{"alg": "EdDSA", "kid": "d"}, i.claims(nil), "d")
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	write := func(set []byte) {
		if err := os.WriteFile(path, set, 0o600); err != nil {
			t.Fatal(err)
		}
		i.now = i.now.Add(3 * time.Second)
	}
	write([]byte("{"))
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Errorf("a set that is wrong is taken: %v", err)
	}
	write(i.jwks("r"))
	if _, err := v.Verify(t.Context(), raw); err == nil {
		t.Error("a token outlives its key")
	}
}

func TestSetsThatAreRefused(t *testing.T) {
	i := newIssuer(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip(err)
	}
	for name, text := range map[string]string{
		"no JSON": "x", "no keys": "{}", "only secrets": string(i.jwks("h")), "a kid twice": string(i.jwks("r", "r")),
		"a weak key":           `{"keys":[{"kty":"RSA","e":"AQAB","n":"` + b64.EncodeToString(small.N.Bytes()) + `"}]}`,
		"a point off its line": `{"keys":[{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}]}`,
		"only for encryption":  strings.Replace(string(i.jwks("r")), `"sig"`, `"enc"`, 1),
	} {
		if k, err := parseKeys([]byte(text)); err == nil {
			t.Errorf("%s: %v", name, k)
		}
	}
}

// site is the issuer's address.
type site struct {
	*httptest.Server
	asked  atomic.Int32
	answer atomic.Pointer[http.HandlerFunc]
}

func newSite(t *testing.T, set []byte) (*site, string) {
	t.Helper()
	s := &site{}
	s.says(func(w http.ResponseWriter, _ *http.Request) { w.Write(set) })
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		(*s.answer.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, ca
}

func (s *site) says(h http.HandlerFunc) { s.answer.Store(&h) }

func TestKeysOfAnAddress(t *testing.T) {
	i := newIssuer(t)
	s, ca := newSite(t, i.jwks("d"))
	settings := i.settings(s.URL + "/jwks")
	settings.CA = ca
	v, err := Open(settings, slog.New(slog.DiscardHandler), func() time.Time { return i.now })
	if err != nil {
		t.Fatal(err)
	}
	token := func(kid, alg string) string {
		return i.sign(map[string]any{"alg": alg, "kid": kid}, i.claims(nil), kid)
	}
	check := func(when, raw string, taken bool, asked int32) {
		t.Helper()
		if _, err := v.Verify(t.Context(), raw); (err == nil) != taken || s.asked.Load() != asked {
			t.Errorf("%s: %v, asked %d times, want %d", when, err, s.asked.Load(), asked)
		}
	}
	check("the first token", token("d", "EdDSA"), true, 1)
	check("again", token("d", "EdDSA"), true, 1)
	s.says(func(w http.ResponseWriter, _ *http.Request) { w.Write(i.jwks("d", "r")) })
	check("a new key within a minute", token("r", "RS256"), false, 1)
	i.now = i.now.Add(time.Minute)
	check("a new key after a minute", token("r", "RS256"), true, 2)
	for range 10 {
		check("a key that nobody has", i.sign(map[string]any{"alg": "RS256", "kid": "zz"}, i.claims(nil), "r"), false, 2)
	}
	for name, h := range map[string]http.HandlerFunc{
		"that is down":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"that sends elsewhere": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"that says too much":   func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxSet+1)) },
	} {
		s.says(h)
		i.now = i.now.Add(oldest + time.Second)
		before := s.asked.Load()
		check("an issuer "+name, token("r", "RS256"), true, before+1)
		check("an issuer "+name+", again", token("d", "EdDSA"), true, before+1)
	}
}

func FuzzVerify(f *testing.F) {
	i := newIssuer(f)
	v, _ := i.opened(f, i.jwks("r", "e", "d"))
	good := i.sign(map[string]any{"alg": "EdDSA", "kid": "d"}, i.claims(nil), "d")
	f.Add(good[:len(good)-1])
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, raw string) {
		if c, err := v.Verify(t.Context(), raw); err == nil && raw != good {
			t.Errorf("%q is taken: %+v", raw, c)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	i := newIssuer(f)
	f.Add(i.jwks("r", "e", "d", "h"))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := parseKeys(text)
		for _, k := range set {
			if k.verifies([]byte("x"), make([]byte, 64)) {
				t.Error("a signature of zeros is taken")
			}
		}
		if err == nil && len(set) == 0 {
			t.Error("an empty set is taken")
		}
	})
}
