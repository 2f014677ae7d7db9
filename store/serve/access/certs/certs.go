// Package certs is TLS whose certificate is renewed while it serves.
//
// Certificate, key and the CA of clients are read again when one of the files
// changes: a handshake looks at most every two seconds (see package watch), and
// Reload makes the next one look at once. They are taken together or not at
// all: of files that are wrong, or half written, nothing is taken, those of
// before remain, and it is reported once; the next look tries again.
// Connections that stand are not touched.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"lastro/store/serve/access/watch"
)

// Settings are the files of a server.
type Settings struct {
	Certificate string `yaml:"certificate" kind:"file" required:"true" example:"/etc/lastro/tls.crt" doc:"PEM file of the certificate and those that it is signed with; read again when it changes."`
	Key         string `yaml:"key" kind:"file" required:"true" example:"/etc/lastro/tls.key" doc:"PEM file of the certificate's private key."`
	ClientCA    string `yaml:"client-ca" kind:"file" example:"/etc/lastro/clients.pem" doc:"PEM file of the CAs of clients. A client whose certificate one of them signed is the user that the certificate names, without a password; others may still log in (default: certificates of clients are not asked for)."`
}

// Validate says everything that is wrong. Each message begins with the key.
func (s Settings) Validate() error {
	var errs []error
	if s.Certificate == "" {
		errs = append(errs, errors.New("certificate: names no file (example: /etc/lastro/tls.crt)"))
	}
	if s.Key == "" {
		errs = append(errs, errors.New("key: names no file (example: /etc/lastro/tls.key)"))
	}
	return errors.Join(errs...)
}

func (s Settings) paths() []string {
	paths := []string{s.Certificate, s.Key}
	if s.ClientCA != "" {
		paths = append(paths, s.ClientCA)
	}
	return paths
}

// Keeper has what the files had when they were last right.
type Keeper struct {
	settings Settings
	log      *slog.Logger
	files    *watch.Files
	current  atomic.Pointer[tls.Config]
	reported atomic.Pointer[string]
}

// Open reads the files, which must be right.
func Open(s Settings, log *slog.Logger, now func() time.Time) (*Keeper, error) {
	k := &Keeper{settings: s, log: log, files: watch.New(now, s.paths()...)}
	k.files.Changed()
	c, err := s.read()
	if err != nil {
		return nil, err
	}
	k.current.Store(c)
	return k, nil
}

// Config is for a server. It never changes, what it gives does.
func (k *Keeper) Config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         protocols(),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.latest(), nil },
	}
}

func protocols() []string { return []string{"h2", "http/1.1"} }

// Reload makes the next handshake look whether the files have changed.
func (k *Keeper) Reload() { k.files.Now() }

// Expires is when the certificate in use does.
func (k *Keeper) Expires() time.Time { return k.current.Load().Certificates[0].Leaf.NotAfter }

func (k *Keeper) latest() *tls.Config {
	if !k.files.Changed() {
		return k.current.Load()
	}
	c, err := k.settings.read()
	k.files.Done(err == nil)
	if err != nil {
		k.report(err)
		return k.current.Load()
	}
	k.reported.Store(nil)
	k.current.Store(c)
	k.log.Info("certificate read", "file", k.settings.Certificate, "expires", c.Certificates[0].Leaf.NotAfter)
	return c
}

// report says once that the files are wrong.
func (k *Keeper) report(err error) {
	text := err.Error()
	if was := k.reported.Swap(&text); was == nil || *was != text {
		k.log.Error("certificate not read: that of before remains", "err", err)
	}
}

func (s Settings) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", s.Certificate, s.Key, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols(), Certificates: []tls.Certificate{pair}}
	if s.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(s.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("client-ca: %w", err)
	}
	c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client-ca: %s has no certificate", s.ClientCA)
	}
	return c, nil
}

// User is whom a verified certificate of a client names: its common name, else
// its first DNS name or URI. Without ok there is no such certificate.
func User(state *tls.ConnectionState) (name string, ok bool) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return "", false
	}
	leaf := state.VerifiedChains[0][0]
	switch {
	case leaf.Subject.CommonName != "":
		name = leaf.Subject.CommonName
	case len(leaf.DNSNames) > 0:
		name = leaf.DNSNames[0]
	case len(leaf.URIs) > 0:
		name = leaf.URIs[0].String()
	}
	return name, name != "" && name != "*"
}
