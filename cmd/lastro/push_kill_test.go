package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"lastro/mirror/sample"
)

// acknowledged notes the tags that a registry said it has.
type acknowledged struct {
	mu   sync.Mutex
	tags map[string]string
}

// RoundTrip sends a request of a push.
func (a *acknowledged) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	repo, tag, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
	if err == nil && ok && res.StatusCode == http.StatusCreated && !strings.Contains(tag, ":") {
		a.mu.Lock()
		a.tags[repo+":"+tag] = res.Header.Get("Docker-Content-Digest")
		a.mu.Unlock()
	}
	return res, err
}

// newPushBench is a daemon's folder that takes pushes to every repository.
func newPushBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, "")
	text := fmt.Sprintf("data: %s\nregistry: {listen: %q, push: ['**']}\nadmin: {listen: %q}\n", b.data(), b.registry, freeAddress(t))
	if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// push puts the images into the daemon, until it ends, and tells what it acknowledged.
func (b *bench) push(t *testing.T, images *sample.Images) (map[string]string, error) {
	t.Helper()
	a := &acknowledged{tags: map[string]string{}}
	client := &http.Client{Transport: a}
	err := images.PushTo(t.Context(), client, "http://"+b.registry)
	client.CloseIdleConnections()
	return a.tags, err
}

// TestAKillOfTheDaemonLosesNoPushThatItAcknowledged ends the daemon with SIGKILL
// just before changes on disk, while a client pushes.
func TestAKillOfTheDaemonLosesNoPushThatItAcknowledged(t *testing.T) {
	images := sample.Generate(sample.Options{})
	steps := countPushSteps(t, images)
	stride := max(steps/killPoints, 1)
	if *long {
		stride = 1
	}
	for at := stride / 2; at <= steps-steps/20; at += stride {
		t.Run("before step "+strconv.Itoa(at)+" of "+strconv.Itoa(steps), func(t *testing.T) {
			t.Parallel()
			b := newPushBench(t)
			cmd := b.command(t, "serve")
			cmd.Env = append(cmd.Env, "LASTRO_TEST_KILL_AT="+strconv.Itoa(at))
			daemon := start(t, cmd)
			daemon.wait(t, `msg="lastro serves"`)
			promised, err := b.push(t, images)
			if err == nil {
				t.Fatal("the daemon was not killed")
			}
			<-daemon.done
			got := visibleIsWhole(t, b)
			for name, digest := range promised {
				if got[name] != digest {
					t.Errorf("%s was acknowledged as %s, and is %q", name, digest, got[name])
				}
			}
			pushedAgain(t, b, images)
		})
	}
}

func countPushSteps(t *testing.T, images *sample.Images) int {
	t.Helper()
	b := newPushBench(t)
	file := filepath.Join(b.dir, "steps")
	cmd := b.command(t, "serve")
	cmd.Env = append(cmd.Env, "LASTRO_TEST_STEPS="+file)
	daemon := start(t, cmd)
	daemon.wait(t, `msg="lastro serves"`)
	if _, err := b.push(t, images); err != nil {
		t.Fatal(err)
	}
	daemon.end(syscall.SIGTERM)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := strconv.Atoi(string(text))
	if err != nil || steps < 10*killPoints {
		t.Fatalf("%d steps (%v): the fault point is not where the changes are", steps, err)
	}
	return steps
}

// pushedAgain pushes everything to the daemon that comes back, and pulls it.
func pushedAgain(t *testing.T, b *bench, images *sample.Images) {
	t.Helper()
	daemon := b.serve(t)
	if _, err := b.push(t, images); err != nil {
		t.Fatal(err)
	}
	for _, e := range images.Expect() {
		got, err := sample.Pull(t.Context(), "http://"+b.registry, e.Repo, e.Tag)
		if err == nil {
			err = e.Check(got)
		}
		if err != nil {
			t.Error(err)
		}
	}
	daemon.end(syscall.SIGTERM)
	visibleIsWhole(t, b)
}
