package collect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// tenant is a client that knows what it was told. It alone deletes manifests and
// blobs in the repository of its own; in those of the team nobody does, and everybody
// has tags.
type tenant struct {
	*soak
	*rand.Rand
	id   int
	http *http.Client
	told map[ledger.Held]promise
	tags map[string]*tagged // by reference
	made []*storetest.Image
	n    int
}

// promise is an answer that said that something is here.
type promise struct {
	at       time.Time // when the request began
	how      string
	manifest bool
}

// tagged is a tag of the client, which nobody else moves or deletes.
type tagged struct {
	repo, name string
	image      *storetest.Image
	needs      map[digest.Digest]bool
	referrers  map[digest.Digest]bool // of the root
}

func (s *soak) tenant(id int) *tenant {
	return &tenant{soak: s, Rand: rand.New(rand.NewPCG(uint64(id), 5)), id: id, http: s.server.Client(), told: map[ledger.Held]promise{}, tags: map[string]*tagged{}}
}

func (c *tenant) own() string { return fmt.Sprintf("own/%d", c.id) }

// repo is one that the client may push to.
func (c *tenant) repo() string {
	return []string{c.own(), c.own(), "team/a", "team/b"}[c.IntN(4)]
}

// any is one that it may pull from.
func (c *tenant) any() string {
	return []string{fmt.Sprintf("own/%d", c.IntN(clients)), "team/a", "team/b"}[c.IntN(3)]
}

func (c *tenant) work() {
	for n := 0; !c.Failed() && !c.over() && (*long || n < steps); n++ {
		c.step()
		maps.DeleteFunc(c.told, func(_ ledger.Held, p promise) bool { return p.at.Add(shortGrace).Before(c.clock()) })
	}
}

func (c *tenant) step() {
	repo := c.repo()
	switch p := c.IntN(100); {
	case p < 35:
		c.push(repo, fmt.Sprintf("c%d-%d", c.id, c.IntN(4)), c.image())
	case p < 40:
		c.push(repo, "", c.image())
	case p < 55:
		c.untag(repo)
	case p < 62:
		c.deleteManifest()
	case p < 65:
		c.deleteBlob()
	case p < 80:
		c.pullOwn()
	case p < 85:
		c.pull(c.any(), fmt.Sprintf("c%d-%d", c.IntN(clients), c.IntN(4)), false)
	default:
		c.askAgain()
	}
}

// image is a new one, one that everybody has, or an old one once more.
func (c *tenant) image() *storetest.Image {
	var m *storetest.Image
	switch p := c.IntN(10); {
	case p < 4 && len(c.made) > 0:
		return c.made[c.IntN(len(c.made))]
	case p < 6:
		m = storetest.New(fmt.Sprint("everybody's ", c.IntN(6)))
	case p < 8:
		m = &storetest.Image{}
		m.Single(fmt.Sprint("single ", c.id, c.n), nil)
	default:
		m = storetest.New(fmt.Sprint("new ", c.id, c.n))
	}
	c.n++
	if c.made = append(c.made, m); len(c.made) > 8 {
		c.made = c.made[1:]
	}
	return m
}

// answer is what a client got, and when it had asked.
type answer struct {
	began  time.Time
	status int
	header http.Header
	body   []byte
}

