package configs

import (
	"cmp"
	"encoding"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
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
	example string
	written string // in the file, for scalars
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

// shown is the value as it may be printed.
func (p place) shown() string {
	if p.secret {
		return "***"
	}
	return p.written
}

func (d *decoder) decode(n ast.Node, s *shape, v reflect.Value, path string) {
	at := d.places[path]
	at.line = n.GetToken().Position.Line
	d.places[path] = at
	_, isNull := n.(*ast.NullNode)
	pairs, isMapping := pairsOf(n)
	list, isList := n.(*ast.SequenceNode)
	switch {
	case isNull:
		d.refuse(at.line, path, "is empty: write %s, or leave the key out%s", s.what(), example(at.example))
	case s.form != nil:
		d.decodeScalar(n, s.form, v, path)
	case s.elem != nil && !s.keyed && isList:
		d.decodeList(list, s, v, path)
	case s.keyed && isMapping:
		d.decodeTable(pairs, s, v, path)
	case s.fields != nil && isMapping:
		d.decodeMapping(pairs, s, v, path)
	case s.words != nil && !isList && !isMapping:
		d.decodeWord(n, s, v, path)
	default:
		d.refuse(at.line, path, "is %s, and must be %s%s", kindOf(n), s.what(), example(at.example))
	}
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
		d.refuse(d.places[path].line, path, "is an empty list: leave the key out%s", example(d.places[path].example))
	}
	v.Set(reflect.MakeSlice(s.typ, len(n.Values), len(n.Values)))
	for i, value := range n.Values {
		item := fmt.Sprintf("%s[%d]", path, i)
		d.places[item] = place{example: d.places[path].example}
		s.elem.setDefault(v.Index(i))
		d.decode(value, s.elem, v.Index(i), item)
	}
}

func (d *decoder) decodeTable(pairs []*ast.MappingValueNode, s *shape, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(s.typ))
	for _, pair := range d.unique(pairs, path) {
		key := keyOf(pair)
		item := fmt.Sprintf("%s[%s]", path, shorten(key))
		if !isHost(key) {
			d.refuse(pair.Key.GetToken().Position.Line, item, "%q is not a host as it stands in image names%s", shorten(key), example(d.places[path].example))
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
	for _, pair := range d.unique(pairs, path) {
		key := keyOf(pair)
		f := s.find(key)
		if f == nil {
			d.refuseKey(pair, s, path)
			continue
		}
		seen[key] = true
		d.places[join(path, key)] = place{example: f.example}
		d.decode(pair.Value, f.shape, v.FieldByIndex(f.index), join(path, key))
	}
	for _, f := range s.fields {
		if f.required && !seen[f.name] {
			d.refuse(d.places[path].line, join(path, f.name), "is missing%s", example(f.example))
		}
	}
}

// unique notes keys that are there twice, and keeps the first.
func (d *decoder) unique(pairs []*ast.MappingValueNode, path string) []*ast.MappingValueNode {
	first := map[string]int{}
	return slices.DeleteFunc(slices.Clone(pairs), func(pair *ast.MappingValueNode) bool {
		key, line := keyOf(pair), pair.Key.GetToken().Position.Line
		before, again := first[key]
		if again {
			d.refuse(line, join(path, shorten(key)), "is there twice: first on line %d", before)
			return true
		}
		first[key] = line
		return false
	})
}

func (d *decoder) refuseKey(pair *ast.MappingValueNode, s *shape, path string) {
	key := keyOf(pair)
	line, full := pair.Key.GetToken().Position.Line, join(path, shorten(key))
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

// decodeWord takes a text in place of a mapping.
func (d *decoder) decodeWord(n ast.Node, s *shape, v reflect.Value, path string) {
	text, ok := d.text(n, &form{json: "string"}, path)
	if !ok {
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
		d.refuseValue(path, err)
	}
}

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
	at.written = written
	d.places[path] = at
	if json != f.json {
		hint := ""
		if f.json == "string" && json != "" {
			hint = ": put it into quotes"
		}
		d.refuse(at.line, path, "is %s, and must be %s%s%s", kindOf(n), cmp.Or(f.name, "a text"), hint, example(at.example))
		return "", false
	}
	if f.json != "string" {
		return written, true
	}
	text, found, err := d.source.expand(written)
	if found {
		at.hidden = true
		d.places[path] = at
	}
	switch {
	case err != nil:
		d.refuse(at.line, path, "%s%s", err, example(at.example))
	case text == "":
		d.refuse(at.line, path, "is empty: write a value, or leave the key out%s", example(at.example))
	case !f.secret && strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		d.refuse(at.line, path, "has a control character or a line break in it%s", example(at.example))
	default:
		return text, true
	}
	return "", false
}

// refuseValue notes what is wrong with a value, and prints it if it may.
func (d *decoder) refuseValue(path string, problem error) {
	at, message := d.places[path], problem.Error()
	if at.hidden || d.source.reveals(message) {
		shown := ""
		if at.hidden {
			shown = fmt.Sprintf("%q ", at.shown())
		}
		d.refuse(at.line, path, "%sis not valid here%s", shown, example(at.example))
		return
	}
	if at.written != "" && !strings.Contains(message, `"`+strings.Trim(fmt.Sprintf("%q", at.written), `"`)) {
		message = fmt.Sprintf("%q %s", shorten(at.written), message)
	}
	if !strings.Contains(message, "(example") {
		message += example(at.example)
	}
	d.refuse(at.line, path, "%s", message)
}

func example(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (example: %q)", text)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
