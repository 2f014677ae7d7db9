package configs

import (
	"encoding"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"lastro/mirror"
)

// decoder makes settings of a document, and notes every fault.
type decoder struct {
	file   string
	source source
	places map[string]place // by path
	found  []Fault
}

// place is where a value stands.
type place struct {
	line    int
	example string // with its brackets, or ""
	written string // in the file, for scalars
	text    bool   // written is one
	hidden  bool   // a secret, or from elsewhere
	secret  bool
}

// masks are what show prints in place of values that came from elsewhere.
func (d *decoder) masks() map[string]string {
	masks := map[string]string{}
	for path, p := range d.places {
		if p.hidden {
			masks[path] = p.shown()
		}
	}
	return masks
}

var (
	inAddress = regexp.MustCompile(`//[^/]*@`)
	inQuery   = regexp.MustCompile(`\?.*`)
)

// shown is the value as it may be printed.
func (p place) shown() string {
	switch {
	case p.secret:
		return "***"
	case strings.Contains(p.written, "://"):
		return inQuery.ReplaceAllString(inAddress.ReplaceAllString(p.written, "//***@"), "?***")
	}
	return p.written
}

// quoted is the value as a fault prints it.
func (p place) quoted() string {
	if p.secret || !p.text {
		return shorten(p.shown())
	}
	return strconv.Quote(shorten(p.shown()))
}

func (d *decoder) decode(n ast.Node, s *shape, v reflect.Value, path string) {
	at := d.places[path]
	at.line = n.GetToken().Position.Line
	d.places[path] = at
	v = s.pointed(v)
	if _, isNull := n.(*ast.NullNode); isNull {
		d.refuse(at.line, path, "is empty: write %s, or leave the key out%s", s.what(), at.example)
	} else if !d.fill(n, s, v, path) {
		d.refuse(at.line, path, "is %s, and must be %s%s", kindOf(n), s.what(), at.example)
	}
}

// fill makes a value of a node, or reports that the node is not of the shape.
func (d *decoder) fill(n ast.Node, s *shape, v reflect.Value, path string) bool {
	pairs, isMapping := pairsOf(n)
	list, isList := n.(*ast.SequenceNode)
	switch {
	case s.form != nil:
		d.decodeScalar(n, s.form, v, path)
	case isList && s.elem != nil && !s.keyed:
		d.decodeList(list, s, v, path)
	case s.one:
		v.Set(reflect.MakeSlice(s.typ, 1, 1))
		s.elem.setDefault(v.Index(0))
		d.decode(n, s.elem, v.Index(0), path)
	case isMapping && s.keyed:
		d.decodeTable(pairs, s, v, path)
	case isMapping && s.fields != nil:
		d.decodeMapping(pairs, s, v, path)
	case isList || isMapping:
		return false
	default:
		return d.fillText(n, s, v, path)
	}
	return true
}

// fillText takes a scalar in place of a mapping.
func (d *decoder) fillText(n ast.Node, s *shape, v reflect.Value, path string) bool {
	switch {
	case s.words != nil:
		d.decodeWord(n, s, v, path)
	case s.short != nil:
		d.decode(n, s.short.shape, v.FieldByIndex(s.short.index), path)
	default:
		return false
	}
	return true
}

func pairsOf(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

func (d *decoder) decodeList(n *ast.SequenceNode, s *shape, v reflect.Value, path string) {
	if len(n.Values) == 0 {
		d.refuse(d.places[path].line, path, "is an empty list: name one, or leave the key out%s", d.places[path].example)
	}
	v.Set(reflect.MakeSlice(s.typ, len(n.Values), len(n.Values)))
	for i, value := range n.Values {
		item := s.item(path, i, len(n.Values))
		d.places[item] = place{example: d.places[path].example}
		s.elem.setDefault(v.Index(i))
		d.decode(value, s.elem, v.Index(i), item)
	}
}

func (d *decoder) decodeTable(pairs []*ast.MappingValueNode, s *shape, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(s.typ))
	for _, pair := range d.unique(pairs, s, path) {
		key := keyOf(pair)
		item := s.path(path, key)
		if !isHost(key) {
			d.refuse(pair.Key.GetToken().Position.Line, item, "%q is not a host as it stands in image names%s", shorten(key), d.places[path].example)
		}
		value := reflect.New(s.elem.typ).Elem()
		s.elem.setDefault(value)
		d.decode(pair.Value, s.elem, value, item)
		v.SetMapIndex(reflect.ValueOf(key), value)
	}
}

// isHost reports whether image names can begin with the text as their host.
func isHost(text string) bool {
	ref, err := mirror.ParseReference(text + "/a/b")
	return err == nil && ref.Host == text
}

func (d *decoder) decodeMapping(pairs []*ast.MappingValueNode, s *shape, v reflect.Value, path string) {
	if s.words != nil {
		v.SetZero()
	}
	seen := map[string]bool{}
	for _, pair := range d.unique(pairs, s, path) {
		key := keyOf(pair)
		f := s.find(key)
		if f == nil {
			d.refuseKey(pair, s, path)
			continue
		}
		seen[key] = true
		d.places[s.path(path, key)] = place{example: f.hint()}
		d.decode(pair.Value, f.shape, v.FieldByIndex(f.index), s.path(path, key))
	}
	for _, f := range s.fields {
		if f.required && !seen[f.name] {
			d.refuse(d.places[path].line, s.path(path, f.name), "is missing%s", f.hint())
		}
	}
}

