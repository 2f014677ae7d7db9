package access

import (
	"errors"
	"fmt"
	"slices"

	"lastro/mirror"
	"lastro/store/serve/access/certs"
	"lastro/store/serve/access/limit"
	"lastro/store/serve/access/token"
	"lastro/store/serve/spec"
)

// Settings are the registry's of access.
type Settings struct {
	TLS    *certs.Settings `yaml:"tls" doc:"Certificate of the registry (default: it speaks HTTP without TLS)."`
	Auth   *Auth           `yaml:"auth" doc:"Who may pull, push and delete (default: everybody)."`
	Limits limit.Settings  `yaml:"limits" doc:"What clients may take at once."`
}

// Auth says who may do what.
type Auth struct {
	Htpasswd  string          `yaml:"htpasswd" kind:"file" example:"/etc/lastro/htpasswd" doc:"File of users and their bcrypt hashes, as htpasswd -B writes it; read again when it changes."`
	Anonymous string          `yaml:"anonymous" default:"pull" example:"none" doc:"What those may do who do not log in: pull, or none."`
	Token     *token.Settings `yaml:"token" doc:"Bearer tokens of another issuer."`
	Rules     []Rule          `yaml:"rules" doc:"Which users may do what with which repositories (default: all users may pull, and push and delete what registry.push lets)."`
}

// Rule allows users something.
type Rule struct {
	Match string   `yaml:"match" required:"true" kind:"pattern" example:"local/**" doc:"Local repositories."`
	Users []string `yaml:"users" required:"true" example:"ci" doc:"Names of users; \"*\" is every user who logged in."`
	Allow []string `yaml:"allow" required:"true" example:"push" doc:"What they may: pull, push, delete. What a rule lets some pull nobody else may; what none lets some pull every user may."`
}

// What those may do who do not log in.
const (
	AnonymousPull = "pull"
	AnonymousNone = "none"
)

// Validate says everything that is wrong. Each message begins with the key.
func (s Settings) Validate() error {
	var errs []error
	if s.TLS != nil {
		errs = append(errs, at("tls", s.TLS.Validate()))
	}
	if s.Auth != nil {
		errs = append(errs, at("auth", s.Auth.Validate()))
		if !s.provable() {
			errs = append(errs, errors.New("auth: names neither htpasswd nor token, and there is no tls.client-ca: nobody could log in (example: htpasswd: /etc/lastro/htpasswd)"))
		}
	}
	errs = append(errs, at("limits", s.Limits.Validate()))
	return errors.Join(errs...)
}

// provable reports whether there is a way to say who one is.
func (s Settings) provable() bool {
	return s.Auth.Htpasswd != "" || s.Auth.Token != nil || s.TLS != nil && s.TLS.ClientCA != ""
}

// Validate says everything that is wrong. Each message begins with the key.
func (a Auth) Validate() error {
	var errs []error
	if a.Anonymous != "" && a.Anonymous != AnonymousPull && a.Anonymous != AnonymousNone {
		errs = append(errs, fmt.Errorf("anonymous: %q is neither pull nor none", a.Anonymous))
	}
	if a.Token != nil {
		errs = append(errs, at("token", a.Token.Validate()))
	}
	for i, r := range a.Rules {
		_, err := compile(r)
		errs = append(errs, at(fmt.Sprintf("rules[%d]", i), err))
	}
	return errors.Join(errs...)
}

// at puts a key before each of joined messages.
func at(key string, err error) error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s.%w", key, err)
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, at(key, e))
	}
	return errors.Join(all...)
}

// rule is a Rule that was read.
type rule struct {
	Rule
	pattern mirror.Pattern
}

func compile(r Rule) (c rule, err error) {
	var errs []error
	if c.pattern, err = mirror.ParsePattern(r.Match); err != nil {
		errs = append(errs, fmt.Errorf("match: %w", err))
	}
	if len(r.Users) == 0 || slices.Contains(r.Users, "") {
		errs = append(errs, errors.New(`users: names nobody (example: [ci], or ["*"] for every user)`))
	}
	if len(r.Allow) == 0 {
		errs = append(errs, errors.New("allow: names nothing (example: [push, delete])"))
	}
	for _, a := range r.Allow {
		if !slices.Contains([]spec.Action{spec.Pull, spec.Push, spec.Delete}, spec.Action(a)) {
			errs = append(errs, fmt.Errorf("allow: %q is neither pull, push nor delete", a))
		}
	}
	c.Rule = r
	return c, errors.Join(errs...)
}

func (r rule) has(a spec.Action) bool { return slices.Contains(r.Allow, string(a)) }

func (r rule) names(user string) bool {
	return user != "" && (slices.Contains(r.Users, user) || slices.Contains(r.Users, "*"))
}
