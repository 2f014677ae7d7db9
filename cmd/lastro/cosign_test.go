package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lastro/mirror/sample"
)

// heavy returns the path of a peer that takes minutes to build: where it is not
// installed the test is skipped, unless LASTRO_REQUIRE_PEERS is set.
func heavy(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	if os.Getenv("LASTRO_REQUIRE_PEERS") == "" {
		t.Skipf("skipped: %s is not installed", name)
	}
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", "-modfile=.ci/"+name+".mod", name)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build the peer %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// signer is a person with cosign and a key.
type signer struct{ cosign, home, key string }

func newSigner(t *testing.T, cosign string) signer {
	t.Helper()
	s := signer{cosign, t.TempDir(), ""}
	s.key = filepath.Join(s.home, "cosign")
	if out, err := s.command(t, "generate-key-pair", "--output-key-prefix", s.key).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return s
}

func (s signer) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.cosign, args...)
	cmd.Env = append(os.Environ(), "HOME="+s.home, "COSIGN_PASSWORD=")
	return cmd
}

// The two formats of cosign's signatures, and what only one of them says.
var signatureFormats = []struct{ name, flag, says string }{
	{"a tag", "--new-bundle-format=false", "cosign container image signature"},
	{"a bundle among the referrers", "--new-bundle-format=true", "https://sigstore.dev/cosign/sign/v1"},
}

func (s signer) sign(t *testing.T, image string) {
	t.Helper()
	for _, f := range signatureFormats {
		cmd := s.command(t, "sign", f.flag, "--key", s.key+".key", "--use-signing-config=false", "--tlog-upload=false", "--allow-http-registry", "--yes", image)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sign with %s: %v\n%s", f.name, err, out)
		}
	}
}

// verify is what cosign prints of the signatures of a format.
func (s signer) verify(t *testing.T, image, flag string) (string, error) {
	t.Helper()
	out, err := s.command(t, "verify", flag, "--key", s.key+".pub", "--insecure-ignore-tlog", "--allow-http-registry", image).CombinedOutput()
	return string(out), err
}

func TestAnImageSignedWithCosignVerifiesFromTheMirrorAlone(t *testing.T) {
	peer := heavy(t, "cosign")
	for name, registry := range map[string]func(*testing.T) http.Handler{
		"an upstream with fallback tags":       distribution,
		"an upstream with a list of referrers": referrersAPI,
	} {
		t.Run(name, func(t *testing.T) {
			upstream := httptest.NewServer(registry(t))
			defer upstream.Close()
			images := sample.Generate(sample.Options{})
			if err := images.PushTo(t.Context(), http.DefaultClient, upstream.URL); err != nil {
				t.Fatal(err)
			}
			b := newBench(t, strings.TrimPrefix(upstream.URL, "http://"))
			s, other := newSigner(t, peer), newSigner(t, peer)
			s.sign(t, b.upstream+"/library/tools@"+digestOf(images, "library/tools", "1"))
			b.configure(t, "library/tools")
			b.serve(t)
			b.run(t, exitDone, "sync")
			upstream.Close()

			image := b.registry + "/mirror:1"
			for _, f := range signatureFormats {
				if out, err := s.verify(t, image, f.flag); err != nil || !strings.Contains(out, f.says) {
					t.Errorf("signed with %s: cosign does not verify it from the mirror: %v\n%s", f.name, err, out)
				}
				if out, err := other.verify(t, image, f.flag); err == nil {
					t.Errorf("signed with %s: cosign verifies it with any key:\n%s", f.name, out)
				}
			}
		})
	}
}

// distribution is a registry without a list of referrers.
func distribution(t *testing.T) http.Handler {
	t.Helper()
	to := &url.URL{Scheme: "http", Host: startRegistry(t)}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
}

// referrersAPI is a registry with a list of referrers.
func referrersAPI(t *testing.T) http.Handler {
	t.Helper()
	reg, err := sample.Start(sample.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return reg.Handler()
}

func digestOf(images *sample.Images, repo, tag string) string {
	for _, e := range images.Expect() {
		if e.Repo == repo && e.Tag == tag {
			return e.Digest.String()
		}
	}
	return ""
}
