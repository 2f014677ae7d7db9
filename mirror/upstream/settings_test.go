package upstream

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"

	"lastro/mirror/upstream/ecr"
	"lastro/mirror/upstream/keychain"
)

func TestSettingsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Settings
		want string // in the error; "": there is none
	}{
		{"the defaults are right", Defaults(), ""},
		{"nothing set is right", Settings{}, ""},
		{"an endpoint without a scheme is refused", Settings{Endpoint: "registry.test"}, "endpoint: "},
		{"an endpoint with a path is refused", Settings{Endpoint: "https://a.test/v2/"}, "endpoint: "},
		{"an endpoint with a user is refused", Settings{Endpoint: "https://u:p@a.test"}, "endpoint: a user"},
		{"https and plain-http contradict each other", Settings{Endpoint: "https://a.test", PlainHTTP: true}, "plain-http is true"},
		{"http and plain-http agree", Settings{Endpoint: "http://a.test", PlainHTTP: true}, ""},
		{"negative connections are refused", Settings{Connections: -1}, "connections: -1"},
		{"a negative pace is refused", Settings{RequestsPerSecond: -1}, "requests-per-second: -1"},
		{"a bandwidth that brings nothing is refused", Settings{Bandwidth: 1023}, "bandwidth: "},
		{"a small bandwidth is right", Settings{Bandwidth: 1024}, ""},
		{"a reserve of everything is refused", Settings{Reserve: 1}, "reserve: "},
		{"credentials of all kinds are right", Settings{Credentials: []Credentials{{}, {Username: "u", Password: "p"}, {Token: "t"}, {Helper: "pass"}, {ECR: &ecr.Settings{}}, {anonymous: true}}}, ""},
		{"two ways at once are refused", Settings{Credentials: []Credentials{{Token: "t", Helper: "pass"}}}, "credentials: more than one"},
		{"the fault of one of several says which", Settings{Credentials: []Credentials{{}, {Username: "u"}}}, "credentials[1]: "},
		{"a token with a line break is refused", Settings{Credentials: []Credentials{{Token: "t\n"}}}, "credentials: token"},
		{"a helper with a path is refused", Settings{Credentials: []Credentials{{Helper: "../pass"}}}, "credentials: helper"},
		{"a role that is none is refused", Settings{Credentials: []Credentials{{ECR: &ecr.Settings{Role: "me"}}}}, "credentials.ecr.role: "},
		{"a mirror is right", Settings{Mirrors: []Mirror{{URL: "https://mirror.gcr.io"}}}, ""},
		{"a mirror without an address is refused", Settings{Mirrors: []Mirror{{URL: "https://a.test"}, {}}}, "mirrors[1].url: "},
		{"a mirror with wrong credentials is refused", Settings{Mirrors: []Mirror{{URL: "https://a.test", Credentials: []Credentials{{Username: "u"}}}}}, "mirrors[0].credentials: "},
		{"a name without a password is refused", Settings{Credentials: []Credentials{{Username: "u"}}}, "credentials: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.s.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestCredentialsHaveScalarForms(t *testing.T) {
	for text, want := range map[string]Credentials{"docker-config": {}, "none": {anonymous: true}, "ecr": {ECR: &ecr.Settings{}}} {
		got := Credentials{Username: "before"}
		if err := got.UnmarshalText([]byte(text)); err != nil || !reflect.DeepEqual(got, want) || got.String() != text {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	if err := new(Credentials).UnmarshalText([]byte("anonymous")); err == nil {
		t.Error("a third form is taken")
	}
	for _, c := range []Credentials{{Username: "me", Password: password}, {Token: password}} {
		all := Settings{Credentials: []Credentials{c}, Mirrors: []Mirror{{Credentials: []Credentials{c}}}}
		if text := fmt.Sprintf("%v %+v %#v %+v %#v", c, c, c, all, all); strings.Contains(text, password) {
			t.Errorf("%s shows the password", text)
		}
	}
}

func TestTheAddressFollowsTheHost(t *testing.T) {
	for _, c := range []struct {
		name, host string
		s          Settings
		want       string
		keys       []string
	}{
		{"Docker Hub's API and credentials have names of their own", "docker.io", Settings{}, "https://registry-1.docker.io",
			[]string{"https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"}},
		{"localhost speaks TLS too", "localhost:5000", Settings{}, "https://localhost:5000", []string{"localhost:5000"}},
		{"plain HTTP is said", "localhost:5000", Settings{PlainHTTP: true}, "http://localhost:5000", []string{"localhost:5000"}},
		{"credentials of a host are not for an endpoint elsewhere", "docker.io", Settings{Endpoint: "https://proxy.test/"}, "https://proxy.test", []string{"proxy.test"}},
		{"another port of the same host gets them", "a.test", Settings{Endpoint: "https://a.test:8443"}, "https://a.test:8443", []string{"a.test:8443", "a.test"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open(t, c.host, c.s)
			if got := r.endpoint.String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got := keychain.Keys(r.host, r.endpoint); !reflect.DeepEqual(got, c.keys) {
				t.Errorf("got %q, want %q", got, c.keys)
			}
		})
	}
	if _, err := Open("a.test/b", Settings{}, Options{}); err == nil {
		t.Error("a host with a path is taken")
	}
}

// docker makes a Docker configuration, with a helper that knows one host.
func docker(t *testing.T, config string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("config.json", config, 0o600)
	write("docker-credential-fake", `#!/bin/sh
read host
case "$host" in
helped.test) echo '{"Username":"helper","Secret":"from-helper"}';;
token.test) echo '{"Username":"<token>","Secret":"identity"}';;
broken.test) echo 'the keyring is locked'; exit 1;;
*) echo 'credentials not found in native keychain'; exit 1;;
esac
`, 0o700)
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestCredentialsComeFromDocker(t *testing.T) {
	docker(t, `{
		"auths": {
			"https://index.docker.io/v1/": {"auth": "aHViOmh1YnB3"},
			"plain.test": {"username": "u", "password": "p"},
			"bad.test": {"auth": "bm8gY29sb24gc2VjcmV0"}},
		"credHelpers": {"helped.test": "fake", "token.test": "fake", "broken.test": "fake", "empty.test": "fake", "gone.test": "missing"}}`)
	for _, c := range []struct {
		name, host string
		want       auth.Credential
		err        string
	}{
		{"Docker Hub's entry", "docker.io", auth.Credential{Username: "hub", Password: "hubpw"}, ""},
		{"an entry of a host", "plain.test", auth.Credential{Username: "u", Password: "p"}, ""},
		{"a helper", "helped.test", auth.Credential{Username: "helper", Password: "from-helper"}, ""},
		{"a helper with an identity token", "token.test", auth.Credential{RefreshToken: "identity"}, ""},
		{"a helper that knows nothing", "empty.test", auth.EmptyCredential, ""},
		{"a helper that fails", "broken.test", auth.EmptyCredential, "docker-credential-fake for broken.test: the keyring is locked"},
		{"a helper that is missing", "gone.test", auth.EmptyCredential, "docker-credential-missing"},
		{"a host without an entry", "other.test", auth.EmptyCredential, ""},
		{"an entry that cannot be read is not quoted", "bad.test", auth.EmptyCredential, "docker login"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := login(t, open(t, c.host, Settings{}))
			if got != c.want || (err == nil) != (c.err == "") {
				t.Fatalf("got %v, %v", got, err)
			}
			if c.err != "" {
				wantError(t, err, c.err)
			}
		})
	}
}

func TestAMissingDockerConfigurationMeansNoCredentials(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if got, err := login(t, open(t, "a.test", Settings{})); got != auth.EmptyCredential || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", "")
	if got, err := login(t, open(t, "a.test", Settings{})); got != auth.EmptyCredential || err != nil {
		t.Errorf("without a home: got %v, %v", got, err)
	}
}
