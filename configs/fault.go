package configs

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	File    string
	Line    int    // 0: the file as a whole
	Path    string // the key's path, such as mirror[2].from; empty: the document
	Problem string
}

func (f Fault) String() string {
	text := filepath.Clean(f.File)
	if f.Line > 0 {
		text += fmt.Sprintf(":%d", f.Line)
	}
	if f.Path != "" {
		text += ": " + f.Path
	}
	return text + ": " + f.Problem
}

// Faults is everything that is wrong with a file, by line.
type Faults struct {
	List  []Fault
	cause error
}

func (f *Faults) Error() string {
	lines := make([]string, len(f.List))
	for i, fault := range f.List {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap is why the file could not be read at all, if it could not.
func (f *Faults) Unwrap() error { return f.cause }

// maxFaults is how many are printed; a file with more has one mistake that
// shows everywhere.
const maxFaults = 100

func (d *decoder) faults() error {
	if len(d.found) == 0 {
		return nil
	}
	slices.SortStableFunc(d.found, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	if n := len(d.found) - maxFaults; n > 0 {
		d.found = append(d.found[:maxFaults], Fault{File: d.file, Problem: fmt.Sprintf("%d faults more", n)})
	}
	return &Faults{List: d.found}
}

// refuse notes a fault.
func (d *decoder) refuse(line int, path, format string, args ...any) {
	d.found = append(d.found, Fault{d.file, line, path, fmt.Sprintf(format, args...)})
}

// refused reports whether a path, what it lies in, or what lies in it has a
// fault already, from which others may follow.
func (d *decoder) refused(path string) bool {
	return slices.ContainsFunc(d.found, func(f Fault) bool {
		return f.Path != "" && (f.Path == path || under(f.Path, path) || under(path, f.Path))
	})
}

func under(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

// shorten keeps a typed text from filling the screen.
func shorten(text string) string {
	const most = 80
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// near is the known word that a person probably meant, or "".
func near(word string, known []string) string {
	best, least := "", 1+len(word)/3
	for _, k := range known {
		if n := distance(strings.ToLower(word), k); n <= least && n < len(k) {
			best, least = k, n-1
		}
	}
	return best
}

// distance is Levenshtein's. Long words are far from all.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left, diagonal := i+1, i
		for j := range len(b) {
			step := diagonal
			if a[i] != b[j] {
				step++
			}
			diagonal = row[j+1]
			row[j], left = left, min(step, left+1, diagonal+1)
		}
		row[len(b)] = left
	}
	return row[len(b)]
}
