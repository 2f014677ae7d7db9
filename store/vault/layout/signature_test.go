package layout

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func publicOf(keys ...ed25519.PrivateKey) (all []ed25519.PublicKey) {
	for _, k := range keys {
		all = append(all, k.Public().(ed25519.PublicKey))
	}
	return all
}

func signedRecord(t *testing.T, key ed25519.PrivateKey) []byte {
	t.Helper()
	s := Snapshot{Format: Format, ID: ulid.Make().String(), Created: time.Unix(1, 0).UTC(), Closure: digest.FromString("c"),
		Writer: `"value": ""`, Root: ocispec.Descriptor{Digest: digest.FromString("root"), Size: 4}}
	data, err := Sign(key, func(signature *Signature) any { s.Signature = signature; return s })
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func check(t *testing.T, data []byte, keys []ed25519.PublicKey) error {
	t.Helper()
	s, err := ParseSnapshot(data)
	if err != nil {
		return err
	}
	return CheckSignature(data, s.Signature, keys)
}

func TestASignedRecordIsBelievedByWhoTrustsItsKey(t *testing.T) {
	data := signedRecord(t, testKey(1))
	if err := check(t, data, publicOf(testKey(2), testKey(1))); err != nil {
		t.Error(err)
	}
	for name, keys := range map[string][]ed25519.PublicKey{"other keys": publicOf(testKey(2)), "no keys": nil} {
		if err := check(t, data, keys); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoBitOfASignedRecordCanBeChanged(t *testing.T) {
	data := signedRecord(t, testKey(1))
	for i := range data {
		for bit := range 8 {
			changed := bytes.Clone(data)
			changed[i] ^= 1 << bit
			if err := check(t, changed, publicOf(testKey(1))); err == nil {
				t.Fatalf("byte %d (%q to %q) was changed and believed", i, data[i], changed[i])
			}
		}
	}
}

func TestASignatureStandsInOnePlace(t *testing.T) {
	data := signedRecord(t, testKey(1))
	s, err := ParseSnapshot(data)
	if err != nil {
		t.Fatal(err)
	}
	again := bytes.Replace(data, []byte(`"format"`), append(append([]byte(`"x": {`), value(s.Signature.Value)...), `}, "format"`...), 1)
	if err := check(t, again, publicOf(testKey(1))); !errors.Is(err, ErrUntrusted) {
		t.Errorf("with its value twice: %v", err)
	}
	for name, value := range map[string]string{"": "", "short": "AAAA", "not base64": "?"} {
		if err := CheckSignature(data, &Signature{Key: s.Signature.Key, Value: value}, publicOf(testKey(1))); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckSignature(data, nil, publicOf(testKey(1))); !errors.Is(err, ErrUntrusted) {
		t.Errorf("none: %v", err)
	}
}
