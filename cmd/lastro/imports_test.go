package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// goPackage is what `go list` says of a package.
type goPackage struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// homes says below which of our packages a heavy dependency may be imported.
var homes = map[string][]string{
	"github.com/Masterminds/semver":          {"lastro/mirror/version"},
	"github.com/distribution/distribution":   {"lastro/store"},
	"go.etcd.io/bbolt":                       {"lastro/store/ledger"},
	"github.com/aws/aws-sdk-go-v2":           {"lastro/store/vault/bucket", "lastro/mirror/upstream/ecr"},
	"github.com/prometheus":                  {"lastro/cmd/lastro/internal/web"},
	"oras.land/oras-go":                      {"lastro/mirror/upstream"},
	"github.com/google/go-containerregistry": {"lastro/mirror/sample"},
	"github.com/spf13/cobra":                 {"lastro/cmd/lastro"},
}

// forbidden says which of our packages another one may not reach, however long the chain.
var forbidden = []struct {
	from string
	may  func(imported string) bool
}{
	{"lastro/retention", func(string) bool { return false }},
	{"lastro/mirror", func(p string) bool { return within(p, "lastro/mirror") }},
	{"lastro/store", func(p string) bool { return within(p, "lastro/store") || within(p, "lastro/mirror") }},
	{"lastro/configs", func(p string) bool { return !within(p, "lastro/cmd") }},
}

func within(pkg, tree string) bool { return pkg == tree || strings.HasPrefix(pkg, tree+"/") }

func TestImportsPointInward(t *testing.T) {
	packages := listPackages(t)
	for _, rule := range forbidden {
		for name := range packages {
			if !within(name, rule.from) {
				continue
			}
			if chain := findChain(packages, name, func(p string) bool { return within(p, "lastro") && !rule.may(p) }); chain != nil {
				t.Errorf("%s must not reach %s: %s", name, chain[len(chain)-1], strings.Join(chain, " → "))
			}
		}
	}
}

func TestRetentionImportsOnlyTheStandardLibrary(t *testing.T) {
	packages := listPackages(t)
	for _, imported := range packages["lastro/retention"].Imports {
		if p, known := packages[imported]; !known || !p.Standard {
			t.Errorf("lastro/retention imports %s", imported)
		}
	}
}

func TestHeavyDependenciesHaveOneHome(t *testing.T) {
	for name, p := range listPackages(t) {
		if !within(name, "lastro") {
			continue
		}
		for _, imported := range p.Imports {
			for dep, allowed := range homes {
				if within(imported, dep) && !slices.ContainsFunc(allowed, func(home string) bool { return within(name, home) }) {
					t.Errorf("%s imports %s, whose home is %s", name, imported, strings.Join(allowed, ", "))
				}
			}
		}
	}
}

// findChain is the first way from a package to one that is refused.
func findChain(packages map[string]goPackage, from string, refused func(string) bool) []string {
	seen := map[string]bool{from: true}
	queue := [][]string{{from}}
	for len(queue) > 0 {
		chain := queue[0]
		queue = queue[1:]
		for _, next := range packages[chain[len(chain)-1]].Imports {
			if seen[next] || !within(next, "lastro") {
				continue
			}
			seen[next] = true
			longer := append(slices.Clone(chain), next)
			if refused(next) {
				return longer
			}
			queue = append(queue, longer)
		}
	}
	return nil
}

func listPackages(t *testing.T) map[string]goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Imports", "lastro/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string]goPackage{}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("go list printed what is not JSON: %v", err)
		}
		packages[p.ImportPath] = p
	}
}
