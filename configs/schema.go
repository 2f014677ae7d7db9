package configs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
)

// schema is a JSON Schema, its keywords in the order of print.
type schema struct {
	Schema      string     `json:"$schema,omitempty"`
	Title       string     `json:"title,omitempty"`
	Description string     `json:"description,omitempty"`
	AnyOf       []*schema  `json:"anyOf,omitempty"`
	Type        string     `json:"type,omitempty"`
	Enum        []string   `json:"enum,omitempty"`
	Pattern     string     `json:"pattern,omitempty"`
	Minimum     *int       `json:"minimum,omitempty"`
	MinItems    int        `json:"minItems,omitempty"`
	Items       *schema    `json:"items,omitempty"`
	Properties  properties `json:"properties,omitempty"`
	Required    []string   `json:"required,omitempty"`
	Names       *schema    `json:"propertyNames,omitempty"`
	Additional  any        `json:"additionalProperties,omitempty"`
	Default     any        `json:"default,omitempty"`
	Examples    []any      `json:"examples,omitempty"`
}

// Schema is the JSON Schema (2020-12) of the file, for editors. What it
// refuses, Load refuses too; Load knows more.
func Schema() []byte {
	s := describe(reflect.TypeFor[Config](), "").schema()
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", "lastro.yaml"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		panic(err) // it is made of texts and numbers
	}
	return b.Bytes()
}

// properties keep their order.
type properties []property

type property struct {
	name   string
	schema *schema
}

func (p properties) MarshalJSON() ([]byte, error) {
	b := bytes.NewBufferString("{")
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	for i, one := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(one.name) + ":")
		if err := e.Encode(one.schema); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

const hostPattern = `^[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]*$`

// referring is a text with something from elsewhere in it.
const referring = `\$\{(?:env|file):[^}]+\}`

func (s *shape) schema() *schema {
	switch {
	case s.form != nil:
		return s.form.schema()
	case s.keyed:
		return &schema{Type: "object", Names: &schema{Pattern: hostPattern}, Additional: s.elem.schema()}
	case s.one:
		return either(s.elem.schema(), &schema{Type: "array", MinItems: 1, Items: s.elem.schema()})
	case s.elem != nil:
		return &schema{Type: "array", MinItems: 1, Items: s.elem.schema()}
	}
	out := &schema{Type: "object", Additional: false}
	for _, f := range s.fields {
		out.Properties = append(out.Properties, property{f.name, f.schema()})
		if f.required {
			out.Required = append(out.Required, f.name)
		}
	}
	switch {
	case s.words != nil:
		return either(&schema{Enum: s.words}, &schema{Type: "string", Pattern: referring}, out)
	case s.short != nil:
		return either(s.short.shape.schema(), out)
	}
	return out
}

// either takes what any of them takes.
func either(all ...*schema) *schema {
	out := &schema{}
	for _, s := range all {
		if s.AnyOf != nil {
			out.AnyOf = append(out.AnyOf, s.AnyOf...)
		} else {
			out.AnyOf = append(out.AnyOf, s)
		}
	}
	return out
}

func (f field) schema() *schema {
	out := f.shape.schema()
	out.Description = f.doc
	if f.def != "" {
		out.Default = f.shape.json(f.def)
	}
	if f.example != "" && !f.shape.keyed {
		out.Examples = []any{f.shape.json(f.example)}
	}
	return out
}

func (f *form) schema() *schema {
	out := &schema{Type: f.json}
	if f.pattern != nil {
		out.Pattern = f.pattern.String() + "|" + referring
	}
	if f.json == "integer" {
		out.Minimum = new(0)
	}
	if f.also != "" {
		return either(out, (&form{json: f.also}).schema())
	}
	return out
}

// json is a text of a tag as it stands in JSON.
func (s *shape) json(text string) any {
	switch {
	case s.one:
		return s.elem.json(text)
	case s.elem != nil:
		return []any{s.elem.json(text)}
	case s.form == nil || s.form.json == "string":
		return text
	}
	return json.RawMessage(text)
}
