package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lastro/mirror/sample"
)

func newTestDemonstration(t *testing.T) (d *demonstration, out, errs *bytes.Buffer) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	c := &cli{host: host{stdout: out, stderr: errs, dir: t.TempDir(), getenv: func(string) string { return "" }, now: time.Now}}
	d, err := c.newDemonstration()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.end)
	return d, out, errs
}

func TestTheDemoHoldsAndLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"demo"}, host{stdout: &out, stderr: &errs, dir: tmp, getenv: os.Getenv, now: time.Now})
	if code != exitDone {
		t.Fatalf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	rest := out.String()
	for _, step := range (&demonstration{}).steps() {
		_, after, ok := strings.Cut(rest, ". "+step.title+"\n")
		if !ok {
			t.Fatalf("the step %q is not told in its place:\n%s", step.title, out.String())
		}
		told, _, _ := strings.Cut(after, "\n\n")
		if !strings.Contains(told, "✓") {
			t.Errorf("the step %q checks nothing:\n%s", step.title, told)
		}
		rest = after
	}
	if !strings.Contains(rest, "Every step held") {
		t.Errorf("it does not say that every step held:\n%s", rest)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v in the temporary folder (%v)", left, err)
	}
}

func TestStayServesUntilInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"demo", "--stay"}, host{stdout: w, stderr: w, dir: t.TempDir(), getenv: os.Getenv, now: time.Now})
		w.Close()
	}()
	var all strings.Builder
	stays := regexp.MustCompile(`^Registry (http://\S+) `)
	for s := bufio.NewScanner(r); s.Scan(); {
		all.WriteString(s.Text() + "\n")
		if m := stays.FindStringSubmatch(s.Text()); m != nil {
			if _, err := sample.Pull(t.Context(), m[1], demoLocal+demoRepo, demoTag); err != nil {
				t.Error(err)
			}
			interrupt()
		}
	}
	if code := <-ended; code != exitDone || ctx.Err() == nil {
		t.Errorf("exit code %d, interrupted: %v\n%s", code, ctx.Err(), all.String())
	}
}

func TestADemoInWhichSomethingDoesNotHoldFails(t *testing.T) {
	tests := []struct {
		name  string
		after string // the step after which something is spoiled
		spoil func(t *testing.T, d *demonstration)
		fails string // the step that finds it
	}{
		{"a blob of the vault is damaged before the restore", "Back up to a folder", func(t *testing.T, d *demonstration) {
			spoilBlob(t, filepath.Join(d.vault(), "blobs"), layerOf(d))
		}, "restore"},
		{"a blob of the local registry is damaged after the restore", "Restore", func(t *testing.T, d *demonstration) {
			spoilBlob(t, filepath.Join(d.data(), "registry"), layerOf(d))
		}, "pull the same digests again"},
		{"another tag moves upstream than the one that is told", "The first sync", func(t *testing.T, d *demonstration) {
			if _, err := d.upstream.Move(t.Context(), demoRepo, "1.0"); err != nil {
				t.Fatal(err)
			}
		}, "a tag moves upstream"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, out, errs := newTestDemonstration(t)
			steps := d.steps()
			i := slices.IndexFunc(steps, func(s demoStep) bool { return s.title == tt.after })
			steps = slices.Insert(steps, i+1, demoStep{"Spoil", func(context.Context) error {
				tt.spoil(t, d)
				return nil
			}})
			err := d.play(t.Context(), steps)
			if code := d.exit(t.Context(), err); code != exitError {
				t.Errorf("exit code %d, want %d", code, exitError)
			}
			if want := "lastro: demo: " + tt.fails + ": "; !strings.HasPrefix(errs.String(), want) {
				t.Errorf("it says %q, not %q…\n%s", errs.String(), want, out.String())
			}
			if strings.Contains(out.String(), "Every step held") {
				t.Error("it says that every step held")
			}
		})
	}
}

// layerOf is the hex of a layer of the image that the demo follows.
func layerOf(d *demonstration) string {
	for _, c := range d.images[slices.IndexFunc(d.images, isDemoImage)].Image {
		if strings.Contains(c.MediaType, "layer") {
			return c.Digest.Encoded()
		}
	}
	return ""
}

// spoilBlob flips a bit of the file below dir whose path has the digest in it.
func spoilBlob(t *testing.T, dir, hex string) {
	t.Helper()
	spoiled := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(path, hex) || strings.HasSuffix(path, "link") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		raw[len(raw)/2] ^= 1
		spoiled++
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		return os.WriteFile(path, raw, 0o600)
	})
	if err != nil || spoiled == 0 {
		t.Fatalf("%d files spoiled: %v", spoiled, err)
	}
}
