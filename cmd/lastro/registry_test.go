package main

import (
	"testing"
	"time"
)

func TestNamesOfLocalRepositoriesAreRememberedForAWhile(t *testing.T) {
	now, asked := time.Now(), 0
	repos := map[string]string{"here": "here", "debian": "docker.io/library/debian"}
	l := &literal{now: func() time.Time { return now }, find: func(ns, name string) (string, bool) {
		asked++
		repo, ok := repos[name]
		return ns + repo, ok
	}}
	for _, c := range []struct {
		after    time.Duration
		ns, name string
		repo     string
		ok       bool
		asked    int
	}{
		{0, "", "here", "here", true, 1},
		{literalFor - 1, "", "here", "here", true, 0},
		{0, "a/", "here", "a/here", true, 1},
		{1, "", "here", "here", true, 1},
		{0, "", "debian", "docker.io/library/debian", true, 1},
		{0, "", "debian", "docker.io/library/debian", true, 1},
		{0, "", "nowhere", "", false, 1},
		{0, "", "nowhere", "", false, 1},
	} {
		now, asked = now.Add(c.after), 0
		if repo, ok := l.Find(c.ns, c.name); repo != c.repo || ok != c.ok || asked != c.asked {
			t.Errorf("%q %q: %q %v, asked %d times; want %+v", c.ns, c.name, repo, ok, asked, c)
		}
	}
	for i := range 2 * maxLiterals {
		name := time.Duration(i).String()
		repos[name] = name
		l.Find("", name)
	}
	if len(l.until) > maxLiterals {
		t.Errorf("%d are remembered", len(l.until))
	}
}
