package demand

import (
	"strings"

	"lastro/mirror"
)

// Names finds which local repository a client means. It looks at names only,
// and asks no upstream.
type Names struct {
	Rules   func() *mirror.Directory
	Known   func(host string) bool // an upstream is configured, with or without rules; nil: those of rules are
	Here    func(repo string) bool // the local registry has the repository, or clients may push to it; nil: it has none
	Default func() string          // the upstream that names without a host belong to; nil or "": there is none
}

// Find returns the local repository for a name, and for the upstream ns when the
// client gives one, as containerd does. An upstream that nobody configured, and
// what is no repository's name, is not ok.
//
// With ns, the name is that upstream's. Without, it is the local repository of
// this name, if there is one, if clients may push to it, or if a rule puts one
// there; else it begins with an upstream's host; else it is the default
// upstream's. Where several rules copy a repository, the first says where to.
func (n Names) Find(ns, name string) (repo string, ok bool) {
	if ns != "" {
		return n.at(ns, name)
	}
	rules := n.Rules()
	if len(rules.Origins(name)) > 0 || n.Here != nil && n.Here(name) {
		return name, true // most names: nothing else was looked at
	}
	if !isName(name) {
		return "", false
	}
	if repo, ok := n.prefixed(rules, name); ok {
		return repo, true
	}
	if n.Default != nil && n.Default() != "" {
		return n.at(n.Default(), name)
	}
	return name, true
}

func isName(name string) bool {
	_, err := mirror.ParseReference("localhost/" + name)
	return err == nil && !strings.ContainsAny(name, ":@")
}

// prefixed reads a name that begins with an upstream's host, the port's ':'
// written '-' or not.
func (n Names) prefixed(rules *mirror.Directory, name string) (string, bool) {
	host, rest, ok := strings.Cut(name, "/")
	if !ok {
		return "", false
	}
	if named, ok := rules.Host(host); ok {
		host = named
	}
	return n.at(host, rest)
}

// at is where a repository of an upstream goes.
func (n Names) at(host, name string) (string, bool) {
	host = strings.ToLower(host)
	if !isName(name) || strings.ContainsAny(host, "/@") || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "", false // it would be read as a part of the name
	}
	ref, err := mirror.ParseReference(host + "/" + name)
	if err != nil {
		return "", false
	}
	rules := n.Rules()
	if ruled, _ := rules.Host(ref.Host); ruled != ref.Host && !n.known(ref.Host) {
		return "", false
	}
	if repo, ok := rules.Local(ref); ok {
		return repo, true
	}
	return ref.Local(), true
}

func (n Names) known(host string) bool { return n.Known != nil && n.Known(host) }
