package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"lastro/mirror/upstream/ecr"
)

// Settings say how one upstream is reached. The zero value means what
// [Defaults] says, but for Reserve: zero reserves nothing.
type Settings struct {
	Endpoint          string        `yaml:"endpoint" doc:"Address of the registry's API; default: https:// and the host." example:"https://registry-1.docker.io" kind:"url"`
	PlainHTTP         bool          `yaml:"plain-http" doc:"Speak HTTP without TLS." default:"false"`
	CA                string        `yaml:"ca" doc:"PEM file of certificates that are trusted besides the system's." example:"/etc/lastro/registry-ca.pem" kind:"file"`
	Credentials       []Credentials `yaml:"credentials" doc:"\"docker-config\" for what docker login stored, \"none\", \"ecr\" for a login with the AWS identity, or a mapping; or a list of these, the next of which is used when one is limited or refused." default:"docker-config" form:"one-or-list"`
	Mirrors           []Mirror      `yaml:"mirrors" doc:"Other addresses of the same content, for what is asked by digest when the upstream fails." example:"https://mirror.gcr.io"`
	Catalog           string        `yaml:"catalog" doc:"Address of the API that lists repositories where the registry does not, Docker Hub's or GitHub's, which sees the credentials; \"none\" asks only the registry. Default for docker.io and ghcr.io: their own, unless endpoint leads elsewhere." example:"https://hub.docker.com"`
	Connections       int           `yaml:"connections" doc:"How many requests to this host run at once." default:"8" example:"8"`
	RequestsPerSecond int           `yaml:"requests-per-second" doc:"How many requests are sent in a second; 0: as many as there are." default:"0" example:"10"`
	Bandwidth         int64         `yaml:"bandwidth" doc:"How many bytes are read in a second, over all streams; 0: as many as come." default:"0" example:"50MiB" kind:"size"`
	Reserve           float64       `yaml:"reserve" doc:"Part of the pulls that the upstream allows that is left to others." default:"10%" example:"10%" kind:"percent"`
}

// Mirror is another address of an upstream's content.
type Mirror struct {
	URL         string        `yaml:"url" doc:"Address of the mirror's API." example:"https://mirror.gcr.io" kind:"url" required:"true" form:"short"`
	Credentials []Credentials `yaml:"credentials" doc:"\"docker-config\", \"none\", \"ecr\", a mapping, or a list of these; those of the upstream are never sent to a mirror. Default: none." example:"docker-config" form:"one-or-list"`
}

// Credentials are one way to log in; the zero value means what the Docker
// configuration has.
type Credentials struct {
	Username string        `yaml:"username" doc:"User name." example:"robot"`
	Password string        `yaml:"password" doc:"Password or access token." example:"${env:REGISTRY_PASSWORD}" kind:"secret"`
	Token    string        `yaml:"token" doc:"Bearer token that is sent as it is." example:"${file:registry-token}" kind:"secret"`
	Helper   string        `yaml:"helper" doc:"Credential helper: the program docker-credential- and this name." example:"ecr-login"`
	ECR      *ecr.Settings `yaml:"ecr" doc:"A login at Amazon ECR with another AWS identity than the environment's."`

	anonymous bool
}

// Anonymous are the credentials "none".
func Anonymous() []Credentials { return []Credentials{{anonymous: true}} }

// UnmarshalText takes the scalar forms, "docker-config", "none" and "ecr".
func (c *Credentials) UnmarshalText(text []byte) error {
	switch string(text) {
	case "docker-config":
		*c = Credentials{}
	case "none":
		*c = Credentials{anonymous: true}
	case "ecr":
		*c = Credentials{ECR: &ecr.Settings{}}
	default:
		return errors.New(`must be "docker-config", "none", "ecr", or a mapping with username and password, token, helper, or ecr`)
	}
	return nil
}

// String is the scalar form, or says what there is; it never shows a secret.
func (c Credentials) String() string {
	switch {
	case c.anonymous:
		return "none"
	case c.ECR != nil:
		return "ecr"
	case c.Helper != "":
		return fmt.Sprintf("helper %q", c.Helper)
	case c.Token != "":
		return "a token"
	case c.Username == "" && c.Password == "":
		return "docker-config"
	}
	return fmt.Sprintf("username %q and a password", c.Username)
}

