package vault

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"lastro/mirror"
	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/folder"
	"lastro/store/vault/bucket/s3"
	"lastro/store/vault/seal"
)

// Settings describe one vault.
type Settings struct {
	Name     string      `yaml:"name" doc:"Name of the vault in commands and reports." example:"main" required:"true"`
	To       string      `yaml:"to" doc:"Where it lies: a bucket with an optional prefix, or a folder." example:"s3://bucket/prefix" required:"true" kind:"url"`
	S3       s3.Settings `yaml:"s3" doc:"How the S3 server is reached."`
	Sign     string      `yaml:"sign" kind:"secret" doc:"Ed25519 private key (PEM, PKCS #8) that signs snapshots and drill reports. Where it is set, only snapshots are restored, served, drilled with and continued that it or a key of trust has signed." example:"${env:VAULT_KEY}"`
	Trust    []string    `yaml:"trust" doc:"Ed25519 public keys that vouch for snapshots as well: the base64 of their PEM (SubjectPublicKeyInfo), on one line." example:"MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="`
	Encrypt  []string    `yaml:"encrypt" doc:"Public keys of age recipients (age-keygen prints them): the vault is encrypted to them before anything leaves this machine, from its beginning. Whoever has only these can back up and not read back." example:"age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"`
	Identity string      `yaml:"identity" kind:"secret" doc:"Secret key of one of the recipients in encrypt, or several, one a line: it reads the vault back, to verify, drill, prune, restore and serve." example:"${file:/etc/lastro/vault.age}"`
	Include  []string    `yaml:"include" doc:"Repositories that are backed up; default: all." example:"docker.io/**" default:"**" kind:"pattern"`
}

// Validate reports all faults at once, each starting with its key.
func (s Settings) Validate() error {
	var errs []error
	if s.Name == "" {
		errs = append(errs, errors.New(`name: missing (example: "main")`))
	}
	u, err := address(s.To)
	if err != nil {
		errs = append(errs, fmt.Errorf("to: %w", err))
	} else if u.Scheme == "file" && s.S3.ObjectLock != nil {
		errs = append(errs, errors.New("s3.object-lock: a folder has no locks"))
	}
	if err := s.S3.Validate(); err != nil {
		for e := range strings.Lines(err.Error()) {
			errs = append(errs, errors.New("s3."+strings.TrimSpace(e)))
		}
	}
	if _, _, err := s.keys(); err != nil {
		errs = append(errs, err)
	}
	if _, err := s.sealer(); err != nil {
		errs = append(errs, err)
	}
	for i, p := range s.Include {
		if _, err := mirror.ParsePattern(p); err != nil {
			errs = append(errs, fmt.Errorf("include[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// sealer seals and opens what is in the vault; nil: it is not sealed.
func (s Settings) sealer() (*seal.Sealer, error) {
	switch {
	case len(s.Encrypt) == 0 && s.Identity == "":
		return nil, nil
	case len(s.Encrypt) == 0:
		return nil, errors.New("encrypt: missing: identity is to open what is encrypted to the recipients that stand there")
	case s.Identity == "" && s.S3.ObjectLock != nil:
		return nil, errors.New("identity: missing: with s3.object-lock, locks are extended of what snapshots need, which only tells who can read them")
	}
	return seal.New(s.Encrypt, s.Identity)
}

// include is the repositories to back up.
func (s Settings) include() []string {
	if len(s.Include) == 0 {
		return []string{"**"}
	}
	return s.Include
}

// address reads where a vault lies.
func address(to string) (*url.URL, error) {
	const example = `(example: "s3://bucket/prefix" or "file:///var/backups/lastro")`
	u, err := url.Parse(to)
	if err != nil {
		return nil, fmt.Errorf("%q is not the address of a vault %s", to, example)
	}
	switch {
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("credentials and queries do not belong into the address of a vault %s", example)
	case u.Scheme == "s3" && u.Host != "":
		return u, nil
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path) && filepath.Clean(u.Path) != "/":
		return u, nil
	}
	return nil, fmt.Errorf("%q is not the address of a vault %s", to, example)
}

// bucket opens the place that the settings name. Nothing is sent yet.
func (s Settings) bucket(ctx context.Context, o Options, sent func()) (bucket.Bucket, error) {
	u, err := address(s.To)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "file" {
		return folder.Open(filepath.Clean(u.Path), folder.Options{Sent: sent, Step: o.Step}), nil
	}
	return s3.Open(ctx, u.Host, strings.Trim(u.Path, "/"), s.S3, s3.Options{Log: o.Log, Sent: sent, Now: o.Now, Transport: o.Transport, Idle: o.Idle})
}
