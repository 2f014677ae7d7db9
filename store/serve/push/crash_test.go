package push

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store"
	"lastro/store/layout"
	"lastro/store/storetest"
)

var long = flag.Bool("long", false, "run the long variants too")

// acknowledged is what clients were told: tags and where they are, and blobs
// with their content. "" is absent.
type acknowledged struct{ tags, blobs map[string]string }

func (a acknowledged) clone() acknowledged {
	return acknowledged{maps.Clone(a.tags), maps.Clone(a.blobs)}
}

// request is one that a client makes, with what it is told by success.
type request struct {
	name string
	do   func(c *client) int
	told func(a acknowledged)
}

// cut is what a kill would leave, while clients were told of before, and about
// to be told of after.
type cut struct {
	dir, at       string
	before, after acknowledged
}

// TestAKillAtAnyStepLosesNothingThatWasAcknowledged copies the data folder
// before each change that a series of pushes and deletes makes on disk, and
// opens each copy.
func TestAKillAtAnyStepLosesNothingThatWasAcknowledged(t *testing.T) {
	cuts := cutAtEachStep(t, requests())
	if len(cuts) < 60 {
		t.Fatalf("only %d steps", len(cuts))
	}
	for i, cut := range cuts {
		t.Run(cut.at, func(t *testing.T) {
			c := newClient(t, cut.dir, everybody())
			cut.check(c)
			visibleIsWhole(c, cut.dir)
			ledgerAgrees(c)
			if i%6 > 0 && !*long {
				return
			}
			// Whatever was left, the clients can go on.
			for _, r := range requests() {
				if status := r.do(c); status >= 300 && status != http.StatusNotFound {
					t.Errorf("%s again: %d", r.name, status)
				}
			}
			visibleIsWhole(c, cut.dir)
		})
	}
	t.Logf("%d steps", len(cuts))
}

