package htpasswd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxFile = 4 << 20
	maxName = 255
	// maxCost keeps one login from taking a processor for longer than some
	// seconds; every further one doubles that.
	maxCost = 15
)

var bcryptText = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)

// users are the content of a file. They do not change.
type users struct {
	hashes map[string][]byte
	names  []string
	seed   maphash.Seed
}

// read reads a file. The error has every line that is wrong.
func read(path string) (*users, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s: is larger than %d bytes", path, maxFile)
	}
	return parse(path, text)
}

func parse(path string, text []byte) (*users, error) {
	u := &users{hashes: map[string][]byte{}, seed: maphash.MakeSeed()}
	var errs []error
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := u.add(line); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, n, err))
		}
	}
	if err := errors.Join(append(errs, lines.Err())...); err != nil {
		return nil, err
	}
	slices.Sort(u.names)
	return u, nil
}

// add takes a line. The error tells nothing of what stands after the name.
func (u *users) add(line string) error {
	name, hash, ok := strings.Cut(line, ":")
	if !ok {
		return errors.New("is not a line of the form name:hash")
	}
	if err := checkName(name); err != nil {
		return err
	}
	m := bcryptText.FindStringSubmatch(hash)
	if m == nil {
		return fmt.Errorf("the hash of %q is not of bcrypt (htpasswd -B makes one)", name)
	}
	if cost, _ := strconv.Atoi(m[1]); cost < 4 || cost > maxCost {
		return fmt.Errorf("the hash of %q has cost %d, which is not between 4 and %d (htpasswd -B -C 10 makes one)", name, cost, maxCost)
	}
	if u.hashes[name] != nil {
		return fmt.Errorf("the user %q is there twice", name)
	}
	u.hashes[name] = []byte(hash)
	u.names = append(u.names, name)
	return nil
}

func checkName(name string) error {
	switch {
	case name == "" || name == "*":
		return fmt.Errorf("%q is not a user's name", name)
	case len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("a user's name is longer than 255 bytes, or not of text")
	}
	return nil
}

// hash is what to compare a password with. Of a user that is not known it is
// that of another one, always the same, so that the time that comparing takes
// does not tell who is known.
func (u *users) hash(name string) (hash []byte, known bool) {
	if hash, known = u.hashes[name]; known {
		return hash, true
	}
	if len(u.names) == 0 {
		return nil, false
	}
	other := u.names[maphash.String(u.seed, name)%uint64(len(u.names))]
	return u.hashes[other], false
}