// GoString keeps secrets out of %#v as well.
func (c Credentials) GoString() string { return c.String() }

// written reports whether the configuration itself has the secret.
func (c Credentials) written() bool { return c.Password != "" || c.Token != "" }

// orDocker is what a list of credentials means.
func orDocker(list []Credentials) []Credentials {
	if len(list) == 0 {
		return []Credentials{{}}
	}
	return list
}

const (
	defaultConnections = 8
	defaultReserve     = 0.1
)

// Defaults are the settings of a host that the configuration does not name.
func Defaults() Settings {
	return Settings{Connections: defaultConnections, Reserve: defaultReserve}
}

// Validate reports all faults, each starting with its key.
func (s Settings) Validate() error {
	var errs []error
	if s.Endpoint != "" {
		errs = append(errs, at("endpoint", checkAddress(s.Endpoint)))
		if strings.HasPrefix(s.Endpoint, "https:") && s.PlainHTTP {
			errs = append(errs, errors.New("endpoint: it is https, and plain-http is true: one of them is wrong"))
		}
	}
	errs = append(errs, at("catalog", s.checkCatalog()))
	if s.Connections < 0 || s.Connections > 1000 {
		errs = append(errs, fmt.Errorf("connections: %d is not between 1 and 1000 (example: 8)", s.Connections))
	}
	if s.RequestsPerSecond < 0 {
		errs = append(errs, fmt.Errorf("requests-per-second: %d is less than nothing (example: 10)", s.RequestsPerSecond))
	}
	if s.Bandwidth != 0 && s.Bandwidth < leastBandwidth {
		errs = append(errs, fmt.Errorf("bandwidth: less than %d bytes a second bring nothing (example: 50MiB)", leastBandwidth))
	}
	if s.Reserve < 0 || s.Reserve >= 1 {
		errs = append(errs, errors.New("reserve: it must leave something to us (example: 10%)"))
	}
	errs = append(errs, checkCredentials("credentials", s.Credentials))
	for i, m := range s.Mirrors {
		errs = append(errs, m.validate(fmt.Sprintf("mirrors[%d]", i)))
	}
	return errors.Join(errs...)
}

// leastBandwidth is less than any line has; below it streams look as if they
// hung.
const leastBandwidth = 1 << 10

func (m Mirror) validate(path string) error {
	return errors.Join(at(path+".url", checkAddress(m.URL)), checkCredentials(path+".credentials", m.Credentials))
}

// at puts a key before an error.
func at(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", key, err)
}

func checkCredentials(path string, list []Credentials) error {
	var errs []error
	for i, c := range list {
		here := path
		if len(list) > 1 {
			here = fmt.Sprintf("%s[%d]", path, i)
		}
		errs = append(errs, at(here, c.check()))
		if c.ECR != nil {
			errs = append(errs, under(here+".ecr", c.ECR.Validate()))
		}
	}
	return errors.Join(errs...)
}

// under puts a key before the keys of joined errors.
func under(key string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, fmt.Errorf("%s.%w", key, e))
	}
	return errors.Join(errs...)
}

// check refuses what is not one way to log in.
func (c Credentials) check() error {
	ways := 0
	for _, set := range []bool{c.Username != "" || c.Password != "", c.Token != "", c.Helper != "", c.ECR != nil} {
		if set {
			ways++
		}
	}
	switch {
	case (c.Username == "") != (c.Password == ""):
		return errors.New("username and password belong together")
	case ways > 1:
		return errors.New("more than one of username, token, helper and ecr: write a list to use them in turn")
	case strings.ContainsAny(c.Helper, `/\ `):
		return errors.New("helper is the name of a program without docker-credential- (example: ecr-login)")
	case strings.ContainsAny(c.Token, " \r\n"):
		return errors.New("token has a space or a line break in it")
	}
	return nil
}

func checkAddress(text string) error {
	const example = `(example: "https://registry-1.docker.io")`
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("not the address of a server %s", example)
	case u.User != nil:
		return errors.New("a user does not belong into an address: put it under credentials")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q has more than a scheme and a host: the API is always below /v2/ %s", u.Redacted(), example)
	}
	return nil
}
