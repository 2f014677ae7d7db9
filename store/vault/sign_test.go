package vault_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault"
	"lastro/store/vault/layout"
)

// signer is a key as the configuration has it.
type signer struct{ private, public string }

func newSigner(t *testing.T, seed byte) signer {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer{string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), base64.StdEncoding.EncodeToString(public)}
}

// signedVault is a vault for somebody who signs with a key and trusts others.
func signedVault(t *testing.T, dir string, sign string, trust ...string) *vault.Vault {
	t.Helper()
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + dir, Sign: sign, Trust: trust}, vault.Options{Now: (&clock{}).now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestOnlySnapshotsOfWhomOneTrustsAreRestored(t *testing.T) {
	mine, other := newSigner(t, 1), newSigner(t, 2)
	cases := []struct {
		name   string
		signed string
		reader func(t *testing.T, dir string) *vault.Vault
		want   error
	}{
		{"one's own", mine.private, func(t *testing.T, dir string) *vault.Vault { return signedVault(t, dir, mine.private) }, nil},
		{"that of a key of trust, by who signs himself", other.private, func(t *testing.T, dir string) *vault.Vault { return signedVault(t, dir, mine.private, other.public) }, nil},
		{"that of a key of trust, by who does not sign", mine.private, func(t *testing.T, dir string) *vault.Vault { return signedVault(t, dir, "", other.public, mine.public) }, nil},
		{"any, by who trusts nobody in particular", other.private, func(t *testing.T, dir string) *vault.Vault { return signedVault(t, dir, "") }, nil},
		{"that of another key", other.private, func(t *testing.T, dir string) *vault.Vault { return signedVault(t, dir, mine.private) }, vault.ErrUntrusted},
		{"one without a signature", "", func(t *testing.T, dir string) *vault.Vault { return signedVault(t, dir, mine.private) }, vault.ErrUntrusted},
		{"one without a signature, by who does not sign", "", func(t *testing.T, dir string) *vault.Vault { return signedVault(t, dir, "", mine.public) }, vault.ErrUntrusted},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir, st := t.TempDir(), newStore(t, &clock{})
			publish(t, st, "r", "1", plain("a"))
			backup(t, signedVault(t, dir, c.signed), st)
			to := newStore(t, &clock{})
			_, err := c.reader(t, dir).Restore(t.Context(), to, vault.RestoreOptions{}, nil)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("restore: %v", err)
			}
			if repos := to.Repositories(t.Context()); c.want != nil {
				for repo := range repos {
					t.Errorf("%s is there", repo)
				}
			}
			report := verified(t, c.reader(t, dir), "")
			if bad := len(report.Problems) > 0; bad != (c.want != nil) || bad && report.Problems[0].Kind != "untrusted" {
				t.Errorf("verify: %+v", report.Problems)
			}
		})
	}
}

