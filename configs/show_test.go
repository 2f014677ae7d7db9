package configs

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lastro/mirror/upstream"
)

func TestShowFillsInDefaultsAndMasks(t *testing.T) {
	cfg := mustLoad(t, `
upstreams:
  registry.example.com:
    endpoint: https://${env:HOST}
    credentials: {username: ci, password: hunter2}
  quay.io: {credentials: none}
  docker.io:
    credentials: [docker-config, {username: ci, password: "${env:KEY}"}, {ecr: {region: eu-central-1}}, ecr]
    mirrors: [https://mirror.gcr.io, {url: "https://${env:HOST}", credentials: {token: hunter2}}]
    bandwidth: 50MiB
    requests-per-second: 20
  localhost:5000: {credentials: [{helper: pass}], mirrors: ["https://${env:HOST}"], bandwidth: 1000000}
mirror:
  - from: ${env:HOST}/app
    tags: {include: ["12"]}
backup:
  - name: main
    to: s3://bucket
    s3: {credentials: {access-key: AKIA, secret-key: "${env:KEY}"}}
`, variables{"HOST": "registry.example.com", "KEY": "opensesame"})
	golden(t, "show.golden", shown(t, cfg))
}

func TestWhatShowPrintsLoadsAsTheSame(t *testing.T) {
	root := describe(reflect.TypeFor[Config](), "")
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(sample(t, root, ""))
		if err != nil {
			t.Fatal(err)
		}
		before, err := load("lastro.yaml", text, everything)
		if err != nil {
			t.Skip(err)
		}
		var b bytes.Buffer
		if err := before.Show(&b); err != nil {
			t.Fatal(err)
		}
		after, err := load("lastro.yaml", b.Bytes(), everything)
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		withoutSource(before)
		withoutSource(after)
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%s\n%s", b.String(), cmp.Diff(before.Mirror, after.Mirror, cmp.AllowUnexported(Schedule{})))
		}
	})
}

// withoutSource forgets what depends on how the file is written.
func withoutSource(c *Config) {
	c.Digest, c.masks = "", nil
	for i := range c.Retention {
		c.Retention[i].Line = ""
	}
	if len(c.Upstreams) == 0 {
		c.Upstreams = nil
	}
	for _, settings := range c.Upstreams {
		withoutSecrets(settings.Credentials)
		for _, m := range settings.Mirrors {
			withoutSecrets(m.Credentials)
		}
	}
	for i := range c.Backup {
		if strings.HasPrefix(c.Backup[i].S3.Credentials.SecretKey, "x") {
			c.Backup[i].S3.Credentials.SecretKey = "***"
		}
	}
}

func withoutSecrets(all []upstream.Credentials) {
	for i := range all {
		for _, secret := range []*string{&all[i].Password, &all[i].Token} {
			if *secret != "" {
				*secret = "***"
			}
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	const secret = "opensesame"
	tests := []struct{ name, text string }{
		{"a literal secret beside a fault", "upstreams: {docker.io: {credentials: {password: opensesame}}}"},
		{"a secret of another type", "upstreams: {docker.io: {credentials: {username: a, password: [opensesame]}}}"},
		{"a secret in a list of credentials", "upstreams: {docker.io: {credentials: [none, opensesame]}}"},
		{"a secret beside another one", "upstreams: {docker.io: {credentials: [none, {token: opensesame, helper: opensesame/x}]}}"},
		{"a secret in the address of a mirror", "upstreams: {docker.io: {mirrors: ['https://user:opensesame@x.example']}}"},
		{"a secret in a token", `upstreams: {docker.io: {credentials: {token: "opensesame ${env:SECRET}"}}}`},
		{"a secret in place of credentials", "upstreams: {docker.io: {credentials: opensesame}}"},
		{"a secret in place of a key pair", "backup: [{name: a, to: 's3://b', s3: {credentials: opensesame}}]"},
		{"a secret from elsewhere in an address that is none", `backup: [{name: a, to: "${env:SECRET}"}]`},
		{"a secret from elsewhere that a settings type repeats", `mirror: [{from: "docker.io/${env:SECRET}:tag"}]`},
		{"a secret from elsewhere in a pattern", `retention: [{match: "{${env:SECRET}"}]`},
		{"a secret from elsewhere in a schedule", `mirror: [{from: a, every: "${env:SECRET}"}]`},
		{"a secret from elsewhere in a name that is there twice", `mirror: [{from: a, name: "${env:SECRET}"}, {from: b, name: "${env:SECRET}"}]`},
		{"a secret in the user of an address", `upstreams: {docker.io: {endpoint: "https://user:opensesame@x.example"}}`},
		{"a secret in the user of the address of a vault", `backup: [{name: a, to: "s3://key:opensesame@b"}]`},
		{"a secret in the query of an address", `backup: [{name: a, to: "s3://b?key=opensesame"}]`},
		{"a secret in text that is no YAML", "upstreams:\n  docker.io:\n    credentials: {password: opensesame\n"},
		{"a secret between unknown references", `upstreams: {docker.io: {credentials: {username: a, password: "opensesame${x}"}}}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := loadText(test.text, variables{"SECRET": secret})
			if err == nil {
				t.Fatal("no fault")
			}
			if strings.Contains(err.Error(), secret) {
				t.Error(err)
			}
		})
	}
	t.Run("a number", func(t *testing.T) {
		_, err := loadText("upstreams: {docker.io: {credentials: {username: a, password: 314159}}}", nil)
		if err == nil || strings.Contains(err.Error(), "314159") {
			t.Error(err)
		}
	})
}

func TestWhatAnErrorRepeatsIsNotPrinted(t *testing.T) {
	d := &decoder{source: source{given: []string{"open\"sesame"}}, places: map[string]place{"a": {written: "b", text: true}}}
	for _, message := range []string{`open"sesame is wrong`, `"open\"sesame" is wrong`} {
		d.refuseValue("a", errors.New(message))
	}
	d.places["b"] = place{written: `shut"sesame`, text: true, hidden: true, secret: true}
	d.refuseValue("b", errors.New(`"shut\"sesame" is too short`))
	for _, f := range d.found {
		if strings.Contains(f.Problem, "sesame") {
			t.Error(f)
		}
	}
}
