package configs

import (
	"cmp"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// Show prints the configuration as YAML: defaults filled in, secrets masked as
// ***, and references in place of what they gave.
func (c *Config) Show(w io.Writer) error {
	tree := c.tree(describe(reflect.TypeFor[Config](), ""), reflect.ValueOf(c).Elem(), "")
	return yaml.NewEncoder(w, yaml.Indent(2), yaml.IndentSequence(true)).Encode(tree)
}

// tree is the value as the encoder takes it; nil if there is nothing to show.
func (c *Config) tree(s *shape, v reflect.Value, path string) any {
	if mask, ok := c.masks[path]; ok {
		return mask
	}
	if s.pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	switch {
	case s.form != nil:
		return scalar(s.form, v)
	case s.one && v.Len() == 1:
		return c.tree(s.elem, v.Index(0), path)
	case s.keyed:
		return c.table(s, v, path)
	case s.elem != nil:
		return c.list(s, v, path)
	}
	if word := s.word(v); word != "" {
		return word
	}
	return c.mapping(s, v, path)
}

// mapping is one with the keys that are set or have a default; the value of a
// key that may stand for it, if there are no others.
func (c *Config) mapping(s *shape, v reflect.Value, path string) any {
	var out yaml.MapSlice
	for _, f := range s.fields {
		value := c.tree(f.shape, v.FieldByIndex(f.index), s.path(path, f.name))
		if value != nil && (f.def != "" || !v.FieldByIndex(f.index).IsZero()) {
			out = append(out, yaml.MapItem{Key: f.name, Value: value})
		}
	}
	switch {
	case s.short != nil && len(out) == 1 && out[0].Key == s.short.name:
		return out[0].Value
	case out == nil && !s.pointer:
		return nil
	}
	return out
}

func (c *Config) table(s *shape, v reflect.Value, path string) any {
	var out yaml.MapSlice
	for key, value := range v.Seq2() {
		out = append(out, yaml.MapItem{Key: key.String(), Value: c.tree(s.elem, value, s.path(path, key.String()))})
	}
	slices.SortFunc(out, func(a, b yaml.MapItem) int { return cmp.Compare(a.Key.(string), b.Key.(string)) })
	if out == nil {
		return nil
	}
	return out
}

func (c *Config) list(s *shape, v reflect.Value, path string) any {
	var out []any
	for i := range v.Len() {
		out = append(out, c.tree(s.elem, v.Index(i), fmt.Sprintf("%s[%d]", path, i)))
	}
	if out == nil {
		return nil
	}
	return out
}

func scalar(f *form, v reflect.Value) any {
	text := f.format(v)
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err == nil && (f.json == "integer" || f.also == "integer"):
		return n
	case f.json == "boolean":
		return text == "true"
	}
	if text == "" {
		return nil
	}
	return strings.ReplaceAll(text, "${", "$${")
}
