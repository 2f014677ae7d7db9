package configs

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// shape is what the file may hold at one place. Exactly one of form, fields
// and elem is set; words are texts that may stand in place of fields, and so is
// a value of the field short.
type shape struct {
	form    *form
	words   []string
	short   *field
	fields  []field
	elem    *shape
	keyed   bool // elem is that of a mapping with keys of the user's own
	one     bool // an element may stand in place of the list
	pointer bool // what is not in the file is nil
	typ     reflect.Type
}

// field is a key of a mapping.
type field struct {
	name, doc, example, def string
	required                bool
	index                   []int
	shape                   *shape
}

// describe walks a type of settings. It panics on a tag that it does not know.
func describe(t reflect.Type, kind string) *shape {
	s := &shape{typ: t}
	switch {
	case t.Kind() == reflect.Pointer:
		s = describe(t.Elem(), kind)
		s.pointer = true
	case formOf(t, kind) != nil:
		s.form = formOf(t, kind)
	case t.Kind() == reflect.Slice:
		s.elem = describe(t.Elem(), kind)
	case t.Kind() == reflect.Map:
		s.elem, s.keyed = describe(t.Elem(), kind), true
	case t.Kind() == reflect.Struct:
		s.fields = fieldsOf(t, nil)
		s.short = shortOf(t, s)
	default:
		panic(fmt.Sprintf("configs: no form for %s of kind %q", t, kind))
	}
	return s
}

func fieldsOf(t reflect.Type, base []int) []field {
	var fields []field
	for f := range t.Fields() {
		index := append(append([]int(nil), base...), f.Index...)
		name := f.Tag.Get("yaml")
		switch {
		case f.Anonymous:
			fields = append(fields, fieldsOf(f.Type, index)...)
		case f.IsExported() && name != "-":
			made := field{
				name: name, doc: f.Tag.Get("doc"), example: f.Tag.Get("example"), def: f.Tag.Get("default"),
				required: f.Tag.Get("required") == "true", index: index, shape: describe(f.Type, f.Tag.Get("kind")),
			}
			made.shape.one = f.Tag.Get("form") == "one-or-list"
			made.shape.single().words = wordsOf(made.shape.single().typ, made.doc)
			fields = append(fields, made)
		}
	}
	return fields
}

// shortOf is the field whose value may stand in place of a mapping.
func shortOf(t reflect.Type, s *shape) *field {
	for f := range t.Fields() {
		if f.Tag.Get("form") == "short" {
			return s.find(f.Tag.Get("yaml"))
		}
	}
	return nil
}

// single is the shape of one element where a list need not be one.
func (s *shape) single() *shape {
	if s.one {
		return s.elem
	}
	return s
}

// pointed is the value itself, made with its defaults where it is not yet.
func (s *shape) pointed(v reflect.Value) reflect.Value {
	if !s.pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(s.typ))
		s.setDefault(v.Elem())
	}
	return v.Elem()
}

var quoted = regexp.MustCompile(`"([a-z0-9-]+)"`)

// wordsOf are the texts that may stand in place of a mapping: those that the
// documentation quotes and the type takes.
func wordsOf(t reflect.Type, doc string) []string {
	if t.Kind() != reflect.Struct {
		return nil
	}
	var words []string
	for _, m := range quoted.FindAllStringSubmatch(doc, -1) {
		if u, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok && u.UnmarshalText([]byte(m[1])) == nil {
			words = append(words, m[1])
		}
	}
	return words
}

// setDefault gives a zero value of the shape its defaults.
func (s *shape) setDefault(v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		return // it gets them when it is made
	}
	for _, f := range s.fields {
		f.shape.setDefault(v.FieldByIndex(f.index))
		if f.def != "" {
			f.shape.setText(f.def, v.FieldByIndex(f.index))
		}
	}
}

// setText sets a default, which for a list is its only element. It panics when
// it is not valid.
func (s *shape) setText(text string, v reflect.Value) {
	var err error
	switch {
	case s.form != nil:
		err = s.form.parse(text, v)
	case s.elem != nil:
		one := reflect.New(s.elem.typ).Elem()
		s.elem.setText(text, one)
		v.Set(reflect.Append(v, one))
	default:
		err = v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	}
	if err != nil {
		panic(fmt.Sprintf("configs: default %q: %v", text, err))
	}
}

// word is the text that stands for the value, or "".
func (s *shape) word(v reflect.Value) string {
	for _, w := range s.words {
		other := reflect.New(s.typ)
		s.setText(w, other.Elem())
		if reflect.DeepEqual(other.Elem().Interface(), v.Interface()) {
			return w
		}
	}
	return ""
}

func (s *shape) find(name string) *field {
	for i := range s.fields {
		if s.fields[i].name == name {
			return &s.fields[i]
		}
	}
	return nil
}

func (s *shape) names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return names
}

// what a person calls it.
func (s *shape) what() string {
	switch {
	case s.form != nil:
		return s.form.name
	case s.one:
		return s.elem.what() + ", or a list of these"
	case s.short != nil:
		return s.short.shape.what() + ", or a mapping"
	case len(s.words) > 0:
		return "a mapping, or one of " + strings.Join(s.words, ", ")
	case s.elem != nil && !s.keyed:
		return "a list"
	}
	return "a mapping"
}
