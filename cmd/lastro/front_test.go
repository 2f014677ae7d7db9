package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"lastro/mirror/sample"
)

// writeCertificate makes a certificate for the loopback and the key of it.
func writeCertificate(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	for file, content := range map[string][]byte{"cert.pem": text, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

func writeUsers(t *testing.T, dir string, passwords map[string]string) {
	t.Helper()
	var text strings.Builder
	for name, password := range passwords {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s:%s\n", name, hash)
	}
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// as is a client that logs in, if user is not empty.
type as struct {
	http.RoundTripper
	user, password string
}

// RoundTrip sends a request with the password.
func (a as) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.user != "" {
		r = r.Clone(r.Context())
		r.SetBasicAuth(a.user, a.password)
	}
	return a.RoundTripper.RoundTrip(r)
}

func trusting(pool *x509.CertPool) *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
}

func TestTheFrontLetsInWhomTheFilesLetIn(t *testing.T) {
	b := newBench(t, "")
	pool := writeCertificate(t, b.dir, "first")
	writeUsers(t, b.dir, map[string]string{"ci": "secret", "dev": "other"})
	text := fmt.Sprintf(`data: %s
registry:
  listen: %q
  push: ["**"]
  tls: {certificate: cert.pem, key: key.pem}
  auth:
    htpasswd: users
    rules: [{match: "**", users: [ci], allow: [push, delete]}]
admin: {listen: %q}
`, b.data(), b.registry, freeAddress(t))
	if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := b.serve(t)
	images, base := sample.Generate(sample.Options{}), "https://"+b.registry
	push := func(user, password string) error {
		return images.PushTo(t.Context(), &http.Client{Transport: as{trusting(pool), user, password}}, base)
	}
	refused := func(want, user, password string) {
		t.Helper()
		if err := push(user, password); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", user, err, want)
		}
	}
	refused("401", "", "")
	refused("401", "ci", "wrong")
	refused("403", "dev", "other")
	if err := push("ci", "secret"); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: trusting(pool)}
	tags := base + "/v2/apps/web/tags/list"
	if got := statusOf(t, client, tags); got != http.StatusOK {
		t.Errorf("nobody pulls: %d", got)
	}

	second := writeCertificate(t, b.dir, "second")
	writeUsers(t, b.dir, map[string]string{"ci": "changed"})
	if err := os.WriteFile(b.config(), []byte(strings.Replace(text, "htpasswd: users", "htpasswd: users\n    anonymous: none", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = daemon.cmd.Process.Signal(syscall.SIGHUP)
	daemon.wait(t, `configuration reloaded`)
	client = &http.Client{Transport: trusting(second)}
	if got := statusOf(t, client, tags); got != http.StatusUnauthorized {
		t.Errorf("nobody pulls where nobody may: %d", got)
	}
	client.Transport = as{trusting(second), "ci", "changed"}
	if got := statusOf(t, client, tags); got != http.StatusOK {
		t.Errorf("with the new password: %d", got)
	}
	client.Transport = as{trusting(second), "ci", "secret"}
	if got := statusOf(t, client, tags); got != http.StatusUnauthorized {
		t.Errorf("with the old password: %d", got)
	}
	if log := daemon.output(); strings.Contains(log, "secret") || strings.Contains(log, "changed\"") || strings.Contains(log, "wrong") {
		t.Errorf("a password is in the log:\n%s", log)
	}
}

// clientCertificate is a certificate of a client that a CA of its own signed. It
// writes the CA's file.
func clientCertificate(t *testing.T, file, name string) tls.Certificate {
	t.Helper()
	authority, user := newKey(t), newKey(t)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA of " + name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	top, err := x509.CreateCertificate(rand.Reader, ca, ca, authority.Public(), authority)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, leaf, ca, user.Public(), authority)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: top}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: user}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestTheFrontLetsInWhoseCertificateTheRulesName(t *testing.T) {
	b := newBench(t, "")
	pool := writeCertificate(t, b.dir, "registry")
	ci := clientCertificate(t, filepath.Join(b.dir, "clients.pem"), "ci")
	stranger := clientCertificate(t, filepath.Join(b.dir, "strangers.pem"), "ci")
	text := fmt.Sprintf(`data: %s
registry:
  listen: %q
  push: ["**"]
  tls: {certificate: cert.pem, key: key.pem, client-ca: clients.pem}
  auth:
    anonymous: none
    rules: [{match: "apps/**", users: [ci], allow: [pull, push]}, {match: "library/**", users: [release], allow: [push]}]
admin: {listen: %q}
`, b.data(), b.registry, freeAddress(t))
	if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := b.serve(t)
	with := func(all ...tls.Certificate) *http.Client {
		transport := trusting(pool)
		// Whatever CAs the server names: it is the server that is to refuse.
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &append(all, tls.Certificate{})[0], nil
		}
		return &http.Client{Transport: transport}
	}
	status := func(client *http.Client, method, path string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+b.registry+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	for _, c := range []struct {
		name, method, path string
		client             *http.Client
		want               int // 0: the handshake fails
	}{
		{"who has a certificate may push where a rule says so", "POST", "/v2/apps/web/blobs/uploads/", with(ci), 202},
		{"and pull", "GET", "/v2/apps/web/manifests/v1", with(ci), 404},
		{"but not push where a rule names another", "POST", "/v2/library/base/blobs/uploads/", with(ci), 403},
		{"who has none may not", "POST", "/v2/apps/web/blobs/uploads/", with(), 401},
		{"nor pull", "GET", "/v2/apps/web/manifests/v1", with(), 401},
		{"the same name by another CA is not let in", "GET", "/v2/apps/web/manifests/v1", with(stranger), 0},
	} {
		if got := status(c.client, c.method, c.path); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if err := os.Rename(filepath.Join(b.dir, "strangers.pem"), filepath.Join(b.dir, "clients.pem")); err != nil {
		t.Fatal(err)
	}
	_ = daemon.cmd.Process.Signal(syscall.SIGHUP)
	daemon.wait(t, `configuration reloaded`)
	for client, want := range map[*http.Client]int{with(stranger): 404, with(ci): 0} {
		if got := status(client, "GET", "/v2/apps/web/manifests/v1"); got != want {
			t.Errorf("after the CA was changed: %d, want %d", got, want)
		}
	}
}

func statusOf(t *testing.T, client *http.Client, address string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}
