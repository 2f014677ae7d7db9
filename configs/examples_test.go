package configs

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"lastro/mirror"
	"lastro/mirror/version"
	"lastro/retention"
)

func TestExampleFilesLoad(t *testing.T) {
	for _, name := range []string{"REGISTRY_PASSWORD", "PROXY_PASSWORD", "HUB_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"} {
		t.Setenv(name, "x")
	}
	t.Setenv("VAULT_KEY", privateKey(t))
	t.Setenv("VAULT_IDENTITY", identity)
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			cfg, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			language := retention.Language{
				Pattern: func(s string) (retention.Matcher, error) { return mirror.ParsePattern(s) },
				Range:   func(s string) (retention.Matcher, error) { return version.ParseRange(s) },
			}
			for _, r := range cfg.Retention {
				if _, err := r.Compile(language); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// identity is that of the recipient in full.yaml, which everybody knows.
const identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"

// privateKey is one to sign with, as openssl writes it.
func privateKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestTheMinimalFileIsTheOneThatIsOffered(t *testing.T) {
	content, err := os.ReadFile("minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	offered, example := mustLoad(t, minimal, nil), mustLoad(t, string(content), nil)
	if !reflect.DeepEqual(offered.Mirror, example.Mirror) {
		t.Errorf("%+v and %+v", offered.Mirror, example.Mirror)
	}
}

func TestTheFullFileNamesEveryKey(t *testing.T) {
	content, err := os.ReadFile("full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	root := describe(reflect.TypeFor[Config](), "")
	d := &decoder{file: "full.yaml", source: source{env: everything}, places: map[string]place{}}
	d.decode(d.parse(content), root, reflect.New(root.typ).Elem(), "")
	named := map[string]bool{}
	for path := range d.places {
		named[inBrackets.ReplaceAllString(path, "[]")] = true
	}
	for _, path := range paths(root, "", map[reflect.Type]bool{}) {
		if !named[path] {
			t.Errorf("full.yaml does not name %s", path)
		}
	}
}

// paths are all keys of a shape; those of a list that need not be one only where
// its type is first.
func paths(s *shape, at string, seen map[reflect.Type]bool) []string {
	var all []string
	for _, f := range s.fields {
		key := s.path(at, f.name)
		all = append(append(all, key), paths(f.shape, key, seen)...)
	}
	if s.elem != nil && !seen[s.typ] {
		seen[s.typ] = s.one
		all = append(all, paths(s.elem, at+"[]", seen)...)
	}
	return all
}

func FuzzLoad(f *testing.F) {
	for _, file := range []string{"minimal.yaml", "airgap.yaml", "full.yaml", "testdata/faults.yaml"} {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	for _, text := range []string{"", "{}", "{a, b}", ": x", "{{a: b}: c}", "- - -", "a: |\n x", "[]: x", "? x", "&a *a", "data: &x\n", "mirror: [,]", "null: x", "1: x", "--- a\n...\n---\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 64<<10 {
			t.Skip()
		}
		watchdog := time.AfterFunc(5*time.Minute, func() { panic("it does not end") })
		defer watchdog.Stop()
		cfg, err := load("lastro.yaml", content, everything)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a word")
			}
			return
		}
		text := shown(t, cfg)
		if _, err := load("lastro.yaml", []byte(text), everything); err != nil {
			t.Errorf("what show prints does not load: %v\n%s", err, text)
		}
		cfg.Mirror = append(cfg.Mirror, Mirror{})
		for _, m := range cfg.Mirror {
			m.Every.Next(time.Time{})
		}
	})
}
