package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// key is a public key with the only algorithm that it is used for: what a token
// says of its algorithm chooses nothing.
type key struct {
	algorithm string
	public    crypto.PublicKey
}

// keys are a set, by kid.
type keys map[string]key

const maxKeys = 100

// jwk is a key as it is written. Nothing private is read.
type jwk struct {
	Type string `json:"kty"`
	ID   string `json:"kid"`
	Use  string `json:"use"`
	Alg  string `json:"alg"`
	N    string `json:"n"`
	E    string `json:"e"`
	Crv  string `json:"crv"`
	X    string `json:"x"`
	Y    string `json:"y"`
}

// parseKeys takes every key that can verify. A set without one is refused, and
// so is one in which two keys have the same kid.
func parseKeys(text []byte) (keys, error) {
	var set struct{ Keys []jwk }
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("is not a JSON Web Key Set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("has more than %d keys", maxKeys)
	}
	found := keys{}
	for i, written := range set.Keys {
		k, err := written.key()
		switch {
		case err != nil:
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		case k == nil:
			continue
		}
		if _, again := found[written.ID]; again {
			return nil, fmt.Errorf("keys[%d]: the kid %q is there twice", i, written.ID)
		}
		found[written.ID] = *k
	}
	if len(found) == 0 {
		return nil, errors.New("has no key of RS256, ES256 or EdDSA")
	}
	return found, nil
}

// key is nil for what is there for something else.
func (j jwk) key() (*key, error) {
	if j.Use != "" && j.Use != "sig" {
		return nil, nil
	}
	var k *key
	var err error
	switch {
	case j.Type == "RSA":
		k, err = j.rsa()
	case j.Type == "EC" && j.Crv == "P-256":
		k, err = j.ec()
	case j.Type == "OKP" && j.Crv == "Ed25519":
		k, err = j.ed25519()
	}
	if err != nil || k == nil || j.Alg != "" && j.Alg != k.algorithm {
		return nil, err
	}
	return k, nil
}

func (j jwk) rsa() (*key, error) {
	n, errN := decode(j.N)
	e, errE := decode(j.E)
	if err := errors.Join(errN, errE); err != nil {
		return nil, err
	}
	exponent := new(big.Int).SetBytes(e)
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n)}
	bits := public.N.BitLen()
	if bits < 2048 || bits > 8192 || !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > 1<<31-1 || exponent.Bit(0) == 0 {
		return nil, errors.New("is an RSA key of less than 2048 or more than 8192 bits, or of no proper exponent")
	}
	public.E = int(exponent.Int64())
	return &key{"RS256", public}, nil
}

func (j jwk) ec() (*key, error) {
	x, errX := decode(j.X)
	y, errY := decode(j.Y)
	if err := errors.Join(errX, errY); err != nil {
		return nil, err
	}
	if len(x) != 32 || len(y) != 32 {
		return nil, errors.New("is not a point of P-256")
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, errors.New("is not a point of P-256")
	}
	return &key{"ES256", public}, nil
}

func (j jwk) ed25519() (*key, error) {
	x, err := decode(j.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return nil, errors.New("is not a key of Ed25519")
	}
	return &key{"EdDSA", ed25519.PublicKey(x)}, nil
}

// verifies reports whether the key made the signature.
func (k key) verifies(signed, signature []byte) bool {
	sum := sha256.Sum256(signed)
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	case *ecdsa.PublicKey:
		if len(signature) != 64 {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return ecdsa.Verify(public, sum[:], r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(public, signed, signature)
	}
	return false
}

func decode(text string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(text)
}
