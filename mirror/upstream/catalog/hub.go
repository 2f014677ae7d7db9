package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"lastro/mirror"
)

// dockerHub is Docker Hub's own API, which is not that of its registry.
func dockerHub() api {
	return api{
		address:   "https://hub.docker.com",
		authorize: hubLogin,
		places:    func(namespace string) []string { return []string{"v2/namespaces/" + namespace + "/repositories"} },
		query:     "page_size=100",
		read:      readHub,
		denied:    "check upstreams.docker.io.credentials",
	}
}

// hubLogin changes a password or access token for a token of the API. Without
// one, only public repositories are listed.
func hubLogin(ctx context.Context, c Catalog) (http.Header, error) {
	header := http.Header{"Accept": {"application/json"}}
	username, password, err := c.Login(ctx)
	if err != nil || username == "" || password == "" {
		return header, err
	}
	token, err := hubToken(ctx, c, username, password)
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	header.Set("Authorization", "Bearer "+token)
	return header, nil
}

func hubToken(ctx context.Context, c Catalog, username, password string) (string, error) {
	body, err := json.Marshal(map[string]string{"identifier": username, "secret": password})
	if err != nil {
		return "", err
	}
	header := http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}}
	resp, raw, err := send(ctx, c, http.MethodPost, c.Address.JoinPath("v2/auth/token"), header, body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", loginRefused(c, resp, said(raw, password))
	}
	var doc struct {
		Token string `json:"access_token"`
	}
	if json.Unmarshal(raw, &doc) != nil || !headerSafe(doc.Token) {
		return "", errors.New("the answer holds no token")
	}
	return doc.Token, nil
}

func loginRefused(c Catalog, resp *http.Response, detail string) error {
	err := refused(resp, detail)
	switch {
	case limited(resp):
		return &mirror.ThrottledError{Host: c.Host, Until: until(resp.Header, time.Now()), Err: err}
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: check docker login, or upstreams.docker.io.credentials", err)
	}
	return err
}

// headerSafe reports whether a token can stand in a header.
func headerSafe(token string) bool {
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return token != ""
}

func readHub(_ *http.Response, raw []byte) (page, error) {
	var doc struct {
		Next    string
		Results *[]struct{ Name string }
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return page{}, err
	}
	if doc.Results == nil {
		return page{}, errors.New("no results")
	}
	p := page{next: doc.Next}
	for _, r := range *doc.Results {
		p.names = append(p.names, r.Name)
	}
	return p, nil
}
