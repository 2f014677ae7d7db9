package push

import (
	"context"
	"encoding/xml"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lastro/store"
	"lastro/store/serve"
	"lastro/store/storetest"
)

// tool builds a peer that comes as a Go module and returns the path of its binary.
func tool(t testing.TB, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", "-modfile=.ci/tools.mod", name)
	cmd.Dir = filepath.Join("..", "..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build the peer %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// everybody may push everywhere, and mount from everywhere.
func everybody() Options {
	return Options{
		Pushable: func(string) bool { return true },
		MayPull:  func(*http.Request, string) bool { return true },
	}
}

// registry is the whole registry on a loopback port: pulls and pushes.
func registry(t testing.TB, s *store.Store, o Options) (address string) {
	t.Helper()
	pushes, err := New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := serve.New(s, serve.Options{Push: pushes})
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: whole}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// TestTheConformanceSuiteFindsNoFailure runs the suite of the distribution-spec
// with every test on, those of the coming version too. Only manifests of which
// something is missing are left out: the suite wants them taken, the spec lets a
// registry refuse them, and this one does, so that what is visible is whole.
func TestTheConformanceSuiteFindsNoFailure(t *testing.T) {
	t.Parallel()
	suite := tool(t, "conformance")
	address, results := registry(t, newClient(t, storetest.Folder(t), everybody()).store, everybody()), t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, suite)
	cmd.Dir = results
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OCI_") })
	cmd.Env = append(cmd.Env, "OCI_REGISTRY="+address, "OCI_TLS=disabled", "OCI_VERSION=dev", "OCI_RESULTS_DIR="+results)
	said, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatal(err)
	}
	report := junit(t, filepath.Join(results, "junit.xml"))
	t.Logf("%d tests: %d failures, %d errors, %d skipped, %d disabled", report.Tests, report.Failures, report.Errors, report.Skipped, report.Disabled)
	if err != nil || report.Failures+report.Errors+report.Skipped > 0 || report.Tests < 900 {
		t.Errorf("the suite ends with %v:\n%s", err, said)
	}
}

type junitReport struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
	Skipped  int `xml:"skipped,attr"`
	Disabled int `xml:"disabled,attr"`
}

func junit(t *testing.T, name string) (r junitReport) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err == nil {
		err = xml.Unmarshal(raw, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}