func cutAtEachStep(t *testing.T, all []request) (cuts []cut) {
	dir, copies := storetest.Folder(t), storetest.Folder(t)
	before := acknowledged{map[string]string{}, map[string]string{}}
	now, n := request{}, 0
	take := func(what string) {
		if now.do == nil {
			return
		}
		after := before.clone()
		now.told(after)
		n++
		to := filepath.Join(copies, fmt.Sprint(n))
		// The ledger's file is mostly a hole.
		if out, err := exec.CommandContext(t.Context(), "cp", "-r", "--sparse=always", dir, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		cuts = append(cuts, cut{to, fmt.Sprintf("%03d %s %s", n, now.name, what), before.clone(), after})
	}
	s, err := store.Open(dir, store.Options{Now: time.Now, Step: func(op, _ string) { take(op) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := clientOf(t, s, everybody())
	for _, now = range all {
		if status := now.do(c); status >= 300 {
			t.Fatalf("%s: %d", now.name, status)
		}
		now.told(before)
		take("answered")
	}
	return cuts
}

// requests push an image in every way, move its tag, and delete all of it again.
func requests() []request {
	one, two := "{}", "a layer of two parts"
	wide := digest.SHA512.FromString(two)
	layer := func(d digest.Digest, size int) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(size)}
	}
	first := document{MediaType: ocispec.MediaTypeImageManifest, Config: new(layer(digest.FromString(one), len(one))), Layers: []ocispec.Descriptor{layer(digest.FromString(two), len(two))}}
	second := first
	second.Layers = []ocispec.Descriptor{layer(wide, len(two))}
	index := document{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{first.desc()}}
	blob := func(repo string, d digest.Digest, content string) func(acknowledged) {
		return func(a acknowledged) { a.blobs[blobPath(repo, d)] = content }
	}
	tags := func(d string, tags ...string) func(acknowledged) {
		return func(a acknowledged) {
			for _, tag := range tags {
				a.tags[tag] = d
			}
		}
	}
	send := func(method, target, body string) func(c *client) int {
		return func(c *client) int { return c.do(method, target, body).Code }
	}
	inParts := func(repo string, d digest.Digest) func(c *client) int {
		return func(c *client) int { return c.finish(c.session(repo, two[:7]), d, two[7:]).Code }
	}
	put := func(target string, d document) func(c *client) int {
		return func(c *client) int { return c.do("PUT", target, d.raw(), "Content-Type", d.MediaType).Code }
	}
	d1, d2, d3 := first.desc().Digest.String(), second.desc().Digest.String(), index.desc().Digest.String()
	return []request{
		{"blob at once", send("POST", "/v2/a/blobs/uploads/?digest="+digest.FromString(one).String(), one), blob("a", digest.FromString(one), one)},
		{"blob elsewhere in parts", inParts("b", digest.FromString(two)), blob("b", digest.FromString(two), two)},
		{"mount", send("POST", "/v2/a/blobs/uploads/?from=b&mount="+digest.FromString(two).String(), ""), blob("a", digest.FromString(two), two)},
		{"sha512 in parts", inParts("a", wide), blob("a", wide, two)},
		{"manifest", put("/v2/a/manifests/v1", first), tags(d1, "v1")},
		{"move", put("/v2/a/manifests/v1", second), tags(d2, "v1")},
		{"index", put(byDigest("a", index)+"?tag=all&tag=latest", index), tags(d3, "all", "latest")},
		{"delete tag", send("DELETE", "/v2/a/manifests/latest", ""), tags("", "latest")},
		{"delete index", send("DELETE", byDigest("a", index), ""), tags("", "all")},
		{"delete manifest", send("DELETE", byDigest("a", second), ""), tags("", "v1")},
		{"delete blob", send("DELETE", blobPath("a", wide), ""), blob("a", wide, "")},
	}
}

// check holds what is served beside what clients were told.
func (k cut) check(c *client) {
	for tag, after := range k.after.tags {
		got := c.do("GET", "/v2/a/manifests/"+tag, "").Header().Get("Docker-Content-Digest")
		if got != after && got != k.before.tags[tag] {
			c.Errorf("tag %s is at %q, and was at %q and went to %q", tag, got, k.before.tags[tag], after)
		}
	}
	for path, after := range k.after.blobs {
		got := ""
		if w := c.do("GET", path, ""); w.Code == http.StatusOK {
			got = w.Body.String()
		}
		if got != after && got != k.before.blobs[path] {
			c.Errorf("blob %s is %q, and was %q and became %q", path, got, k.before.blobs[path], after)
		}
	}
}

// visibleIsWhole looks at all that can be pulled: every manifest has its
// closure, and every blob is what it is called.
func visibleIsWhole(c *client, dir string) {
	c.Helper()
	for repo, err := range c.store.Repositories(c.Context()) {
		if err != nil {
			c.Fatal(err)
		}
		for d, err := range c.store.Revisions(c.Context(), repo) {
			if err == nil {
				_, err = c.store.Closure(c.Context(), repo, d)
			}
			if err != nil {
				c.Errorf("%s@%s: %v", repo, d, err)
			}
		}
		for tag, err := range c.store.Tags(c.Context(), repo) {
			if err == nil {
				err = c.store.ServesManifest(repo, tag.Digest)
			}
			if err != nil {
				c.Errorf("%s:%s: %v", repo, tag.Name, err)
			}
		}
	}
	root := filepath.Join(dir, "registry", layout.Blobs)
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(name)
		folder := filepath.Dir(name)
		algorithm := digest.Algorithm(filepath.Base(filepath.Dir(filepath.Dir(folder))))
		if got := algorithm.FromBytes(raw); err == nil && got.Encoded() != filepath.Base(folder) {
			c.Errorf("content of %s is %s", name, got)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		c.Error(err)
	}
}

// ledgerAgrees holds the tags on disk beside those of the ledger.
func ledgerAgrees(c *client) {
	onDisk := map[string]digest.Digest{}
	for tag, err := range c.store.Tags(c.Context(), "a") {
		if err != nil {
			c.Fatal(err)
		}
		onDisk[tag.Name] = tag.Digest
	}
	known := map[string]digest.Digest{}
	for tag, err := range c.store.Ledger().Tags(c.Context(), "a") {
		if err != nil {
			c.Fatal(err)
		}
		known[tag.Tag] = tag.Digest
	}
	if !maps.Equal(onDisk, known) {
		c.Errorf("on disk %v, in the ledger %v", onDisk, known)
	}
}
