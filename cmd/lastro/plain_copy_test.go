package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror/sample"
	"lastro/store/storetest"
)

// plainCopy is a copy of a vault by a program that knows nothing of it, and what
// its snapshots have.
type plainCopy struct {
	*bench
	dir          string
	older        string // id
	before, now  []sample.Expect
	indexOfOlder []byte
}

// newPlainCopy backs up, moves a tag, backs up again, copies the vault, and removes
// all that lastro has.
func newPlainCopy(t *testing.T) plainCopy {
	t.Helper()
	upstream, images := fillRegistry(t)
	p := plainCopy{bench: newBench(t, upstream), dir: filepath.Join(t.TempDir(), "copy")}
	p.configure(t, "**")
	var report struct{ Snapshot string }
	p.run(t, exitDone, "sync")
	p.read(t, &report, "backup")
	p.older, p.before = report.Snapshot, images.Expect()
	images.Build("apps/web", "latest")
	if err := images.PushTo(t.Context(), http.DefaultClient, "http://"+upstream); err != nil {
		t.Fatal(err)
	}
	p.run(t, exitDone, "sync")
	p.run(t, exitDone, "backup")
	p.now = images.Expect()
	p.indexOfOlder = []byte(p.run(t, exitDone, "backup", "show", p.older, "--index"))
	vault := filepath.Join(p.bench.dir, "vault")
	if err := os.CopyFS(p.dir, os.DirFS(vault)); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{vault, p.data()} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p plainCopy) at(t *testing.T, index []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "index.json"), index, 0o600); err != nil {
		t.Fatal(err)
	}
}

// each calls fn with the copy at either snapshot.
func (p plainCopy) each(t *testing.T, fn func(t *testing.T, want []sample.Expect)) {
	t.Helper()
	newest, err := os.ReadFile(filepath.Join(p.dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(newest, p.indexOfOlder) {
		t.Fatal("both snapshots have the same index")
	}
	t.Run("the newest snapshot", func(t *testing.T) { fn(t, p.now) })
	p.at(t, p.indexOfOlder)
	t.Run("an older one", func(t *testing.T) { fn(t, p.before) })
	p.at(t, newest)
}

func TestAPlainCopyOfAVaultIsReadByOthers(t *testing.T) {
	p := newPlainCopy(t)
	for name, read := range map[string]func(*testing.T, plainCopy, []sample.Expect){
		"go-containerregistry": readWithLibrary, "oras": readWithOras, "crane": readWithCrane, "skopeo": readWithSkopeo,
	} {
		t.Run("by "+name, func(t *testing.T) {
			p.each(t, func(t *testing.T, want []sample.Expect) { read(t, p, want) })
		})
	}
	t.Run("at an older snapshot by what the README says", p.followReadme)
}

func readWithLibrary(t *testing.T, p plainCopy, want []sample.Expect) {
	path, err := layout.FromPath(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	top, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	list, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	got, names := map[string]string{}, map[string]string{}
	for _, desc := range list.Manifests {
		if name := desc.Annotations[ocispec.AnnotationRefName]; name != "" {
			got[name] = desc.Digest.String()
		}
	}
	for _, e := range want {
		names["mirror/"+e.Repo+":"+e.Tag] = e.Digest.String()
		for _, c := range e.Image {
			hash, err := v1.NewHash(c.Digest.String())
			if err != nil {
				t.Fatal(err)
			}
			if raw, err := path.Bytes(hash); err != nil || !bytes.Equal(raw, c.Raw) {
				t.Errorf("%s:%s: content %s: %v", e.Repo, e.Tag, c.Digest, err)
			}
		}
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Error(diff)
	}
	for _, desc := range list.Manifests {
		if desc.Annotations[ocispec.AnnotationRefName] == "mirror/library/tools:amd64" {
			img, err := top.Image(desc.Digest)
			if err == nil {
				err = validate.Image(img)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

func readWithOras(t *testing.T, p plainCopy, want []sample.Expect) {
	oras := tool(t, "oras")
	for _, e := range want {
		raw := commandOutput(t, p.bench.dir, oras, "manifest", "fetch", "--oci-layout-path", p.dir, "mirror/"+e.Repo+":"+e.Tag)
		p.compare(t, e, raw)
	}
}

func (p plainCopy) compare(t *testing.T, e sample.Expect, raw []byte) {
	t.Helper()
	if !bytes.Equal(raw, e.Image[len(e.Image)-1].Raw) {
		t.Errorf("%s:%s: got %s, want %s", e.Repo, e.Tag, raw, e.Image[len(e.Image)-1].Raw)
	}
}

// readWithCrane pushes the whole layout to a registry, and reads it there.
func readWithCrane(t *testing.T, p plainCopy, want []sample.Expect) {
	crane, to := tool(t, "crane"), startRegistry(t)+"/all"
	clientOutput(t, p.bench.dir, crane, "push", "--insecure", "--index", p.dir, to)
	for _, e := range want {
		p.compare(t, e, commandOutput(t, p.bench.dir, crane, "manifest", "--insecure", to+"@"+e.Digest.String()))
	}
}

// readWithSkopeo leaves out what skopeo does not find in any layout: names of
// images that are not of OCI's own media types.
func readWithSkopeo(t *testing.T, p plainCopy, want []sample.Expect) {
	skopeo := storetest.Installed(t, "skopeo")
	read := 0
	for _, e := range want {
		switch e.Image[len(e.Image)-1].MediaType {
		case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex:
			p.compare(t, e, commandOutput(t, p.bench.dir, skopeo, "inspect", "--raw", "oci:"+p.dir+":mirror/"+e.Repo+":"+e.Tag))
			read++
		}
	}
	if read < 5 {
		t.Errorf("only %d images could be asked for", read)
	}
}

// commandOutput is what a command writes on standard output, to the byte.
func commandOutput(t *testing.T, home, name string, args ...string) []byte {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "HOME="+home), &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return out
}

var withoutLastro = regexp.MustCompile("(?s)<!-- without lastro -->\n```sh\n(.+?)```")

// followReadme makes the index of an older snapshot as somebody without lastro does.
func (p plainCopy) followReadme(t *testing.T) {
	storetest.Installed(t, "jq")
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	script := withoutLastro.FindSubmatch(readme)
	if script == nil {
		t.Fatal("the README has no such script")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", string(script[1]))
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "ID="+p.older)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	written, err := os.ReadFile(filepath.Join(p.dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got, want ocispec.Index
	if err := json.Unmarshal(written, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(p.indexOfOlder, &want); err != nil {
		t.Fatal(err)
	}
	for _, desc := range want.Manifests {
		delete(desc.Annotations, "io.containerd.image.name") // which the script has no need of
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	readWithLibrary(t, p, p.before)
}
