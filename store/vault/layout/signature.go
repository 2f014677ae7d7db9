package layout

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrUntrusted says that nobody whom the configuration names vouches for a record.
var ErrUntrusted = errors.New("not signed by a key of backup[].sign or backup[].trust: it is from before signing began, of another key, or of somebody else")

// Signature says who vouches for a record. It stands in the record itself: what is
// signed are the record's bytes with nothing between the quotes of its value.
type Signature struct {
	Key   string `json:"key"`   // KeyID
	Value string `json:"value"` // of Ed25519 (RFC 8032), in base64
}

// KeyID names a public key: the first half of its SHA-256, in hexadecimal digits.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:16])
}

// Sign encodes a record, which encode has with the signature that it is given.
func Sign(key ed25519.PrivateKey, encode func(*Signature) any) ([]byte, error) {
	s := Signature{Key: KeyID(key.Public().(ed25519.PublicKey))}
	data, err := Encode(encode(&s))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(data, value("")); n != 1 {
		return nil, fmt.Errorf("a record with %d places for a signature", n)
	}
	signature := base64.StdEncoding.EncodeToString(ed25519.Sign(key, data))
	return bytes.Replace(data, value(""), value(signature), 1), nil
}

// value is how a signature's value stands in a record, as Encode writes it.
func value(signature string) []byte { return []byte(`"value": "` + signature + `"`) }

// CheckSignature is nil when one of keys has signed data, which is a record that has
// the signature s; else ErrUntrusted.
func CheckSignature(data []byte, s *Signature, keys []ed25519.PublicKey) error {
	if s == nil {
		return fmt.Errorf("%w (it has no signature)", ErrUntrusted)
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(s.Value)
	if err != nil || len(signature) != ed25519.SignatureSize || bytes.Count(data, value(s.Value)) != 1 {
		return fmt.Errorf("%w (its signature is none)", ErrUntrusted)
	}
	signed := bytes.Replace(data, value(s.Value), value(""), 1)
	for _, key := range keys {
		if KeyID(key) == s.Key && ed25519.Verify(key, signed, signature) {
			return nil
		}
	}
	return fmt.Errorf("%w (the key %.40q is said to have signed it)", ErrUntrusted, s.Key)
}
