package configs

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

func TestSchemaIsGolden(t *testing.T) { golden(t, "schema.json", string(Schema())) }

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("lastro.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("lastro.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// everything is an environment that has all variables.
func everything(string) (string, bool) { return "x", true }

// verdicts are what the loader and the schema say of one document.
func verdicts(t rapid.TB, s *jsonschema.Schema, doc any) (text string, loader, schema error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		t.Fatal(err)
	}
	_, loader = load("lastro.yaml", b.Bytes(), everything)
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), loader, s.Validate(parsed)
}

// structural are faults that a schema can tell: the others are about values.
func structural(err error) bool {
	return err != nil && slices.ContainsFunc([]string{"is not a key", "is missing", "is empty", "and must be", "must be a mapping", "is an empty list", "not available", "is not a whole number"}, func(problem string) bool {
		return strings.Contains(err.Error(), problem)
	})
}

func TestLoaderAndSchemaAgree(t *testing.T) {
	s, root := compiled(t), describe(reflect.TypeFor[Config](), "")
	t.Run("on documents that follow the types", rapid.MakeCheck(func(t *rapid.T) {
		text, loader, schema := verdicts(t, s, sample(t, root, ""))
		if schema != nil || structural(loader) {
			t.Fatalf("%s\nloader: %v\nschema: %v", text, loader, schema)
		}
	}))
	t.Run("on documents with mistakes", rapid.MakeCheck(func(t *rapid.T) {
		doc := sample(t, root, "")
		for range rapid.IntRange(1, 3).Draw(t, "mistakes") {
			doc = mistake(t, doc)
		}
		text, loader, schema := verdicts(t, s, doc)
		if schema != nil && loader == nil || structural(loader) && schema == nil {
			t.Fatalf("%s\nloader: %v\nschema: %v", text, loader, schema)
		}
	}))
}

func TestLoaderAndSchemaAgreeOnEveryMistakeInTheFullFile(t *testing.T) {
	s := compiled(t)
	content, err := os.ReadFile("full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var full any
	if err := yaml.Unmarshal(content, &full); err != nil {
		t.Fatal(err)
	}
	refused := 0
	check := func() {
		text, loader, schema := verdicts(t, s, full)
		if schema != nil && loader == nil || structural(loader) && schema == nil {
			t.Fatalf("%s\nloader: %v\nschema: %v", text, loader, schema)
		}
		if schema != nil {
			refused++
		}
	}
	eachMistake(full, func(v any) { full = v }, check)
	if refused < 500 {
		t.Errorf("the schema refused %d documents", refused)
	}
}

// eachMistake calls check with each place of a document changed in each way.
func eachMistake(v any, set func(any), check func()) {
	for _, w := range wrong() {
		set(w)
		check()
	}
	set(v)
	switch v := v.(type) {
	case map[string]any:
		v["zzz"] = "zzz"
		check()
		delete(v, "zzz")
		for key, value := range v {
			delete(v, key)
			check()
			v[key] = value
			eachMistake(value, func(w any) { v[key] = w }, check)
		}
	case []any:
		for i, value := range v {
			eachMistake(value, func(w any) { v[i] = w }, check)
		}
	}
}

// samples are right values of forms, besides the examples of their keys.
var samples = map[string][]string{
	"a text":                    {"a", "main", "some text", "a${env:A}", "$${"},
	"host:port":                 {":0", "localhost:1", "[::1]:65535", "${env:A}"},
	"a file":                    {"/a.pem", "b.pem"},
	"a pattern":                 {"*", "**", "{a,b}", "/^v[0-9]+$/", "1.2"},
	"a platform":                {"linux/amd64", "linux/arm/v7"},
	"a repository":              {"alpine", "ghcr.io/org/**", "docker.io/library/{a,b}"},
	"a secret":                  {"***", "x\ny", "${env:A}"},
	"an address":                {"https://a.example", "s3://b/c", "file:///a/b", "${env:A}"},
	"a size":                    {"50MiB", "1.5GB", "4096", "100kB"},
	"a duration":                {"1m", "1.5h", "2w", "30d", "12w", "500ms"},
	"a part":                    {"1/1", "1/7", "1/365", "${env:A}"},
	"a percentage":              {"0%", "20%", "12.5%", "100%"},
	"a duration or a cron line": {"6h", "1d", "0 0 * * *", "@daily", "never", "CRON_TZ=UTC 5 4 * * SUN"},
}

// sample draws a document that follows the shape.
func sample(t *rapid.T, s *shape, example string) any {
	switch {
	case s.form != nil && s.form.json == "integer":
		return rapid.IntRange(0, 20).Draw(t, "number")
	case s.form != nil && s.form.json == "boolean":
		return rapid.Bool().Draw(t, "truth")
	case s.form != nil:
		texts := samples[s.form.name]
		if example != "" {
			texts = append(slices.Clone(texts), example)
		}
		return rapid.SampledFrom(texts).Draw(t, s.form.name)
	case s.keyed:
		hosts := rapid.SampledFrom([]string{"docker.io", "localhost", "registry.example.com:5000"})
		return rapid.MapOfN(hosts, rapid.Custom(func(t *rapid.T) any { return sample(t, s.elem, "") }), 0, 3).Draw(t, "table")
	case s.one && rapid.Bool().Draw(t, "no list"):
		return sample(t, s.elem, example)
	case s.short != nil && rapid.Bool().Draw(t, "no mapping"):
		return sample(t, s.short.shape, s.short.example)
	case s.elem != nil:
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) any { return sample(t, s.elem, example) }), 1, 3).Draw(t, "list")
	case s.words != nil && rapid.Bool().Draw(t, "a word"):
		return rapid.SampledFrom(append(slices.Clone(s.words), s.words...)).Draw(t, "word")
	}
	doc := map[string]any{}
	for _, f := range s.fields {
		switch {
		case f.name == "sign" || f.name == "identity" || !f.required && !rapid.Bool().Draw(t, f.name): // what is printed of a key is no key
		case f.name == "trust" || f.name == "encrypt":
			doc[f.name] = []any{f.example}
		case f.name == "mode" || f.name == "catalog": // few texts are right
			doc[f.name] = f.example
		case f.name == "require-backup" && rapid.IntRange(0, 3).Draw(t, "required") > 0: // it would have to be there
		default:
			doc[f.name] = sample(t, f.shape, f.example)
		}
		// No two of a list may have the same one.
		if text, ok := doc[f.name].(string); ok && (f.name == "to" || f.name == "name") {
			doc[f.name] = text + rapid.SampledFrom([]string{"", "1", "2", "3", "4", "5", "6", "7"}).Draw(t, "which")
		}
	}
	return doc
}

