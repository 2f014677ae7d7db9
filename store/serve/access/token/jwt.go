package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

const (
	maxToken = 32 << 10
	// leeway is how much the issuer's clock may differ from ours.
	leeway = time.Minute
)

// Claims are what a token says of who has it.
type Claims struct {
	User   string
	access []access
	until  time.Time
}

type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// Allows reports whether the token grants an action on a repository, as the
// client named it to the issuer.
func (c *Claims) Allows(repo, action string) bool { return c.grants("repository", repo, action) }

// Catalog reports whether the token grants the list of repositories.
func (c *Claims) Catalog() bool { return c.grants("registry", "catalog", "*") }

func (c *Claims) grants(kind, name, action string) bool {
	return slices.ContainsFunc(c.access, func(a access) bool {
		return a.Type == kind && a.Name == name && (slices.Contains(a.Actions, action) || slices.Contains(a.Actions, "*"))
	})
}

// parsed is a token of which nothing is believed yet.
type parsed struct {
	algorithm, kid string
	signed         []byte
	payload        []byte
	signature      []byte
}

var errMalformed = errors.New("is not a signed token")

func parse(raw string) (*parsed, error) {
	parts := strings.Split(raw, ".")
	if len(raw) > maxToken || len(parts) != 3 {
		return nil, errMalformed
	}
	head, err1 := decode(parts[0])
	payload, err2 := decode(parts[1])
	signature, err3 := decode(parts[2])
	if err1 != nil || err2 != nil || err3 != nil {
		return nil, errMalformed
	}
	var h struct {
		Alg  string          `json:"alg"`
		Kid  string          `json:"kid"`
		Crit json.RawMessage `json:"crit"`
	}
	// What is critical is what we do not know.
	if json.Unmarshal(head, &h) != nil || h.Crit != nil {
		return nil, errMalformed
	}
	return &parsed{h.Alg, h.Kid, []byte(parts[0] + "." + parts[1]), payload, signature}, nil
}

// key finds the key of a token. A token need not name it where there is one
// only.
func (p *parsed) key(set keys) (key, bool) {
	k, ok := set[p.kid]
	if p.kid == "" && len(set) == 1 {
		for _, k = range set {
			ok = true
		}
	}
	return k, ok
}

// claims are believed when everything is right.
func (p *parsed) claims(k key, s Settings, now time.Time) (*Claims, error) {
	if p.algorithm != k.algorithm || !k.verifies(p.signed, p.signature) {
		return nil, errors.New("has a signature that is not its issuer's")
	}
	var c struct {
		Issuer   string   `json:"iss"`
		Subject  string   `json:"sub"`
		Audience audience `json:"aud"`
		Expires  moment   `json:"exp"`
		Begins   moment   `json:"nbf"`
		Access   []access `json:"access"`
	}
	if json.Unmarshal(p.payload, &c) != nil {
		return nil, errMalformed
	}
	until := c.Expires.Add(leeway)
	switch {
	case c.Issuer != s.Issuer:
		return nil, errors.New("is of another issuer")
	case !slices.Contains(c.Audience, s.Service):
		return nil, errors.New("is for another service")
	case c.Expires.IsZero() || !now.Before(until):
		return nil, errors.New("has expired")
	case now.Before(c.Begins.Add(-leeway)):
		return nil, errors.New("is not valid yet")
	}
	return &Claims{User: c.Subject, access: c.Access, until: until}, nil
}

// audience is one text or a list of them.
type audience []string

func (a *audience) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte{'['}) {
		return json.Unmarshal(text, (*[]string)(a))
	}
	*a = []string{""}
	return json.Unmarshal(text, &(*a)[0])
}

// moment is in seconds, with or without a part of one.
type moment struct{ time.Time }

func (m *moment) UnmarshalJSON(text []byte) error {
	var seconds float64
	if err := json.Unmarshal(text, &seconds); err != nil {
		return err
	}
	if seconds < 0 || seconds > 1<<40 {
		return errMalformed
	}
	m.Time = time.Unix(int64(seconds), 0)
	return nil
}