// unique notes keys that are there twice, and keeps the first.
func (d *decoder) unique(pairs []*ast.MappingValueNode, s *shape, path string) []*ast.MappingValueNode {
	first := map[string]int{}
	return slices.DeleteFunc(slices.Clone(pairs), func(pair *ast.MappingValueNode) bool {
		key, line := keyOf(pair), pair.Key.GetToken().Position.Line
		before, again := first[key]
		if again {
			d.refuse(line, s.path(path, key), "is there twice: first on line %d", before)
			return true
		}
		first[key] = line
		return false
	})
}

func (d *decoder) refuseKey(pair *ast.MappingValueNode, s *shape, path string) {
	key := keyOf(pair)
	line, full := pair.Key.GetToken().Position.Line, s.path(path, key)
	if absent(full) {
		d.refuse(line, full, "is not available in this version")
		return
	}
	hint := "the keys here are " + strings.Join(s.names(), ", ")
	if known := near(key, s.names()); known != "" {
		hint = "did you mean " + known + "?"
	}
	d.refuse(line, full, "is not a key (%s)", hint)
}

// decodeWord takes a text in place of a mapping. It does not print the text:
// somebody may have put a password there.
func (d *decoder) decodeWord(n ast.Node, s *shape, v reflect.Value, path string) {
	text, ok := d.text(n, wordForm, path)
	if !ok {
		return
	}
	at := d.places[path]
	if v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)) != nil {
		d.refuse(at.line, path, "must be %s%s", s.what(), at.example)
		return
	}
	at.secret, at.hidden = false, text != at.written
	d.places[path] = at
}

var wordForm = &form{name: "a text", json: "string", secret: true}

func (d *decoder) decodeScalar(n ast.Node, f *form, v reflect.Value, path string) {
	text, ok := d.text(n, f, path)
	if !ok {
		return
	}
	if f.file && !filepath.IsAbs(text) {
		text = filepath.Join(d.source.folder, text)
	}
	if err := f.parse(text, v); err != nil {
		d.refuseValue(path, err)
	}
}

// text is a scalar with what it refers to filled in.
func (d *decoder) text(n ast.Node, f *form, path string) (string, bool) {
	at := d.places[path]
	at.secret, at.hidden = f.secret, f.secret
	written, json := scalarOf(n)
	at.written, at.text = written, json == "string"
	d.places[path] = at
	if json != f.json && (json == "" || json != f.also) {
		d.refuseKind(n, f, path)
		return "", false
	}
	if json != "string" {
		return written, true
	}
	text, found, err := d.source.expand(written)
	if found {
		at.hidden = true
		d.places[path] = at
	}
	switch {
	case err != nil:
		d.refuse(at.line, path, "%s%s", err, at.example)
	case text == "":
		d.refuse(at.line, path, "is empty: write a value, or leave the key out%s", at.example)
	case !f.secret && strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		d.refuse(at.line, path, "has a control character or a line break in it%s", at.example)
	default:
		return text, true
	}
	return "", false
}

// refuseKind notes a scalar of another type.
func (d *decoder) refuseKind(n ast.Node, f *form, path string) {
	at, is := d.places[path], kindOf(n)
	if _, json := scalarOf(n); json != "" {
		is = at.quoted()
	}
	hint := ""
	if f.json == "string" && at.written != "" {
		hint = ": put it into quotes"
	}
	d.refuse(at.line, path, "is %s, and must be %s%s%s", is, f.name, hint, at.example)
}

// refuseValue notes what is wrong with a value, and prints it if it may.
func (d *decoder) refuseValue(path string, problem error) {
	at, message := d.places[path], problem.Error()
	_, safe := errors.AsType[discreet](problem)
	switch {
	case at.hidden && safe:
		message = at.quoted() + " is not valid here: " + message
	case at.hidden:
		message = at.quoted() + " is not valid here"
	case d.source.reveals(message):
		message = "is not valid here"
	case at.written != "" && at.shown() != at.written:
		message = at.quoted() + " is not valid here: " + strings.ReplaceAll(message, at.written, at.shown())
	case at.written != "" && !strings.Contains(message, strings.Trim(at.quoted(), `"`)):
		message = at.quoted() + " " + message
	}
	if !strings.Contains(message, "(example") {
		message += at.example
	}
	d.refuse(at.line, path, "%s", message)
}

// hint is the example as a fault ends with it.
func (f field) hint() string {
	switch {
	case f.example == "":
		return ""
	case f.shape.form != nil && f.shape.form.json != "string":
		return fmt.Sprintf(" (example: %s)", f.example)
	}
	return fmt.Sprintf(" (example: %q)", f.example)
}

// item is the path of one of n elements. Where a list need not be one, its only
// element has the path of the list.
func (s *shape) item(parent string, i, n int) string {
	if s.one && n == 1 {
		return parent
	}
	return fmt.Sprintf("%s[%d]", parent, i)
}

// path is that of a key.
func (s *shape) path(parent, key string) string {
	switch {
	case s.keyed:
		return fmt.Sprintf("%s[%s]", parent, shorten(key))
	case parent == "":
		return shorten(key)
	}
	return parent + "." + shorten(key)
}
