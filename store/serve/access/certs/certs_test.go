package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// authority signs.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	as := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, as, as, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue is a pair in PEM.
func (a *authority) issue(t *testing.T, serial int64, name string, dns ...string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	as := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: dns, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, as, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey})
}

type fixture struct {
	*Keeper
	*authority
	settings Settings
	now      atomic.Int64
	log      bytes.Buffer
	addr     string
}

func put(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) write(t *testing.T, serial int64) {
	t.Helper()
	cert, key := f.issue(t, serial, "")
	put(t, f.settings.Certificate, cert)
	put(t, f.settings.Key, key)
}

func (f *fixture) pass(d time.Duration) { f.now.Add(int64(d)) }

// newFixture serves the user's name over TLS.
func newFixture(t *testing.T, clients *authority) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{authority: newAuthority(t), settings: Settings{Certificate: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key")}}
	f.write(t, 1)
	if clients != nil {
		f.settings.ClientCA = filepath.Join(dir, "ca")
		put(t, f.settings.ClientCA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: clients.cert.Raw}))
	}
	var err error
	f.Keeper, err = Open(f.settings, slog.New(slog.NewTextHandler(&f.log, nil)), func() time.Time { return time.Unix(1e9, f.now.Load()) })
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: f.Config(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _ := User(r.TLS)
		io.WriteString(w, r.Proto+" "+name)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { server.ServeTLS(l, "", "") })
	t.Cleanup(func() { server.Close(); wg.Wait() })
	f.addr = l.Addr().String()
	return f
}

// serial is that of the certificate that a new client sees.
func (f *fixture) serial() (int64, error) {
	c, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: f.pool})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func (f *fixture) sees(t *testing.T, when string, want int64) {
	t.Helper()
	if got, err := f.serial(); err != nil || got != want {
		t.Errorf("%s: certificate %d, want %d: %v", when, got, want, err)
	}
}

func TestACertificateIsRenewed(t *testing.T) {
	f := newFixture(t, nil)
	f.sees(t, "at first", 1)
	f.write(t, 2)
	f.sees(t, "too early", 1)
	f.pass(3 * time.Second)
	f.sees(t, "in time", 2)
	f.write(t, 3)
	f.Reload()
	f.sees(t, "at once", 3)
}

func TestABadPairKeepsTheOldAndIsReportedOnce(t *testing.T) {
	f := newFixture(t, nil)
	cert, key := f.issue(t, 2, "")
	put(t, f.settings.Certificate, cert)
	for range 4 {
		f.pass(3 * time.Second)
		f.sees(t, "of half a pair", 1)
	}
	if n := strings.Count(f.log.String(), "certificate not read"); n != 1 {
		t.Errorf("%d reports: %s", n, &f.log)
	}
	put(t, f.settings.Key, key)
	f.pass(3 * time.Second)
	f.sees(t, "of the whole", 2)
	if err := os.Remove(f.settings.Key); err != nil {
		t.Fatal(err)
	}
	f.pass(3 * time.Second)
	f.sees(t, "without a key", 2)
}

func TestAHundredHandshakesWhileTheFilesAreSwapped(t *testing.T) {
	f := newFixture(t, nil)
	stop := make(chan struct{})
	var swaps sync.WaitGroup
	swaps.Go(func() {
		for n := int64(2); ; n++ {
			select {
			case <-stop:
				return
			default:
				f.write(t, n)
				f.pass(3 * time.Second)
			}
		}
	})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := f.serial(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(stop)
	swaps.Wait()
	f.pass(3 * time.Second)
	if n, err := f.serial(); err != nil || n < 2 {
		t.Errorf("certificate %d: %v", n, err)
	}
}

func TestWhoACertificateNames(t *testing.T) {
	clients := newAuthority(t)
	f := newFixture(t, clients)
	get := func(a *authority, name string, dns ...string) (string, error) {
		tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: f.pool}}
		defer tr.CloseIdleConnections()
		if a != nil {
			cert, key := a.issue(t, 7, name, dns...)
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			tr.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		resp, err := (&http.Client{Transport: tr}).Get("https://" + f.addr)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return string(text), err
	}
	for _, c := range []struct {
		name string
		a    *authority
		cn   string
		dns  []string
		want string
	}{
		{"no certificate", nil, "", nil, "HTTP/2.0 "},
		{"a common name", clients, "ci", []string{"x.example"}, "HTTP/2.0 ci"},
		{"a DNS name", clients, "", []string{"x.example"}, "HTTP/2.0 x.example"},
	} {
		got, err := get(c.a, c.cn, c.dns...)
		if err != nil || got != c.want {
			t.Errorf("%s: %q %v", c.name, got, err)
		}
	}
	if _, ok := User(&tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: "*"}}}}}); ok {
		t.Error("somebody is everybody")
	}
	if got, err := get(newAuthority(t), "ci"); err == nil {
		t.Errorf("another authority's: %q", got)
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	if c, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: f.pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

func TestFilesThatAreWrongAtFirst(t *testing.T) {
	f := newFixture(t, newAuthority(t))
	for name, spoil := range map[string]func(*Settings){
		"no certificate": func(s *Settings) { s.Certificate += "x" },
		"no CA":          func(s *Settings) { s.ClientCA += "x" },
		"a CA of a key":  func(s *Settings) { s.ClientCA = s.Key },
	} {
		s := f.settings
		spoil(&s)
		if _, err := Open(s, slog.New(slog.DiscardHandler), time.Now); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
}
