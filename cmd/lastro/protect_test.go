package main

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/configs"
	"lastro/mirror/sample"
	"lastro/retention"
	"lastro/store/ledger"
)

// remove asks the daemon as a client that deletes.
func (b *bench) remove(t *testing.T, repo, reference string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://"+b.registry+"/v2/"+repo+"/manifests/"+reference, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

func TestClientsCannotDeleteWhatIsProtectedNorWhatBelongsToIt(t *testing.T) {
	b := newPushBench(t)
	b.serve(t)
	images := sample.Generate(sample.Options{})
	if _, err := b.push(t, images); err != nil {
		t.Fatal(err)
	}
	var shown struct {
		Digest    string
		Referrers []struct{ Digest string }
	}
	b.read(t, &shown, "show", "library/base:latest")
	if len(shown.Referrers) == 0 {
		t.Fatal("the image has no referrers")
	}
	b.run(t, exitDone, "protect", "add", "audit", "library/base:latest")
	signature := strings.Replace(shown.Digest, ":", "-", 1) + ".sig"
	for _, reference := range []string{"latest", shown.Digest, shown.Referrers[0].Digest, signature} {
		if code := b.remove(t, "library/base", reference); code != http.StatusConflict {
			t.Errorf("DELETE of %s: %d, want %d", reference, code, http.StatusConflict)
		}
	}
	b.run(t, exitDone, "protect", "remove", "audit")
	for _, reference := range []string{signature, shown.Referrers[0].Digest, "latest", shown.Digest} {
		if code := b.remove(t, "library/base", reference); code != http.StatusAccepted {
			t.Errorf("DELETE of %s: %d, want %d", reference, code, http.StatusAccepted)
		}
	}
}

func TestAProtectionIsOfWhoTypesItAlsoInTheDaemon(t *testing.T) {
	b, _ := sampleBench(t)
	b.run(t, exitDone, "sync")
	var without, with protectionReport
	b.read(t, &without, "protect", "add", "without", "mirror/apps/web:1.0")
	b.serve(t)
	b.read(t, &with, "protect", "add", "with", "mirror/apps/web:1.0")
	if got, want := with.Protections[0].Owner, without.Protections[0].Owner; got != want || got != userName() {
		t.Errorf("the owner is %q in the daemon and %q without one, want %q", got, want, userName())
	}
}

// openBench opens a bench's data in this process.
func (b *bench) open(t *testing.T) *site {
	t.Helper()
	cfg, err := configs.Load(b.config())
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSite(cfg, slog.New(slog.DiscardHandler), host{now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestWhatChangedSinceRetentionDecidedStays(t *testing.T) {
	b, _ := sampleBench(t)
	b.run(t, exitDone, "sync")
	s := b.open(t)
	const repo = "mirror/apps/web"
	at := func(tag string) digest.Digest {
		state, err := s.ledger().Tag(t.Context(), repo, tag)
		if err != nil {
			t.Fatal(err)
		}
		return state.Digest
	}
	if err := s.ledger().RecordProtection(t.Context(), ledger.Protection{Name: "late", Repo: repo, Digest: at("1.1"), Owner: "ann"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, tag string
		decided   digest.Digest
		gone      bool
	}{
		{"a tag that moved", "1.0", at("1.2"), false},
		{"a tag whose digest was protected", "1.1", at("1.1"), false},
		{"a tag that is what it was", "1.2", at("1.2"), true},
	} {
		var out retained
		d := retainDecision{Repo: repo, Tag: c.tag, Digest: c.decided, Remove: true, Reasons: []string{"old"}}
		if err := (retaining{site: s, out: &out}).remove(t.Context(), &d); err != nil {
			t.Fatal(err)
		}
		_, err := s.ledger().Tag(t.Context(), repo, c.tag)
		if gone := err != nil; gone != c.gone || d.Remove != c.gone || out.Removed == 1 != c.gone {
			t.Errorf("%s: gone %v, decision %v, counted %d", c.name, gone, d, out.Removed)
		}
	}
	gone := retainDecision{Repo: repo, Tag: "1.2", Digest: digest.FromString("x"), Remove: true}
	if err := (retaining{site: s, out: &retained{}}).remove(t.Context(), &gone); err != nil {
		t.Errorf("a tag that is gone already: %v", err)
	}
}

func TestASignatureStaysWithAnIndexThatHasItsImage(t *testing.T) {
	b, _ := sampleBench(t)
	b.run(t, exitDone, "sync")
	s := b.open(t)
	const repo = "mirror/library/tools"
	index, err := s.ledger().Tag(t.Context(), repo, "1")
	if err != nil {
		t.Fatal(err)
	}
	child, err := s.ledger().Tag(t.Context(), repo, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	sig := strings.Replace(child.Digest.String(), ":", "-", 1) + ".sig"
	if err := s.ledger().RecordEvent(t.Context(), ledger.Event{Repo: repo, Tag: sig, Digest: index.Digest, Event: ledger.Seen}); err != nil {
		t.Fatal(err)
	}
	rule, err := retention.Rule{Match: "**", Keep: retention.Keep{Tags: []string{"1"}}, MaxRemovals: 1}.Compile(ruleLanguage())
	if err != nil {
		t.Fatal(err)
	}
	tags, err := s.retentionTags(t.Context(), repo, s.requirement(nil))
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := retention.Decide(repo, tags, []retention.Compiled{rule}, s.now())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, d := range decisions {
		got[d.Tag] = d.Remove
	}
	if !got["amd64"] || got["1"] || got[sig] {
		t.Errorf("what goes: %v; want amd64 alone", got)
	}
}

func TestWhatOnlyPartsOfAreInAVaultIsNotBackedUp(t *testing.T) {
	b, _ := sampleBench(t)
	b.run(t, exitDone, "sync")
	s := b.open(t)
	const repo = "mirror/apps/web"
	state, err := s.ledger().Tag(t.Context(), repo, "1.0")
	if err != nil {
		t.Fatal(err)
	}
	var states []ledger.TagState
	for tag, err := range s.ledger().Tags(t.Context(), repo) {
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, tag)
	}
	attached, ids := attachedDigests(states), map[string]string{"main": "id", "far": "far id"}
	whole, err := s.everythingOf(t.Context(), repo, state.Digest, attached)
	if err != nil {
		t.Fatal(err)
	}
	closure, err := s.store.Closure(t.Context(), repo, state.Digest)
	if err != nil || len(whole) <= len(closure) {
		t.Fatalf("signatures are no part of it: %d digests of a closure of %d (%v)", len(whole), len(closure), err)
	}
	r := s.requirement(nil)
	held := func() []string {
		names, err := r.backups(t.Context(), repo, state.Digest, ids, attached)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	for i, d := range whole {
		if names := held(); len(names) > 0 {
			t.Fatalf("with %d of %d digests it is in %v", i, len(whole), names)
		}
		if err := s.ledger().RecordHeld(t.Context(), "id", []digest.Digest{d}); err != nil {
			t.Fatal(err)
		}
	}
	if names := held(); len(names) != 1 || names[0] != "main" {
		t.Errorf("with all of them it is in %v, want main", names)
	}
	unread, err := r.backups(t.Context(), repo, digest.FromString("nothing"), ids, attached)
	if err != nil || len(unread) > 0 {
		t.Errorf("what cannot be read is in %v, %v", unread, err)
	}
}
