package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoadRefuses(t *testing.T) {
	const rule = "mirror:\n  - from: docker.io/library/debian\n"
	tests := []struct{ name, text, want string }{
		{"an unknown key, and names the nearest", "registry: {lisen: x:1}", `lastro.yaml:1: registry.lisen: is not a key (did you mean listen?)`},
		{"an unknown key far from all, and names all", "admin: {tcp: x:1}", `lastro.yaml:1: admin.tcp: is not a key (the keys here are listen)`},
		{"a key in capitals", "Mirror: []", `lastro.yaml:1: Mirror: is not a key (did you mean mirror?)`},
		{"a key that is there twice", "data: /a\ndata: /b", `lastro.yaml:2: data: is there twice: first on line 1`},
		{"an upstream that is there twice", "upstreams:\n  a.example: {connections: 1}\n  a.example: {connections: 2}", `lastro.yaml:3: upstreams[a.example]: is there twice: first on line 2`},
		{"a feature that this version does not have", "registry:\n  storage: {s3: {}}", `lastro.yaml:2: registry.storage: is not available in this version`},
		{"a mode of collecting that there is not", "collect: {mode: maybe}", `lastro.yaml:1: collect.mode: "maybe" is not delete or observe (example: "observe")`},
		{"a grace in the past", "collect: {grace: -1h}", `lastro.yaml:1: collect.grace: "-1h" is not a duration (examples: "90s", "1h30m", "7d", "2w")`},
		{"a recipient that is none", "backup:\n  - name: a\n    to: file:///a\n    encrypt: [age1x]", `lastro.yaml:4: backup[0].encrypt[0]: "age1x" not the public key of an age recipient (age-keygen prints one; it begins with age1) (example: "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj")`},
		{"an identity that is none", "backup:\n  - name: a\n    to: file:///a\n    encrypt: [age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj]\n    identity: hunter2", `lastro.yaml:5: backup[0].identity: *** is not valid here: not an age identity (age-keygen makes one: the line that begins with AGE-SECRET-KEY-) (example: "${file:/etc/lastro/vault.age}")`},
		{"a missing key", "mirror:\n  - name: x", `lastro.yaml:2: mirror[0].from: is missing (example: "docker.io/library/debian")`},
		{"a key without a value", "data:", `lastro.yaml:1: data: is empty: write a text, or leave the key out (example: "/var/lib/lastro")`},
		{"an empty text", `data: ""`, `lastro.yaml:1: data: is empty: write a value, or leave the key out (example: "/var/lib/lastro")`},
		{"an empty list", "mirror: []", `lastro.yaml:1: mirror: is an empty list: name one, or leave the key out`},
		{"a mapping where a list belongs", "mirror: {from: x}", `lastro.yaml:1: mirror: is a mapping, and must be a list`},
		{"a list where a mapping belongs", "registry: [x]", `lastro.yaml:1: registry: is a list, and must be a mapping`},
		{"a list where a text belongs", "data: [x]", `lastro.yaml:1: data: is a list, and must be a text (example: "/var/lib/lastro")`},
		{"a list at the top", "- data: /x", `lastro.yaml:1: is a list, and must be a mapping`},
		{"a number where a text belongs", rule + "    tags: {include: [3.10]}", `lastro.yaml:3: mirror[0].tags.include[0]: is 3.10, and must be a pattern: put it into quotes (example: "12*")`},
		{"a text where a truth value belongs", rule + "    referrers: yes", `lastro.yaml:3: mirror[0].referrers: is "yes", and must be true or false`},
		{"a text where a number belongs", "retention: [{match: x, keep: {last: ten}}]", `lastro.yaml:1: retention[0].keep.last: is "ten", and must be a whole number (example: 10)`},
		{"a number below zero", "retention: [{match: x, keep: {last: -1}}]", `lastro.yaml:1: retention[0].keep.last: -1 is not a whole number from 0 on (example: 10)`},
		{"a number too large for the machine", "retention: [{match: x, keep: {last: 18446744073709551615}}]", `lastro.yaml:1: retention[0].keep.last: 18446744073709551615 is not a whole number from 0 on (example: 10)`},
		{"a number that the settings refuse", "upstreams: {docker.io: {connections: 5000}}", `lastro.yaml:1: upstreams[docker.io].connections: 5000 is not between 1 and 1000 (example: 8)`},
		{"a duration without a unit", "retention: [{match: x, keep: {within: '90'}}]", `lastro.yaml:1: retention[0].keep.within: "90" is not a duration (examples: "90s", "1h30m", "7d", "2w")`},
		{"a time for what has no tag that is none", "retention: [{match: x, untagged: never}]", `lastro.yaml:1: retention[0].untagged: "never" is not a duration (examples: "90s", "1h30m", "7d", "2w")`},
		{"a percentage above all", "retention: [{match: x, max-removals: 101%}]", `lastro.yaml:1: retention[0].max-removals: "101%" is not a percentage from 0% to 100% (example: "20%")`},
		{"a pattern that does not parse", "retention: [{match: '{a'}]", `lastro.yaml:1: retention[0].match: "{a" is not a pattern (examples: 12*, {alpine,debian}, /^1[23]-slim$/)`},
		{"a platform without an architecture", rule + "    platforms: [linux]", `lastro.yaml:3: mirror[0].platforms[0]: "linux" is not a platform (examples: linux/amd64, linux/arm/v7)`},
		{"a repository with a tag", "mirror: [{from: 'debian:12'}]", `lastro.yaml:1: mirror[0].from: "debian:12" names a tag: put it under tags.include (example: "docker.io/library/debian")`},
		{"a schedule that is none", rule + "    every: sometimes", `lastro.yaml:3: mirror[0].every: "sometimes" is neither a duration nor a cron line (examples: "6h", "30 2 * * *", "@daily", "never")`},
		{"a day that never comes", rule + "    every: 0 0 30 2 *", `lastro.yaml:3: mirror[0].every: "0 0 30 2 *" is a cron line for a day that never comes (example: "17 */6 * * *")`},
		{"an interval below a minute", rule + "    every: 10s", `lastro.yaml:3: mirror[0].every: "10s" is less than 1m (example: "17 */6 * * *")`},
		{"an address without a port", "registry: {listen: localhost}", `lastro.yaml:1: registry.listen: "localhost" is not host:port (example: "0.0.0.0:5000")`},
		{"a port that is none", "registry: {listen: 'localhost:70000'}", `lastro.yaml:1: registry.listen: "localhost:70000" has port "70000", which is not a number up to 65535 (example: "0.0.0.0:5000")`},
		{"two servers on one port", "registry: {listen: ':80'}\nadmin: {listen: '127.0.0.1:80'}", `lastro.yaml:2: admin.listen: the registry and the admin page cannot both listen on the same port (example: "127.0.0.1:5001")`},
		{"the default port of the other server", "registry: {listen: '0.0.0.0:5001'}", `lastro.yaml:1: registry.listen: the registry and the admin page cannot both listen on the same port (example: "127.0.0.1:5001")`},
		{"two rules of one name", "mirror:\n  - {from: debian}\n  - {from: alpine, name: debian}", `lastro.yaml:3: mirror[1].name: "debian" is the name of another rule: mirror[0].name, on line 2`},
		{"a range that is none", "retention: [{match: x, keep: {semver: 1.x.y}}]", `lastro.yaml:1: retention[0].keep.semver: "1.x.y" is not a version range (example: ">=1.20 <2")`},
		{"two retention rules for one pattern", "retention:\n  - match: x\n  - match: x", `lastro.yaml:3: retention[1].match: "x" is the pattern of another rule: put all it keeps into one: retention[0].match, on line 2`},
		{"a backup that is required and not there", "retention: [{match: x, require-backup: mian}]\nbackup: [{name: main, to: 'file:///a'}]", `lastro.yaml:1: retention[0].require-backup: "mian" is the name of no backup: the names are main`},
		{"a backup that is required where there is none", "retention: [{match: x, require-backup: main}]", `lastro.yaml:1: retention[0].require-backup: "main" is the name of no backup: there is none (add one under backup, with a name and to)`},
		{"two vaults of one name", "backup:\n  - {name: a, to: 'file:///a'}\n  - {name: a, to: 'file:///b'}", `lastro.yaml:3: backup[1].name: "a" is the name of another vault: backup[0].name, on line 2`},
		{"two vaults in one folder", "backup:\n  - {name: a, to: 'file:///a'}\n  - {name: b, to: 'file:///x/../a/'}", `lastro.yaml:3: backup[1].to: "file:///x/../a/" is the address of another vault: backup[0].to, on line 2`},
		{"an address of a vault that is none", "backup: [{name: a, to: /a}]", `lastro.yaml:1: backup[0].to: "/a" is not an address (example: "s3://bucket/prefix")`},
		{"a half key pair", "backup:\n  - name: a\n    to: s3://b\n    s3:\n      credentials: {access-key: x}", `lastro.yaml:5: backup[0].s3.credentials: access-key and secret-key belong together`},
		{"a host that image names cannot have", "upstreams: {registry: {}}", `lastro.yaml:1: upstreams[registry]: "registry" is not a host as it stands in image names (example: "registry.example.com:5000")`},
		{"another name of Docker Hub", "upstreams: {index.docker.io: {}}", `lastro.yaml:1: upstreams[index.docker.io]: "index.docker.io" is not a host as it stands in image names (example: "registry.example.com:5000")`},
		{"a line break in a name", `mirror: [{from: x, name: "a\nb"}]`, `lastro.yaml:1: mirror[0].name: has a control character or a line break in it (example: "debian")`},
		{"one of several credentials", "upstreams: {docker.io: {credentials: [none, {username: a}]}}", `lastro.yaml:1: upstreams[docker.io].credentials[1]: username and password belong together`},
		{"the address of a mirror", "upstreams: {docker.io: {mirrors: [mirror.gcr.io]}}", `lastro.yaml:1: upstreams[docker.io].mirrors[0]: "mirror.gcr.io" is not an address (example: "https://mirror.gcr.io")`},
		{"a mirror without an address", "upstreams: {docker.io: {mirrors: [{credentials: none}]}}", `lastro.yaml:1: upstreams[docker.io].mirrors[0].url: is missing (example: "https://mirror.gcr.io")`},
		{"a bandwidth in words", "upstreams: {docker.io: {bandwidth: fast}}", `lastro.yaml:1: upstreams[docker.io].bandwidth: "fast" is not a size (examples: "50MiB", "1.5GB", 4096)`},
		{"a word that credentials do not know, without printing it", "upstreams: {docker.io: {credentials: hunter2}}", `lastro.yaml:1: upstreams[docker.io].credentials: must be a mapping, or one of docker-config, none, ecr`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := loadText(test.text, nil)
			if _, ok := errors.AsType[*Faults](err); !ok {
				t.Fatalf("got %v (%T), want *Faults", err, err)
			}
			if got := err.Error(); got != test.want {
				t.Errorf("\n got %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestLoadReadsOnlyPlainYAML(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"an empty file", "", "is empty; a minimal file is"},
		{"a file of comments", "# nothing\n", "is empty; a minimal file is"},
		{"two documents", "data: /a\n---\ndata: /b\n", "lastro.yaml:3: begins a second document"},
		{"an anchor and an alias", "data: &x /a\nadmin: *x\n", "lastro.yaml:2: aliases (*name) are not supported"},
		{"an unquoted pattern that is an alias", "retention: [{match: *}]", "lastro.yaml:1: aliases (*name) are not supported"},
		{"a merge key", "registry:\n  <<: {listen: x}\n", "lastro.yaml:2: merge keys (<<) are not supported"},
		{"a tag", "data: !!str 5\n", "lastro.yaml:1: tags (!name) are not supported"},
		{"a directive", "%YAML 1.2\n---\ndata: /a\n", "lastro.yaml:1: directives (%NAME) are not supported"},
		{"a key that begins with ?", "? data\n: /a\n", "lastro.yaml:1: keys that begin with ? are not supported"},
		{"a tab in the indentation", "registry:\n\tlisten: x:1\n", "lastro.yaml:2: is indented with a tab"},
		{"bytes that are not UTF-8", "data: /a\n# caf\xe9\n", "lastro.yaml:2: is not UTF-8"},
		{"a control character", "data: /a\x00b\n", "lastro.yaml:1: has a control character, U+0000"},
		{"a quote that does not end", "data: \"/a\n", "is not YAML"},
		{"a bracket that does not end", "mirror: [{from: x}\n", "is not YAML"},
		{"more keys than a mapping can need", strings.Repeat("x: y\n", maxWidth+1), "lastro.yaml:2001: is more than key 2000"},
		{"more keys than that with comments between", strings.Repeat("  'x': y\n#\n", maxWidth+1), "lastro.yaml:4001: is more than key 2000"},
		{"deep nesting", "data: " + strings.Repeat("[", 100_000), "lastro.yaml:1: is nested too deeply"},
		{"deep nesting of dashes", strings.Repeat("- ", 100_000), "lastro.yaml:1: is nested too deeply"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := loadText(test.text, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want …%s…", err, test.want)
			}
		})
	}
}

func TestLoadTakesLongLists(t *testing.T) {
	var b strings.Builder
	b.WriteString("mirror:\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "- from: docker.io/library/image-%d\n  tags:\n    include: [latest]\n# one more\n", i)
	}
	if got := len(mustLoad(t, b.String(), nil).Mirror); got != 3000 {
		t.Errorf("%d rules, want 3000", got)
	}
}

func TestLoadTakes(t *testing.T) {
	tests := []struct{ name, text, data string }{
		{"a mapping without keys", "{}", "./lastro-data"},
		{"a byte order mark", "\ufeffdata: /a\n", "/a"},
		{"lines of Windows", "data: /a\r\nregistry:\r\n  listen: 127.0.0.1:1\r\n", "/a"},
		{"one document after its marker", "---\ndata: /a\n", "/a"},
		{"quotes of both kinds", `{"data": '/a'}`, "/a"},
		{"two servers on ports of the system's choice", "data: /a\nregistry: {listen: ':0'}\nadmin: {listen: ':0'}", "/a"},
		{"a dollar sign", "data: /a$b{c}", "/a$b{c}"},
		{"an escaped reference", "data: /$${env:X}", "/${env:X}"},
		{"text that begins on the next line", "data: >-\n  /a\n", "/a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := mustLoad(t, test.text, nil).Data; got != test.data {
				t.Errorf("data is %q, want %q", got, test.data)
			}
		})
	}
}