func (c *tenant) ask(method, path string, body []byte, header ...string) answer {
	c.ticks.Add(1)
	a := answer{began: c.clock()}
	if !strings.HasPrefix(path, "http://") {
		path = c.server.URL + path
	}
	r, err := http.NewRequestWithContext(c.Context(), method, path, bytes.NewReader(body))
	if err != nil {
		c.Error(err)
		return a
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w, err := c.http.Do(r)
	if err != nil {
		c.Errorf("%s %s: %v", method, path, err)
		return a
	}
	defer w.Body.Close()
	if a.body, err = io.ReadAll(w.Body); err != nil || w.StatusCode >= 500 {
		c.Errorf("%s %s: %d %s %v", method, path, w.StatusCode, a.body, err)
	}
	a.status, a.header = w.StatusCode, w.Header
	c.trace(fmt.Sprintf("%v client %d: %s %s: %d", a.began, c.id, method, path, a.status))
	c.count("requests", 1)
	c.count("bytes", int64(len(a.body)+len(body)))
	if a.status >= 400 {
		c.count(fmt.Sprint(method, " ", a.status), 1)
	}
	return a
}

// owed says why a digest must be there by now; "" when it need not.
func (c *tenant) owed(repo string, d digest.Digest) string {
	for ref, tag := range c.tags {
		if tag.repo == repo && tag.needs[d] {
			return "the tag " + ref + " needs it"
		}
	}
	now := c.clock()
	if p, ok := c.told[ledger.Held{Repo: repo, Digest: d}]; ok && now.Before(p.at.Add(shortGrace)) {
		return fmt.Sprintf("%s told the client of it %s ago", p.how, now.Sub(p.at))
	}
	return ""
}

// take believes an answer about a digest, or finds it a lie.
func (c *tenant) take(what, repo string, d digest.Digest, manifest bool, a answer) (here bool) {
	// What is owed is looked up after the answer came: it was owed all the while.
	why := c.owed(repo, d)
	switch {
	case a.status == http.StatusOK || a.status == http.StatusCreated:
		c.told[ledger.Held{Repo: repo, Digest: d}] = promise{a.began, what, manifest}
		here = true
	case a.status == http.StatusNotFound && why == "":
		return false
	default:
		c.Errorf("%s %s@%s: %d %s, though %s\n%s", what, repo, d, a.status, a.body, why, c.story(d))
	}
	if why != "" {
		c.count("owed", 1)
	}
	return here
}

func pathOf(repo string, manifest bool, d digest.Digest) string {
	if manifest {
		return "/v2/" + repo + "/manifests/" + d.String()
	}
	return "/v2/" + repo + "/blobs/" + d.String()
}

// askAgain asks for something that it was told of before.
func (c *tenant) askAgain() {
	known := slices.SortedFunc(maps.Keys(c.told), func(a, b ledger.Held) int { return strings.Compare(a.String(), b.String()) })
	for range min(5, len(known)) {
		h := known[c.IntN(len(known))]
		if _, still := c.told[h]; !still {
			continue
		}
		manifest := c.told[h].manifest
		method := []string{"HEAD", "GET"}[c.IntN(2)]
		c.take(method, h.Repo, h.Digest, manifest, c.ask(method, pathOf(h.Repo, manifest, h.Digest), nil))
	}
}

// push pushes an image as clients do: each blob unless it is there, children before
// their index, then the referrers. Without a tag it is pushed by its digest.
func (c *tenant) push(repo, tag string, m *storetest.Image) {
	for _, manifest := range m.Manifests {
		if !c.pushOne(repo, tag, m, manifest) {
			c.count("pushes that took too long", 1)
			return
		}
	}
	c.count("pushed", 1)
}

// pushOne pushes a manifest with its blobs. What took longer than what was owed for
// is tried again.
func (c *tenant) pushOne(repo, tag string, m *storetest.Image, manifest mirror.Manifest) bool {
	for try := range 3 {
		for ref := range blobsOf(manifest) {
			c.blob(repo, ref, m.Content[ref], try > 0)
		}
		if pushed, again := c.putManifest(repo, tag, m, manifest); pushed || !again {
			return pushed
		}
	}
	return false
}

func blobsOf(m mirror.Manifest) map[digest.Digest]bool {
	ds := map[digest.Digest]bool{}
	for _, r := range m.Refs {
		if r.Role != mirror.RoleChild {
			ds[r.Digest] = true
		}
	}
	return ds
}

// blob brings a blob, unless it is known, or said to be there.
func (c *tenant) blob(repo string, d digest.Digest, data []byte, surely bool) {
	if !surely && c.owed(repo, d) != "" && c.IntN(2) == 0 {
		return
	}
	if c.IntN(3) > 0 && c.take("HEAD", repo, d, false, c.ask("HEAD", pathOf(repo, false, d), nil)) {
		return
	}
	to := "/v2/" + repo + "/blobs/uploads/"
	var a answer
	how := "upload"
	switch c.IntN(4) {
	case 0:
		how = "mount"
		a = c.ask("POST", to+"?mount="+d.String()+"&from="+c.any(), nil)
	case 1:
		how = "mount from anywhere"
		a = c.ask("POST", to+"?mount="+d.String(), nil)
	case 2:
		a = c.ask("POST", to+"?digest="+d.String(), data, "Content-Type", "application/octet-stream")
	default:
		a = c.ask("POST", to, nil)
	}
	if a.status == http.StatusAccepted {
		how, a = "upload", c.upload(a, d, data)
	}
	c.take(how, repo, d, false, a)
}

// upload sends the content to a session that was opened.
func (c *tenant) upload(a answer, d digest.Digest, data []byte) answer {
	if c.IntN(2) == 0 {
		a = c.ask("PATCH", c.location(a), data, "Content-Type", "application/octet-stream")
		data = nil
	}
	at := c.location(a)
	sep := "?"
	if strings.Contains(at, "?") {
		sep = "&"
	}
	return c.ask("PUT", at+sep+"digest="+d.String(), data, "Content-Type", "application/octet-stream")
}

func (c *tenant) location(a answer) string {
	if a.status != http.StatusAccepted {
		c.Errorf("upload: %d %s", a.status, a.body)
	}
	return a.header.Get("Location")
}

// putManifest may be told that something is not there that is not owed any more.
func (c *tenant) putManifest(repo, tag string, m *storetest.Image, manifest mirror.Manifest) (pushed, again bool) {
	d, ref := manifest.Descriptor.Digest, ""
	isRoot := tag != "" && d == m.Root.Digest
	switch {
	case isRoot && c.IntN(2) == 0:
		ref = tag
	case isRoot:
		ref = d.String() + "?tag=" + tag
	default:
		ref = d.String()
	}
	a := c.ask("PUT", "/v2/"+repo+"/manifests/"+ref, m.Content[d], "Content-Type", manifest.Descriptor.MediaType)
	if a.status != http.StatusCreated {
		return false, c.mayMiss(repo, manifest, a)
	}
	c.take("PUT", repo, d, true, a)
	c.noteTag(repo, tag, m, manifest)
	return true, false
}

// mayMiss reports whether something of a manifest need not be there any more.
func (c *tenant) mayMiss(repo string, m mirror.Manifest, a answer) (again bool) {
	var whys []string
	for _, r := range m.Refs {
		why := c.owed(repo, r.Digest)
		if why == "" {
			return r.Role != mirror.RoleChild
		}
		whys = append(whys, fmt.Sprintf("%s: %s", r.Digest, why))
	}
	c.Errorf("push %s@%s: %d %s, though all of it is owed: %q", repo, m.Descriptor.Digest, a.status, a.body, whys)
	return false
}

// noteTag notes what the client's tag needs: its image, as far as that was pushed.
func (c *tenant) noteTag(repo, tag string, m *storetest.Image, manifest mirror.Manifest) {
	d, ref := manifest.Descriptor.Digest, repo+":"+tag
	if tag != "" && d == m.Root.Digest {
		c.tags[ref] = &tagged{repo, tag, m, map[digest.Digest]bool{}, map[digest.Digest]bool{}}
		for _, r := range manifest.Refs {
			for _, child := range m.Manifests {
				if child.Descriptor.Digest == r.Digest {
					c.tags[ref].add(child)
				}
			}
		}
		c.tags[ref].add(manifest)
	}
	// Whatever names its subject stays with it, under every tag.
	for _, t := range c.tags {
		if t.repo == repo && manifest.Subject != nil && t.needs[manifest.Subject.Digest] {
			t.add(manifest)
			if manifest.Subject.Digest == t.image.Root.Digest {
				t.referrers[d] = true
			}
		}
	}
}

func (t *tagged) add(m mirror.Manifest) {
	t.needs[m.Descriptor.Digest] = true
	for _, r := range m.Refs {
		t.needs[r.Digest] = true
	}
}

func (c *tenant) aTag() *tagged {
	refs := slices.Sorted(maps.Keys(c.tags))
	if len(refs) == 0 {
		return nil
	}
	return c.tags[refs[c.IntN(len(refs))]]
}

func (c *tenant) untag(string) {
	tag := c.aTag()
	if tag == nil {
		return
	}
	if a := c.ask("DELETE", "/v2/"+tag.repo+"/manifests/"+tag.name, nil); a.status != http.StatusAccepted {
		c.Errorf("untag %s:%s: %d %s", tag.repo, tag.name, a.status, a.body)
	}
	delete(c.tags, tag.repo+":"+tag.name)
	c.count("untagged", 1)
}

// deleteManifest deletes one in the client's own repository, with its tags.
func (c *tenant) deleteManifest() {
	if len(c.made) == 0 {
		return
	}
	m := c.made[c.IntN(len(c.made))]
	d := m.Manifests[c.IntN(len(m.Manifests))].Descriptor.Digest
	why := c.owed(c.own(), d)
	a := c.ask("DELETE", pathOf(c.own(), true, d), nil)
	switch {
	case a.status == http.StatusAccepted:
		c.forget(d)
		c.count("manifests deleted", 1)
	case a.status == http.StatusNotFound && why != "" && c.owed(c.own(), d) != "":
		c.Errorf("delete %s@%s: 404, though %s", c.own(), d, why)
	}
}

// forget is for what the client deleted: its tags are gone with it, and nobody is
// owed it.
func (c *tenant) forget(d digest.Digest) {
	delete(c.told, ledger.Held{Repo: c.own(), Digest: d})
	for ref, tag := range c.tags {
		if tag.repo != c.own() || !tag.needs[d] {
			continue
		}
		if tag.image.Root.Digest == d {
			delete(c.tags, ref)
			continue
		}
		// A referrer: with it goes what it alone held.
		delete(tag.referrers, d)
		tag.needs = map[digest.Digest]bool{}
		for _, m := range tag.image.Manifests {
			if m.Subject == nil || tag.referrers[m.Descriptor.Digest] || m.Subject.Digest != tag.image.Root.Digest && c.holds(tag, m) && m.Descriptor.Digest != d {
				tag.add(m)
			}
		}
	}
}

// holds reports whether a referrer of a referrer stays.
func (c *tenant) holds(tag *tagged, m mirror.Manifest) bool {
	return tag.referrers[m.Subject.Digest]
}

func (c *tenant) deleteBlob() {
	if len(c.made) == 0 {
		return
	}
	m := c.made[c.IntN(len(c.made))]
	for d := range blobsOf(m.Manifests[c.IntN(len(m.Manifests))]) {
		if a := c.ask("DELETE", pathOf(c.own(), false, d), nil); a.status == http.StatusAccepted {
			delete(c.told, ledger.Held{Repo: c.own(), Digest: d})
			c.count("blobs deleted", 1)
		}
		return
	}
}

// pullOwn pulls what a tag of its own needs, and looks it up in the lists.
func (c *tenant) pullOwn() {
	tag := c.aTag()
	if tag == nil {
		return
	}
	c.pull(tag.repo, tag.name, true)
	var tags struct{ Tags []string }
	if a := c.ask("GET", "/v2/"+tag.repo+"/tags/list", nil); json.Unmarshal(a.body, &tags) != nil || !slices.Contains(tags.Tags, tag.name) {
		c.Errorf("the tag %s is not among those of %s: %s", tag.name, tag.repo, a.body)
	}
	a := c.ask("GET", "/v2/"+tag.repo+"/referrers/"+tag.image.Root.Digest.String(), nil)
	for d := range tag.referrers {
		if !bytes.Contains(a.body, []byte(d)) {
			c.Errorf("%s does not refer to %s:%s: %s", d, tag.repo, tag.name, a.body)
		}
		c.pull(tag.repo, d.String(), true)
	}
}

// pull pulls an image with all its parts. What is owed for good is there whatever
// comes; the parts of a manifest are owed as long as that is, in a repository where
// nobody else deletes.
func (c *tenant) pull(repo, ref string, forGood bool) {
	a := c.ask("GET", "/v2/"+repo+"/manifests/"+ref, nil)
	if a.status == http.StatusNotFound && !forGood {
		return
	}
	if a.status != http.StatusOK {
		c.Errorf("pull %s %s: %d %s", repo, ref, a.status, a.body)
		return
	}
	d := digest.Digest(a.header.Get("Docker-Content-Digest"))
	if digest.FromBytes(a.body) != d {
		c.Errorf("pull %s %s: the content is not %s", repo, ref, d)
	}
	var parts struct {
		Config            *ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if err := json.Unmarshal(a.body, &parts); err != nil {
		c.Error(err)
	}
	if parts.Config != nil {
		parts.Layers = append(parts.Layers, *parts.Config)
	}
	for _, part := range slices.Concat(parts.Manifests, parts.Layers) {
		c.pullPart(repo, part.Digest, part.MediaType == ocispec.MediaTypeImageManifest, a, forGood)
	}
	c.count("pulled", 1)
}

// pullPart pulls a part of a manifest that came.
func (c *tenant) pullPart(repo string, d digest.Digest, manifest bool, of answer, forGood bool) {
	a := c.ask("GET", pathOf(repo, manifest, d), nil)
	mine := repo == c.own() || strings.HasPrefix(repo, "team/")
	owed := mine && c.clock().Before(of.began.Add(shortGrace))
	switch {
	case a.status == http.StatusOK && digest.FromBytes(a.body) != d:
		c.Errorf("pull %s@%s: the content is something else", repo, d)
	case a.status == http.StatusOK && manifest:
		c.pull(repo, d.String(), forGood)
	case a.status != http.StatusOK && (forGood || owed):
		c.Errorf("pull %s@%s: %d %s, though its manifest came just now", repo, d, a.status, a.body)
	}
	if owed {
		c.count("owed", 1)
	}
}
