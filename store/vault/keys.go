package vault

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
)

// keyError says what a text is not, and nothing of what it is: see configs.
type keyError string

func (e keyError) Error() string { return string(e) }

// Discreet says that it may be printed of a secret.
func (keyError) Discreet() {}

const (
	errNoPrivateKey keyError = "not an Ed25519 private key in PEM (openssl genpkey -algorithm ed25519 -out vault.key makes one)"
	errNoPublicKey  keyError = "not an Ed25519 public key in base64 (the middle line of openssl pkey -in vault.key -pubout)"
)

// keys are who signs, nil for nobody, and whose signatures are believed. What the
// private key reads like is not repeated in an error.
func (s Settings) keys() (sign ed25519.PrivateKey, trust []ed25519.PublicKey, err error) {
	if s.Sign != "" {
		if sign, err = privateKey(s.Sign); err != nil {
			return nil, nil, fmt.Errorf("sign: %w", err)
		}
		trust = append(trust, sign.Public().(ed25519.PublicKey))
	}
	for i, text := range s.Trust {
		key, err := publicKey(text)
		if err != nil {
			return nil, nil, fmt.Errorf("trust[%d]: %w", i, err)
		}
		trust = append(trust, key)
	}
	return sign, trust, nil
}

func privateKey(text string) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errNoPrivateKey
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, errNoPrivateKey
	}
	return private, nil
}

func publicKey(text string) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errNoPublicKey
	}
	key, err := x509.ParsePKIXPublicKey(raw)
	public, ok := key.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, errNoPublicKey
	}
	return public, nil
}
