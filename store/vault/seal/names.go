package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"
)

// HMAC is how digests are called that stand in for others.
const HMAC = digest.Algorithm("hmac-sha256")

// Names gives contents other names than their digests. Its text is the key, in
// hexadecimal digits.
type Names struct{ key []byte }

const keySize = 32

// NewNames draws a key.
func NewNames() *Names {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it never fails
	return &Names{key}
}

// ParseNames reads what Text has written.
func ParseNames(text []byte) (*Names, error) {
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keySize {
		return nil, errors.New("not the key of a vault's names: 64 hexadecimal digits")
	}
	return &Names{key}, nil
}

// Text is the key on a line.
func (n *Names) Text() []byte { return []byte(hex.EncodeToString(n.key) + "\n") }

// ID tells one key from another, and nothing of it.
func (n *Names) ID() string { return n.sum("the name of this key")[:32] }

// Of is the name of a content.
func (n *Names) Of(d digest.Digest) digest.Digest {
	return digest.NewDigestFromEncoded(HMAC, n.sum(d.String()))
}

func (n *Names) sum(text string) string {
	h := hmac.New(sha256.New, n.key)
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}
