package ledger

import (
	"bytes"
	_ "crypto/sha256" // so that digests of both kinds validate
	_ "crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// maxName bounds the names that become keys; the distribution specification
// allows far less.
const maxName = 4096

// The algorithm bytes of digests in keys. They are on disk: only add.
const (
	keySHA256 = 1
	keySHA512 = 2
)

var errKey = errors.New("malformed key")

// appendDigest appends the key form of d.
func appendDigest(key []byte, d digest.Digest) ([]byte, error) {
	// Nearly all are of this kind, and a regular expression takes its time.
	if encoded, ok := strings.CutPrefix(string(d), "sha256:"); ok && len(encoded) == 64 && strings.Trim(encoded, "0123456789abcdef") == "" {
		return hex.AppendDecode(append(key, keySHA256), []byte(encoded))
	}
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", string(d), err)
	}
	switch d.Algorithm() {
	case digest.SHA256:
		key = append(key, keySHA256)
	case digest.SHA512:
		key = append(key, keySHA512)
	default:
		return nil, fmt.Errorf("digest %q: %w", string(d), digest.ErrDigestUnsupported)
	}
	return hex.AppendDecode(key, []byte(d.Encoded()))
}

// cutDigest reads the digest that key starts with.
func cutDigest(key []byte) (d digest.Digest, rest []byte, err error) {
	if len(key) == 0 {
		return "", nil, errKey
	}
	alg, size := digest.SHA256, 32
	switch key[0] {
	case keySHA256:
	case keySHA512:
		alg, size = digest.SHA512, 64
	default:
		return "", nil, errKey
	}
	if len(key) < 1+size {
		return "", nil, errKey
	}
	return digest.NewDigestFromEncoded(alg, hex.EncodeToString(key[1:1+size])), key[1+size:], nil
}

// lastDigest reads a key that is one digest and nothing else.
func lastDigest(key []byte) (digest.Digest, error) {
	d, rest, err := cutDigest(key)
	if err == nil && len(rest) > 0 {
		err = errKey
	}
	return d, err
}

func digestKey(d digest.Digest) ([]byte, error) {
	return appendDigest(make([]byte, 0, 33), d)
}

// digestsKey is the key of a pair, such as a child and its parent.
func digestsKey(a, b digest.Digest) ([]byte, error) {
	key, err := appendDigest(make([]byte, 0, 66), a)
	if err != nil {
		return nil, err
	}
	return appendDigest(key, b)
}

// namePrefix is the start of all keys below names: each followed by a zero.
func namePrefix(names ...string) []byte {
	return append([]byte(strings.Join(names, "\x00")), 0)
}

// tagKey ends without a zero: it is the whole key.
func tagKey(repo, tag string) []byte { return []byte(repo + "\x00" + tag) }

// repoDigestKey is the key of a digest in a repository.
func repoDigestKey(repo string, d digest.Digest) ([]byte, error) {
	return appendDigest(namePrefix(repo), d)
}

// cutName reads the name that key starts with.
func cutName(key []byte) (name string, rest []byte, err error) {
	before, after, ok := bytes.Cut(key, []byte{0})
	if !ok {
		return "", nil, errKey
	}
	return string(before), after, nil
}

// checkName refuses what cannot be part of a key.
func checkName(what, name string) error {
	switch {
	case len(name) > maxName:
		return fmt.Errorf("%s %.40q…: longer than %d bytes", what, name, maxName)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("%s %q: contains a zero byte", what, name)
	case !utf8.ValidString(name):
		return fmt.Errorf("%s %q: not UTF-8", what, name)
	}
	return nil
}

func checkRepo(repo string) error {
	if repo == "" {
		return errors.New("repository is empty")
	}
	return checkName("repository", repo)
}

func checkTime(t time.Time) error {
	if !time.Unix(0, t.UnixNano()).Equal(t) {
		return fmt.Errorf("time %s is out of range", t)
	}
	return nil
}

// appendTime appends the key form of t, which sorts. It holds the years 1678
// to 2261.
func appendTime(key []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(key, uint64(t.UnixNano())^1<<63)
}

// cutTime reads the time that key starts with.
func cutTime(key []byte) (t time.Time, rest []byte, err error) {
	if len(key) < 8 {
		return time.Time{}, nil, errKey
	}
	n := int64(binary.BigEndian.Uint64(key) ^ 1<<63)
	return time.Unix(0, n).UTC(), key[8:], nil
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func number(key []byte) (uint64, error) {
	if len(key) != 8 {
		return 0, errKey
	}
	return binary.BigEndian.Uint64(key), nil
}
