package upstream

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"lastro/mirror/upstream/field"
)

// tokens remembers how an upstream lets one account in.
type tokens struct {
	mu     sync.Mutex
	basic  string           // the Authorization header, once the upstream asked for Basic
	bearer *field.Challenge // the last one that led to a token
	scopes map[string]*token
}

// token is the right to do what a scope says. Whoever holds turn reads and
// writes the rest; waiting for it is the single flight.
type token struct {
	turn    chan struct{}
	header  string
	until   time.Time
	refused error // what the token server said, until then
}

const (
	defaultTokenLife = 60 * time.Second // what the token spec says
	maxTokenLife     = 12 * time.Hour
	refusalLife      = 30 * time.Second // wrong passwords lock accounts when tried too often
	maxTokenAnswer   = 1 << 20
)

func (t *tokens) token(scope string) *token {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.scopes == nil {
		t.scopes = map[string]*token{}
	}
	if t.scopes[scope] == nil {
		t.scopes[scope] = &token{turn: make(chan struct{}, 1)}
	}
	return t.scopes[scope]
}

func (t *tokens) known() (basic string, bearer *field.Challenge) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.basic, t.bearer
}

func (t *tokens) remember(basic string, bearer *field.Challenge) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.basic, t.bearer = basic, bearer
}

// authorization is the header to begin with: what worked before, or nothing.
func (r *Registry) authorization(ctx context.Context, a *account, scope string) (string, error) {
	if a.credentials.Token != "" {
		return "Bearer " + a.credentials.Token, nil
	}
	basic, bearer := a.tokens.known()
	if bearer == nil {
		return basic, nil
	}
	params := map[string]string{"realm": bearer.Params["realm"], "service": bearer.Params["service"], "scope": scope}
	return r.token(ctx, a, scope, field.Challenge{Scheme: "bearer", Params: params}, "")
}

// answer is the header that answers a 401 to a request with the header stale;
// "" when there is no more to try.
func (r *Registry) answer(ctx context.Context, a *account, scope string, challenges []field.Challenge, stale string) (string, error) {
	if a.credentials.Token != "" {
		return "", nil
	}
	for _, c := range challenges {
		if c.Scheme == "bearer" && c.Params["realm"] != "" {
			return r.token(ctx, a, scope, c, stale)
		}
	}
	for _, c := range challenges {
		if c.Scheme == "basic" {
			return a.basic(ctx, stale)
		}
	}
	return "", nil
}

func (a *account) basic(ctx context.Context, stale string) (string, error) {
	found, err := a.found(ctx)
	if err != nil || found.Username == "" && found.Password == "" {
		return "", err
	}
	header := basicHeader(found)
	if header == stale {
		return "", nil
	}
	a.tokens.remember(header, nil)
	return header, nil
}

func basicHeader(c auth.Credential) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// token returns the header with a token other than the stale one. Those who
// need the same wait for one request.
func (r *Registry) token(ctx context.Context, a *account, scope string, c field.Challenge, stale string) (string, error) {
	t := a.tokens.token(scope)
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	now := time.Now()
	switch {
	case t.header != "" && t.header != stale && now.Before(t.until):
		return t.header, nil
	case t.refused != nil && now.Before(t.until):
		return "", t.refused
	}
	header, life, err := r.fetchToken(ctx, a, scope, c)
	t.header, t.until, t.refused = header, time.Now().Add(life), nil
	if refused(err) {
		t.until, t.refused = time.Now().Add(refusalLife), err
	}
	if err == nil {
		a.tokens.remember("", &c)
	}
	return header, err
}

// refused reports whether a server said no and will say no again.
func refused(err error) bool {
	s, ok := errors.AsType[*statusError](err)
	return ok && (s.status == http.StatusUnauthorized || s.status == http.StatusForbidden)
}

// fetchToken asks the token server.
func (r *Registry) fetchToken(ctx context.Context, a *account, scope string, c field.Challenge) (header string, life time.Duration, err error) {
	realm, err := r.realm(c.Params["realm"])
	if err != nil {
		return "", 0, err
	}
	found, err := a.found(ctx)
	if err != nil {
		return "", 0, err
	}
	if found.AccessToken != "" {
		return "Bearer " + found.AccessToken, maxTokenLife, nil
	}
	req := tokenRequest(realm, c.Params["service"], cmp.Or(c.Params["scope"], scope), found)
	req.account = a
	resp, err := r.send(ctx, req, func() {}) // in the slot of who needs the token
	if err == nil {
		header, life, err = readToken(resp, found.RefreshToken)
	}
	if err != nil {
		return "", 0, fmt.Errorf("token from %s: %w", realm.Host, err)
	}
	return header, life, nil
}

// realm is the address of the token server, if it may see credentials.
func (r *Registry) realm(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil:
		return nil, errors.New("the registry names a token server whose address cannot be used")
	case u.Scheme == "http" && r.endpoint.Scheme == "https":
		return nil, fmt.Errorf("the registry names the token server http://%s, and credentials do not go over plain HTTP", u.Host)
	}
	return u, nil
}

// tokenRequest asks as Docker does: GET with name and password or anonymously,
// POST with an identity token.
func tokenRequest(realm *url.URL, service, scope string, c auth.Credential) request {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	if c.RefreshToken != "" {
		q.Set("scope", scope)
		q.Set("grant_type", "refresh_token")
		q.Set("client_id", "lastro")
		q.Set("refresh_token", c.RefreshToken)
		return request{method: http.MethodPost, url: realm, form: q.Encode()}
	}
	for s := range strings.FieldsSeq(scope) {
		q.Add("scope", s)
	}
	u := *realm
	u.RawQuery = strings.Trim(u.RawQuery+"&"+q.Encode(), "&")
	req := request{method: http.MethodGet, url: &u}
	if c.Username != "" || c.Password != "" {
		req.authorization = basicHeader(c)
	}
	return req
}

func readToken(resp *http.Response, secret string) (header string, life time.Duration, err error) {
	if resp.StatusCode != http.StatusOK {
		return "", 0, refusal(resp, secret)
	}
	raw, err := readAll(resp, maxTokenAnswer)
	if err != nil {
		return "", 0, err
	}
	var doc struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return "", 0, notJSON(resp, raw)
	}
	text := cmp.Or(doc.Token, doc.AccessToken)
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return "", 0, errors.New("the answer holds no token")
	}
	return "Bearer " + text, tokenLife(doc.ExpiresIn), nil
}

// tokenLife is how long a token is used: shorter than it lives, because the
// request that carries it takes its time.
func tokenLife(seconds float64) time.Duration {
	life := defaultTokenLife
	if seconds > 0 {
		life = time.Duration(min(seconds, maxTokenLife.Seconds()) * float64(time.Second))
	}
	return life * 4 / 5
}
