package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// job is one run of a contender.
type job struct {
	upstream string // host and port
	target   string // host and port; of lastro: data folder
	repos    []string
	config   string // a file to write
}

// contender is a program that copies repositories.
type contender struct {
	name string
	// commands are what is run for a job, one after the other.
	commands func(job) ([][]string, error)
	// local is the name of a repository in the target.
	local func(repo string) string
	// keeps says that it has its own store and needs no registry to push to.
	keeps bool
}

func same(repo string) string { return repo }

func lastro(binary string) contender {
	return contender{name: "lastro", local: same, keeps: true, commands: func(j job) ([][]string, error) {
		var text strings.Builder
		fmt.Fprintf(&text, "data: %q\nupstreams:\n  up.test: {endpoint: %q, plain-http: true, credentials: none}\nmirror:\n", j.target, "http://"+j.upstream)
		for _, repo := range j.repos {
			fmt.Fprintf(&text, "  - {from: %q, to: %q}\n", "up.test/"+repo, repo)
		}
		return [][]string{{binary, "--config", j.config, "--quiet", "sync"}}, os.WriteFile(j.config, []byte(text.String()), 0o600)
	}}
}

type regsyncSettings struct {
	parallel, requests int
	attached           bool // it is to copy signatures and referrers, as lastro does
}

func regsync(binary string, s regsyncSettings) contender {
	return contender{name: "regsync", local: same, commands: func(j job) ([][]string, error) {
		var text strings.Builder
		fmt.Fprintf(&text, "version: 1\ndefaults: {parallel: %d, digestTags: %t, referrers: %t}\ncreds:\n", s.parallel, s.attached, s.attached)
		for _, host := range []string{j.upstream, j.target} {
			fmt.Fprintf(&text, "  - {registry: %q, tls: disabled, reqConcurrent: %d}\n", host, s.requests)
		}
		text.WriteString("sync:\n")
		for _, repo := range j.repos {
			fmt.Fprintf(&text, "  - {source: %q, target: %q, type: repository}\n", j.upstream+"/"+repo, j.target+"/"+repo)
		}
		return [][]string{{binary, "once", "--config", j.config}}, os.WriteFile(j.config, []byte(text.String()), 0o600)
	}}
}

// crane knows repositories only one by one.
func crane(binary string, jobs int) contender {
	return contender{name: "crane", local: same, commands: func(j job) ([][]string, error) {
		var commands [][]string
		for _, repo := range j.repos {
			commands = append(commands, []string{binary, "copy", "--insecure", "--all-tags", "--jobs", fmt.Sprint(jobs), j.upstream + "/" + repo, j.target + "/" + repo})
		}
		return commands, nil
	}}
}

// skopeo puts every repository under the last part of its name.
func skopeo(binary string) contender {
	const folder = "mirror"
	local := func(repo string) string { return folder + "/" + path.Base(repo) }
	return contender{name: "skopeo", local: local, commands: func(j job) ([][]string, error) {
		seen := map[string]bool{}
		var text strings.Builder
		fmt.Fprintf(&text, "%q:\n  tls-verify: false\n  images:\n", j.upstream)
		for _, repo := range j.repos {
			if seen[path.Base(repo)] {
				return nil, fmt.Errorf("two repositories end in %s, which skopeo cannot keep apart", path.Base(repo))
			}
			seen[path.Base(repo)] = true
			fmt.Fprintf(&text, "    %q: []\n", repo)
		}
		config := strings.TrimSuffix(j.config, filepath.Ext(j.config)) + ".yaml" // skopeo wants this ending
		return [][]string{{binary, "--insecure-policy", "sync", "--all", "--dest-tls-verify=false", "--src", "yaml", "--dest", "docker", config, j.target + "/" + folder}},
			os.WriteFile(config, []byte(text.String()), 0o600)
	}}
}
