package main

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"lastro/mirror/sample"
)

// TestImagesAreRestoredIntoAnotherRegistry pulls them there, in a registry without a
// list of referrers and in one of ours.
func TestImagesAreRestoredIntoAnotherRegistry(t *testing.T) {
	upstream, err := sample.Start(sample.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	if _, err := upstream.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, upstream.Addr())
	b.configure(t, "**")
	b.run(t, exitDone, "sync")
	b.run(t, exitDone, "backup")
	before := upstream.Expect()
	if _, err := upstream.Move(t.Context(), "apps/web", "latest"); err != nil {
		t.Fatal(err)
	}
	after := upstream.Expect()

	for name, start := range map[string]func(*testing.T) string{"distribution": startRegistry, "lastro": startLastro} {
		t.Run(name, func(t *testing.T) {
			to := start(t)
			url := "http://" + to + "/copies/of"
			var plan, done, again struct {
				Blobs, Bytes int
				Failed       []any
			}
			b.read(t, &plan, "restore", "--to", url, "--dry-run")
			b.read(t, &done, "restore", "--to", url)
			if plan.Blobs == 0 || plan.Blobs != done.Blobs || plan.Bytes != done.Bytes || len(done.Failed) > 0 {
				t.Errorf("planned %+v, did %+v", plan, done)
			}
			pulledThere(t, to, before)
			b.read(t, &again, "restore", "--to", url)
			if again.Blobs != 0 || again.Bytes != 0 {
				t.Errorf("the second time it sent %+v", again)
			}

			// A tag that moved there is left alone, and moved back by force.
			moved := &movedRegistry{to: to}
			moved.move(t, after)
			out := b.run(t, exitPart, "restore", "--to", url)
			if !strings.Contains(out, "apps/web:latest") || !strings.Contains(out, "force") {
				t.Errorf("got %s", out)
			}
			b.run(t, exitDone, "restore", "--to", url, "--force")
			pulledThere(t, to, before)
		})
	}
}

// movedRegistry is a registry in which somebody else moves a tag.
type movedRegistry struct{ to string }

func (m *movedRegistry) move(t *testing.T, now []sample.Expect) {
	t.Helper()
	for _, e := range now {
		if e.Repo != "apps/web" || e.Tag != "1.0" {
			continue
		}
		root := e.Image[len(e.Image)-1]
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+m.to+"/v2/copies/of/mirror/apps/web/manifests/latest", strings.NewReader(string(root.Raw)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", root.MediaType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("moved: %s", resp.Status)
		}
	}
}

func pulledThere(t *testing.T, to string, want []sample.Expect) {
	t.Helper()
	for _, e := range want {
		got, err := sample.Pull(t.Context(), "http://"+to, "copies/of/mirror/"+e.Repo, e.Tag)
		if err == nil {
			err = e.Check(got)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// startLastro is another lastro, to which clients may push.
func startLastro(t *testing.T) string {
	t.Helper()
	b := newBench(t, "unused.example.com")
	b.configure(t, "**")
	text, err := os.ReadFile(b.config())
	if err == nil {
		err = os.WriteFile(b.config(), []byte(strings.Replace(string(text), "registry: {", `registry: {push: ["**"], `, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.serve(t)
	return b.registry
}