// mistake changes one place of a document.
func mistake(t *rapid.T, doc any) any {
	here := rapid.IntRange(0, 3).Draw(t, "here") == 0
	switch v := doc.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		if here || len(keys) == 0 {
			return spoilt(t, v, keys)
		}
		key := rapid.SampledFrom(keys).Draw(t, "key")
		v[key] = mistake(t, v[key])
		return v
	case []any:
		if !here && len(v) > 0 {
			i := rapid.IntRange(0, len(v)-1).Draw(t, "item")
			v[i] = mistake(t, v[i])
			return v
		}
	}
	return rapid.SampledFrom(wrong()).Draw(t, "value")
}

// wrong are values that are wrong at most places. They are new each time, because
// a later mistake may change them.
func wrong() []any {
	return []any{nil, true, 7, -1, 3.5, "", "zzz", "12", "yes", "1h", "a/b", "x:1", []any{}, []any{"zzz"}, []any{nil}, map[string]any{}, map[string]any{"zzz": 1}}
}

// spoilt has a key too few or too many.
func spoilt(t *rapid.T, v map[string]any, keys []string) any {
	if len(keys) > 0 && rapid.Bool().Draw(t, "one less") {
		delete(v, rapid.SampledFrom(keys).Draw(t, "gone"))
		return v
	}
	v[rapid.SampledFrom([]string{"zzz", "from", "every", "collect", "name", "a b", "Data"}).Draw(t, "more")] = "zzz"
	return v
}

func TestExamplesAndDefaultsOfTheTypesAreRight(t *testing.T) {
	var walk func(s *shape, path string)
	walk = func(s *shape, path string) {
		for _, f := range s.fields {
			at, form := s.path(path, f.name), f.shape.form
			if f.doc == "" {
				t.Errorf("%s has no doc", at)
			}
			if form == nil && f.shape.elem != nil {
				form = f.shape.elem.form
			}
			for _, text := range []string{f.example, f.def} {
				if form == nil || text == "" || strings.HasPrefix(text, "${") {
					continue
				}
				typ := f.shape.typ
				if f.shape.form == nil {
					typ = f.shape.elem.typ
				}
				if err := form.parse(text, reflect.New(typ).Elem()); err != nil {
					t.Errorf("%s: %q: %v", at, text, err)
				}
			}
			walk(f.shape, at)
		}
		if s.elem != nil {
			walk(s.elem, path+"[]")
		}
	}
	walk(describe(reflect.TypeFor[Config](), ""), "")
}

func TestKeysThatAreAbsentAreNotThere(t *testing.T) {
	root := describe(reflect.TypeFor[Config](), "")
	for path := range absentKeys {
		s, key := root, path
		for {
			parent, rest, nested := strings.Cut(key, ".")
			if !nested {
				break
			}
			f := s.find(strings.TrimSuffix(parent, "[]"))
			if f == nil {
				t.Fatalf("%s: there is no %s", path, parent)
			}
			s, key = f.shape, rest
			if strings.HasSuffix(parent, "[]") {
				s = s.elem
			}
		}
		if s.find(key) != nil {
			t.Errorf("%s is there: take it off the list", path)
		}
	}
}
