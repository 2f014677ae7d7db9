package token

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Settings are of an issuer whose tokens are taken.
type Settings struct {
	Issuer  string `yaml:"issuer" required:"true" example:"https://auth.example.com" doc:"Who issues the tokens: their iss."`
	Service string `yaml:"service" required:"true" example:"registry.example.com" doc:"Whom the tokens are for: their aud, and the service that clients ask the issuer for."`
	Realm   string `yaml:"realm" kind:"url" required:"true" example:"https://auth.example.com/token" doc:"Address where clients get tokens."`
	JWKS    string `yaml:"jwks" required:"true" example:"https://auth.example.com/jwks.json" doc:"The issuer's public keys, a JSON Web Key Set: an absolute path of a file, or an https address."`
	CA      string `yaml:"ca" kind:"file" example:"/etc/lastro/issuer-ca.pem" doc:"PEM file of certificates that are trusted for the address of jwks besides the system's."`
}

// Validate says everything that is wrong. Each message begins with the key.
func (s Settings) Validate() error {
	var errs []error
	if s.Issuer == "" {
		errs = append(errs, errors.New("issuer: names nobody (example: https://auth.example.com)"))
	}
	if s.Service == "" || strings.ContainsAny(s.Service, "\"\\\r\n") {
		errs = append(errs, fmt.Errorf("service: %q is not a service (example: registry.example.com)", s.Service))
	}
	u, err := url.Parse(s.Realm)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(s.Realm, "\"\\\r\n") {
		errs = append(errs, fmt.Errorf("realm: %q is not an address (example: https://auth.example.com/token)", s.Realm))
	}
	if err := s.checkJWKS(); err != nil {
		errs = append(errs, fmt.Errorf("jwks: %w", err))
	}
	return errors.Join(errs...)
}

func (s Settings) remote() bool { return strings.Contains(s.JWKS, "://") }

func (s Settings) checkJWKS() error {
	if s.JWKS == "" {
		return errors.New("names nothing (example: https://auth.example.com/jwks.json)")
	}
	if !s.remote() {
		return nil
	}
	u, err := url.Parse(s.JWKS)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return errors.New("is neither a file nor an https address without a password (example: https://auth.example.com/jwks.json)")
	}
	return nil
}
