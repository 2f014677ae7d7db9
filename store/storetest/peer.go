package storetest

import (
	"os"
	"os/exec"
	"testing"
)

// Installed returns the path of a peer that comes as a system package. Where it
// is absent the test is skipped, or fails when LASTRO_REQUIRE_PEERS is set.
func Installed(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("LASTRO_REQUIRE_PEERS") != "":
		t.Fatalf("%s is not installed and LASTRO_REQUIRE_PEERS is set", name)
	default:
		t.Skipf("skipped: %s is not installed", name)
	}
	return ""
}