// forge replaces the commit record of the only snapshot, with the head that says so.
func forge(t *testing.T, dir string, change func(s *layout.Snapshot)) {
	t.Helper()
	var h layout.Head
	head := filepath.Join(dir, layout.KeyHead)
	readJSON(t, head, &h)
	var s layout.Snapshot
	record := filepath.Join(dir, h.Snapshots[0].Record)
	readJSON(t, record, &s)
	change(&s)
	raw, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	h.Snapshots[0].Digest, h.Snapshots[0].Root = digest.FromBytes(raw), s.Root.Digest
	changed, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{record: raw, head: changed} {
		if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhoCanWriteToTheVaultCannotChangeASignedSnapshot(t *testing.T) {
	mine := newSigner(t, 1)
	forgeries := map[string]func(s *layout.Snapshot){
		"another root":     func(s *layout.Snapshot) { s.Root.Digest = digest.FromString("other") },
		"no history":       func(s *layout.Snapshot) { s.History.Segments = nil },
		"another time":     func(s *layout.Snapshot) { s.Created = s.Created.AddDate(1, 0, 0) },
		"no signature":     func(s *layout.Snapshot) { s.Signature = nil },
		"an empty one":     func(s *layout.Snapshot) { s.Signature.Value = "" },
		"another key's id": func(s *layout.Snapshot) { s.Signature.Key = strings.Repeat("0", 32) },
	}
	for name, change := range forgeries {
		t.Run(name, func(t *testing.T) {
			dir, st := t.TempDir(), newStore(t, &clock{})
			publish(t, st, "r", "1", plain("a"))
			v := signedVault(t, dir, mine.private)
			backup(t, v, st)
			forge(t, dir, change)
			if _, err := v.Restore(t.Context(), newStore(t, &clock{}), vault.RestoreOptions{}, nil); !errors.Is(err, vault.ErrUntrusted) {
				t.Errorf("restore: %v", err)
			}
			// The next backup builds nothing on it.
			backup(t, v, st)
			wantSound(t, v, "")
			if _, err := v.Restore(t.Context(), newStore(t, &clock{}), vault.RestoreOptions{}, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSigningBeginsInAVaultThatIsThere(t *testing.T) {
	mine := newSigner(t, 1)
	dir, st := t.TempDir(), newStore(t, &clock{})
	publish(t, st, "r", "1", plain("a"))
	backup(t, signedVault(t, dir, ""), st)
	v := signedVault(t, dir, mine.private)
	if r := backup(t, v, st); r.NewBlobs > 1 { // perhaps a segment of the history
		t.Errorf("sent again: %+v", r)
	}
	list, err := v.List(t.Context())
	if err != nil || len(list.Snapshots) != 2 || list.Snapshots[0].Signed || !list.Snapshots[1].Signed {
		t.Errorf("%+v, %v", list, err)
	}
	wantSound(t, v, "")
}

func TestAReportOfADrillIsSigned(t *testing.T) {
	mine := newSigner(t, 1)
	dir, st := t.TempDir(), newStore(t, &clock{})
	publish(t, st, "r", "1", plain("a"))
	v := signedVault(t, dir, mine.private)
	backup(t, v, st)
	r, err := v.Drill(t.Context(), newScratch(t), vault.DrillOptions{Rand: newRand(1)}, nil)
	if err != nil || !r.OK || r.Signature == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	reports := files(t, dir, "vault/drills")
	if len(reports) != 1 {
		t.Fatalf("%q", reports)
	}
	raw, err := os.ReadFile(filepath.Join(dir, reports[0]))
	if err != nil {
		t.Fatal(err)
	}
	der, err := base64.StdEncoding.DecodeString(mine.public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := layout.CheckSignature(raw, r.Signature, []ed25519.PublicKey{key.(ed25519.PublicKey)}); err != nil {
		t.Error(err)
	}
	if err := layout.CheckSignature(bytes.Replace(raw, []byte(`"ok": true`), []byte(`"ok": false`), 1), r.Signature, []ed25519.PublicKey{key.(ed25519.PublicKey)}); err == nil {
		t.Error("changed, and believed")
	}
}

func TestKeysThatAreNoneAreRefusedAndNotRepeated(t *testing.T) {
	mine := newSigner(t, 1)
	for name, s := range map[string]vault.Settings{
		"no PEM":            {Sign: "hunter2"},
		"a public key":      {Sign: "-----BEGIN PUBLIC KEY-----\n" + mine.public + "\n-----END PUBLIC KEY-----\n"},
		"garbage in PEM":    {Sign: "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"},
		"trust in no one":   {Trust: []string{""}},
		"trust in a secret": {Trust: []string{base64.StdEncoding.EncodeToString([]byte("hunter2"))}},
	} {
		s.Name, s.To = "main", "file:///srv/vault"
		err := s.Validate()
		if err == nil || !strings.Contains(err.Error(), "openssl") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "aHVudGVyMg") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
