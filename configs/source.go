package configs

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

const maxValue = 64 << 10

// source is where values from elsewhere come from.
type source struct {
	folder string // of the configuration file
	env    func(string) (string, bool)
	given  []string // values so far
}

var (
	reference = regexp.MustCompile(`\$?\$\{[^}]*\}?`)
	variable  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// expand replaces ${env:NAME} and ${file:PATH}, and says whether there was any.
// The error repeats references only.
func (s *source) expand(text string) (expanded string, found bool, err error) {
	var errs []error
	expanded = reference.ReplaceAllStringFunc(text, func(ref string) string {
		if strings.HasPrefix(ref, "$$") {
			return ref[1:]
		}
		found = true
		value, err := s.value(ref)
		if err != nil {
			errs = append(errs, err)
		}
		s.given = append(s.given, value)
		return value
	})
	if len(errs) > 0 {
		err = errs[0]
	}
	return expanded, found, err
}

func (s *source) value(ref string) (string, error) {
	name, closed := strings.CutSuffix(strings.TrimPrefix(ref, "${"), "}")
	from, name, _ := strings.Cut(name, ":")
	switch {
	case closed && from == "env" && variable.MatchString(name):
		value, ok := s.env(name)
		if !ok {
			return "", fmt.Errorf("%q: the variable is not set", ref)
		}
		return text8(ref, value)
	case closed && from == "file" && name != "":
		return s.content(ref, name)
	}
	return "", errors.New("has ${ that begins neither ${env:NAME} nor ${file:PATH}: write $${ for a literal one")
}

func (s *source) content(ref, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.folder, path)
	}
	content, err := readLimited(path, maxValue)
	if err != nil {
		return "", fmt.Errorf("%q: %w", ref, err)
	}
	text := strings.TrimSuffix(string(content), "\n")
	return text8(ref, strings.TrimSuffix(text, "\r"))
}

func text8(ref, value string) (string, error) {
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return "", fmt.Errorf("%q: what it gives is not text", ref)
	}
	return value, nil
}

// reveals reports whether a message repeats what came from elsewhere.
func (s *source) reveals(message string) bool {
	for _, value := range s.given {
		if value != "" && (strings.Contains(message, value) || strings.Contains(message, strings.Trim(strconv.Quote(value), `"`))) {
			return true
		}
	}
	return false
}

// digest changes with the file and with what came from elsewhere. It is slow
// to compute, so that a password cannot be guessed from it.
func digest(content []byte, given []string) string {
	salt := sha256.Sum256(content)
	sum, err := pbkdf2.Key(sha256.New, fmt.Sprintf("%q", given), salt[:], 10_000, sha256.Size)
	if err != nil {
		panic(err) // only for sizes that are not these
	}
	return "sha256:" + hex.EncodeToString(sum)
}
