package htpasswd

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
)

// seal makes tokens that only this process can make.
type seal struct{ key [sha256.Size]byte }

func newSeal() (s seal) {
	rand.Read(s.key[:])
	return s
}

// sum is over everything that ends a token: its time, and the user's hash.
func (s seal) sum(name string, until int64, hash []byte) []byte {
	h := hmac.New(sha256.New, s.key[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(until)))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(name))))
	h.Write([]byte(name))
	h.Write(hash)
	return h.Sum(nil)
}

// prefix marks our tokens; scanners of leaked secrets know such words.
const prefix = "lastro_"

// Token says for a while who somebody is: a user, or nobody, who is all that is
// not a user of the file. It ends with the process, and when the user's password
// is another.
func (c *Checker) Token(name string, ttl time.Duration) string {
	hash, exists := c.current().hashes[name]
	if !exists {
		name = ""
	}
	until := c.o.Now().Add(ttl).Unix()
	raw := binary.BigEndian.AppendUint64(nil, uint64(until))
	raw = append(raw, c.seal.sum(name, until, hash)...)
	return prefix + base64.RawURLEncoding.EncodeToString(append(raw, name...))
}

// Owner is who a token is of. Without ok it is not one of ours, or not any
// more.
func (c *Checker) Owner(token string) (name string, ok bool) {
	text, ok := strings.CutPrefix(token, prefix)
	if !ok || len(text) > 2*maxName {
		return "", false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < 8+sha256.Size {
		return "", false
	}
	until, sum, name := int64(binary.BigEndian.Uint64(raw)), raw[8:8+sha256.Size], string(raw[8+sha256.Size:])
	hash, exists := c.current().hashes[name]
	if !hmac.Equal(sum, c.seal.sum(name, until, hash)) || name != "" && !exists {
		return "", false
	}
	return name, c.o.Now().Unix() < until
}