func TestLoadSaysAllFaultsAtOnce(t *testing.T) {
	path := filepath.Join("testdata", "faults.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = load(path, content, variables{"SECRET": "opensesame"}.get)
	if err == nil {
		t.Fatal("no fault")
	}
	golden(t, "faults.golden", err.Error()+"\n")
}

func TestLoadFillsInDefaults(t *testing.T) {
	cfg := mustLoad(t, `
upstreams: {quay.io: {plain-http: true}}
mirror: [{from: debian}]
retention: [{match: "**"}]
backup: [{name: a, to: "file:///a"}]
`, nil)
	got := []any{cfg.Data, cfg.Registry.Listen, cfg.Admin.Listen, cfg.Upstreams["quay.io"].Connections, cfg.Mirror[0].Name,
		cfg.Mirror[0].Referrers, cfg.Mirror[0].Every.String(), cfg.Retention[0].MaxRemovals, cfg.Retention[0].Line, cfg.Backup[0].Include[0]}
	want := []any{"./lastro-data", "127.0.0.1:5000", "127.0.0.1:5001", 8, "debian", true, "6h", 0.2, "lastro.yaml:4", "**"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
}

func TestLoadOfFiles(t *testing.T) {
	t.Run("a file that is not there is fs.ErrNotExist", func(t *testing.T) {
		_, err := Load(filepath.Join(t.TempDir(), "lastro.yaml"))
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if _, ok := errors.AsType[*Faults](err); !ok {
			t.Errorf("got %T, want *Faults", err)
		}
	})
	t.Run("a folder is refused", func(t *testing.T) {
		if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a file of a mebibyte and a byte is refused, and one byte less is not", func(t *testing.T) {
		text := "data: /a\n#"
		text += strings.Repeat("x", maxFile-len(text))
		if _, err := Load(write(t, "lastro.yaml", text)); err != nil {
			t.Errorf("1 MiB: %v", err)
		}
		if _, err := Load(write(t, "lastro.yaml", text+"x")); err == nil || !strings.Contains(err.Error(), "larger than 1024 KiB") {
			t.Errorf("1 MiB and a byte: %v", err)
		}
	})
}

func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	find := func(flag, env string) string {
		t.Helper()
		path, err := Find(flag, env)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := Find("", ""); err == nil || !strings.Contains(err.Error(), "mirror:") {
		t.Errorf("without a file: %v, want how to write one", err)
	}
	if err := os.WriteFile("lastro.yaml", []byte(minimal), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := find("", ""); got != "lastro.yaml" {
		t.Errorf("got %s, want the file of this folder", got)
	}
	if got := find("", "/env"); got != "/env" {
		t.Errorf("got %s, want that of the environment", got)
	}
	if got := find("/flag", "/env"); got != "/flag" {
		t.Errorf("got %s, want that of the flag", got)
	}
}

// A hostile file may be refused or taken, but not cost much: what grew with the
// square of the size would take minutes.
func TestLoadIsQuickOnLargeFiles(t *testing.T) {
	size := maxFile / 8
	if *long {
		size = maxFile
	}
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	tests := []struct{ name, text string }{
		{"brackets", fill("[")}, {"braces", fill("{")}, {"pairs", fill("[]")}, {"dashes", fill("- ")}, {"lists", fill("- a\n")}, {"colons", fill(": ")}, {"keys", fill("a: ")},
		{"lines of keys", fill("a: b\n")}, {"lines of quoted keys", fill("'a': b\n")}, {"lines of keys and comments", fill("  a: b\n#\n")}, {"quotes", fill(`"`)}, {"an open quote", `a: "` + fill("x")}, {"an open single quote", "a: '" + fill("x\n")}, {"a long line", fill("x")},
		{"lines of text", fill("x\n")}, {"blank lines", fill("\n")}, {"spaces", fill(" ")}, {"comments", fill("#\n")}, {"a block text", "a: |\n" + fill("  x\n")}, {"a folded text", "a: >\n" + fill("  x\n")},
		{"commas", "a: [" + fill("x,")}, {"questions", fill("? ")}, {"documents", fill("---\n")}, {"ampersands", fill("&a ")}, {"stars", fill("*a ")}, {"tags", fill("!a ")}, {"escapes", `a: "` + fill(`\x41`)},
		{"unknown keys", "{" + fill("a: 1, ")}, {"indents", indents(1400)}, {"references", "data: '" + fill("${env:A}") + "'"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			start := time.Now()
			_, _ = loadText(test.text, variables{"A": "a"})
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// indents is a mapping in a mapping in a mapping.
func indents(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestTwoRepositoriesDoNotGoToOne(t *testing.T) {
	rule := func(name, from, to string) string {
		return fmt.Sprintf("  - {name: %s, from: %q, to: %q}\n", name, from, to)
	}
	for name, c := range map[string]struct {
		rules []string
		fault bool
	}{
		"of one upstream":      {[]string{rule("a", "docker.io/library/a", "m"), rule("b", "docker.io/library/b", "m")}, true},
		"of two":               {[]string{rule("a", "docker.io/library/a", "m"), rule("b", "quay.io/library/a", "m")}, true},
		"after one that is it": {[]string{rule("a", "a", "m"), rule("b", "docker.io/library/a", "m"), rule("c", "c", "m")}, true},
		"one twice":            {[]string{rule("a", "docker.io/library/a", "m"), rule("b", "a", "m")}, false},
		"below one folder":     {[]string{rule("a", "quay.io/a/**", "m"), rule("b", "quay.io/b/**", "m")}, false},
		"each by its own name": {[]string{"  - {name: a, from: a}\n", "  - {name: b, from: b}\n"}, false},
	} {
		_, err := loadText("mirror:\n"+strings.Join(c.rules, ""), nil)
		if fault := err != nil; fault != c.fault || fault && !strings.Contains(err.Error(), `.to: "m" is where another rule copies to: mirror[0].to, on line 2`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
