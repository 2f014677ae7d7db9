package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReferences(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{"one": "opensesame\n", "two": "a\n\n", "windows": "a\r\n", "binary": "\xff", "empty": "", "large": strings.Repeat("x", maxValue+1)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := source{folder: folder, env: variables{"A": "a", "EMPTY": "", "REF": "${env:A}"}.get}
	tests := []struct{ name, text, want, problem string }{
		{name: "a variable is put in", text: "x${env:A}y", want: "xay"},
		{name: "several are put in", text: "${env:A}${env:A}", want: "aa"},
		{name: "a value is not read again", text: "${env:REF}", want: "${env:A}"},
		{name: "a file is put in without the newline at its end", text: "${file:one}", want: "opensesame"},
		{name: "only one newline is taken off", text: "${file:two}", want: "a\n"},
		{name: "so is a newline of Windows", text: "${file:windows}", want: "a"},
		{name: "a file is found by its whole path", text: "${file:" + filepath.Join(folder, "one") + "}", want: "opensesame"},
		{name: "two dollars are one", text: "$${env:A}", want: "${env:A}"},
		{name: "a dollar alone is itself", text: "$A $$ {a}", want: "$A $$ {a}"},
		{name: "a variable that is not set is a fault", text: "${env:B}", problem: `"${env:B}": the variable is not set`},
		{name: "a file that is not there is a fault", text: "${file:none}", problem: "no such file"},
		{name: "a folder is a fault", text: "${file:.}", problem: "not a regular file"},
		{name: "a file that is too large is a fault", text: "${file:large}", problem: "larger than 64 KiB"},
		{name: "a file that is not text is a fault", text: "${file:binary}", problem: "is not text"},
		{name: "a shell's reference is a fault", text: "${A}", problem: "has ${ that begins neither"},
		{name: "a reference that does not end is a fault", text: "${env:A", problem: "has ${ that begins neither"},
		{name: "a name that is none is a fault", text: "${env:A-B}", problem: "has ${ that begins neither"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, _, err := s.expand(test.text)
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("got %v, want …%s…", err, test.problem)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	t.Run("an empty value is a fault", func(t *testing.T) {
		_, err := loadText("data: ${env:EMPTY}", variables{"EMPTY": ""})
		if err == nil || !strings.Contains(err.Error(), "lastro.yaml:1: data: is empty") {
			t.Error(err)
		}
	})
}

func TestFilesAreRelativeToTheConfiguration(t *testing.T) {
	path := write(t, "lastro.yaml", "data: ${file:name}\nupstreams: {docker.io: {ca: ca.pem}}\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "name"), []byte("/a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cfg.Upstreams["docker.io"].CA, filepath.Join(filepath.Dir(path), "ca.pem"); got != want {
		t.Errorf("ca is %s, want %s", got, want)
	}
	if cfg.Data != "/a" {
		t.Errorf("data is %s, want /a", cfg.Data)
	}
}

func TestDigest(t *testing.T) {
	const text = "data: /${env:A}/${env:B}\n"
	of := func(text string, env variables) string { return mustLoad(t, text, env).Digest }
	first := of(text, variables{"A": "a", "B": "b"})
	if again := of(text, variables{"A": "a", "B": "b"}); again != first {
		t.Error("it is another for the same file")
	}
	if of(text, variables{"A": "a", "B": "c"}) == first {
		t.Error("it is the same for another value")
	}
	if of(text, variables{"A": "a/b", "B": "b"}) == of(text, variables{"A": "a", "B": "b/b"}) {
		t.Error("it is the same for values that are divided otherwise")
	}
	if of(text+"#\n", variables{"A": "a", "B": "b"}) == first {
		t.Error("it is the same for another file")
	}
}
