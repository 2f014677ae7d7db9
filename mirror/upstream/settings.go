package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Settings say how one upstream is reached. The zero value means what
// [Defaults] says.
type Settings struct {
	Endpoint    string      `yaml:"endpoint" doc:"Address of the registry's API; default: https:// and the host." example:"https://registry-1.docker.io" kind:"url"`
	PlainHTTP   bool        `yaml:"plain-http" doc:"Speak HTTP without TLS." default:"false"`
	CA          string      `yaml:"ca" doc:"PEM file of certificates that are trusted besides the system's." example:"/etc/lastro/registry-ca.pem" kind:"file"`
	Credentials Credentials `yaml:"credentials" doc:"\"docker-config\" for what docker login stored, \"none\", or username and password." default:"docker-config"`
	Connections int         `yaml:"connections" doc:"How many requests to this host run at once." default:"8" example:"8"`
}

// Credentials are a name and a password; the zero value means those of the
// Docker configuration.
type Credentials struct {
	Username string `yaml:"username" doc:"User name." example:"robot"`
	Password string `yaml:"password" doc:"Password or access token." example:"${env:REGISTRY_PASSWORD}" kind:"secret"`

	anonymous bool
}

// Anonymous are the credentials "none".
func Anonymous() Credentials { return Credentials{anonymous: true} }

// UnmarshalText takes the scalar forms, "docker-config" and "none".
func (c *Credentials) UnmarshalText(text []byte) error {
	switch string(text) {
	case "docker-config":
		*c = Credentials{}
	case "none":
		*c = Anonymous()
	default:
		return errors.New(`must be "docker-config", "none", or a mapping with username and password`)
	}
	return nil
}

// String is the scalar form; it never shows the password.
func (c Credentials) String() string {
	switch {
	case c.anonymous:
		return "none"
	case c.Username == "" && c.Password == "":
		return "docker-config"
	}
	return fmt.Sprintf("username %q and a password", c.Username)
}

// GoString keeps the password out of %#v as well.
func (c Credentials) GoString() string { return c.String() }

const defaultConnections = 8

// Defaults are the settings of a host that the configuration does not name.
func Defaults() Settings { return Settings{Connections: defaultConnections} }

// Validate reports all faults, each starting with its key.
func (s Settings) Validate() error {
	var errs []error
	if s.Endpoint != "" {
		if err := s.checkEndpoint(); err != nil {
			errs = append(errs, fmt.Errorf("endpoint: %w", err))
		}
	}
	if s.Connections < 0 || s.Connections > 1000 {
		errs = append(errs, fmt.Errorf("connections: %d is not between 1 and 1000 (example: 8)", s.Connections))
	}
	if (s.Credentials.Username == "") != (s.Credentials.Password == "") {
		errs = append(errs, errors.New("credentials: username and password belong together"))
	}
	return errors.Join(errs...)
}

func (s Settings) checkEndpoint() error {
	const example = `(example: "https://registry-1.docker.io")`
	u, err := url.Parse(s.Endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("not the address of a server %s", example)
	case u.User != nil:
		return errors.New("a user does not belong into an address: put it under credentials")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q has more than a scheme and a host: the API is always below /v2/ %s", u.Redacted(), example)
	case u.Scheme == "https" && s.PlainHTTP:
		return errors.New("it is https, and plain-http is true: one of them is wrong")
	}
	return nil
}
