package layout

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/seal"
)

// FormatSealed is the format of a vault that is sealed, and of all its records.
const FormatSealed = 2

// DirKeys is where the key of the names of a sealed vault lies.
const DirKeys = "vault/keys/"

// Encrypted says that a vault is sealed.
type Encrypted struct {
	Names string   `json:"names"` // which key names its contents
	To    []string `json:"to"`    // recipients to whom this key is sealed
}

var namesForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// check holds a record's format against what it says.
func (e *Encrypted) check(format int) error {
	if (e != nil) != (format == FormatSealed) {
		return fmt.Errorf("%w: format %d", ErrDamaged, format)
	}
	if e != nil && !namesForm.MatchString(e.Names) {
		return fmt.Errorf("%w: the key of names is %.40q", ErrDamaged, e.Names)
	}
	return nil
}

// NamesKey is where the sealed key of the names lies.
func NamesKey(id string) string { return DirKeys + id + ".age" }

var nameForm = regexp.MustCompile(`^` + string(seal.HMAC) + `:[0-9a-f]{64}$`)

// CheckName refuses what is neither a digest nor what a sealed vault has in its place.
func CheckName(name digest.Digest) error {
	if nameForm.MatchString(string(name)) {
		return nil
	}
	return CheckDigest(name)
}

// What is wrong when a vault is not what the configuration says.
var (
	ErrSealed = errors.New("it is encrypted, and backup[].encrypt is not set: name its recipients there, or another place in `to`")
	ErrPlain  = errors.New("backup[].encrypt is set, and it was made without: what is there stays readable. A vault is encrypted from its beginning or never: name a new place in `to`, or take encrypt out")
)
