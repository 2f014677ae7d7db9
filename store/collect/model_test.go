package collect

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

var long = flag.Bool("long", false, "run the long variants: the model takes ten million steps")

// TestMain makes the model take 10⁵ steps, fewer beside the race detector, or as
// many as -long or rapid's flags say.
func TestMain(m *testing.M) {
	set := func(name, value string) {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	set("rapid.checks", "450")
	set("rapid.steps", "200")
	if raced() {
		set("rapid.checks", "60")
		set("rapid.steps", "60")
	}
	flag.Parse()
	if *long {
		set("rapid.checks", "45000")
		set("rapid.steps", "200")
	}
	os.Exit(m.Run())
}

// raced reports whether the race detector is in the binary: it makes each step take
// five times as long.
func raced() bool {
	b, _ := debug.ReadBuildInfo()
	return b != nil && slices.Contains(b.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// world is what the model pushes: images that share a layer, an index of two and
// one of that, referrers, one of them of another, and what is attached by tags.
type world struct {
	*storetest.Image
	manifests map[digest.Digest]mirror.Manifest
	order     []digest.Digest // of manifests, children first
	blobs     []digest.Digest
	attached  map[string]digest.Digest // tags that are named after others
}

var earth = newWorld()

func newWorld() world {
	w := world{Image: new(storetest.Image), manifests: map[digest.Digest]mirror.Manifest{}}
	a, b, c := w.Single("a", nil), w.Single("b", nil), w.Single("c", nil)
	ab := w.Index(a, b)
	w.Index(ab, c)
	signature := w.Single("signature", &a)
	w.Single("of-signature", &signature)
	w.Single("of-index", &ab)
	cosign := w.Single("cosign", nil)
	list := w.Index(signature)
	w.attached = map[string]digest.Digest{after(ab.Digest) + ".sig": cosign.Digest, after(a.Digest): list.Digest}
	for _, m := range w.Manifests {
		w.manifests[m.Descriptor.Digest] = m
		w.order = append(w.order, m.Descriptor.Digest)
	}
	for _, d := range slices.Sorted(maps.Keys(w.Content)) {
		if _, ok := w.manifests[d]; !ok {
			w.blobs = append(w.blobs, d)
		}
	}
	return w
}

// after is the tag that is named after a digest.
func after(d digest.Digest) string { return strings.Replace(d.String(), ":", "-", 1) }

func (w world) desc(d digest.Digest) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: d, Size: int64(len(w.Content[d]))}
}

func (w world) fetch(d digest.Digest) mirror.Fetch {
	return func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(w.Content[d][offset:])), offset, nil
	}
}

var (
	modelRepoNames, modelTagNames = []string{"r", "q/s"}, []string{"1", "2", "latest"}

	modelRepos = rapid.SampledFrom(modelRepoNames)
	modelTags  = rapid.SampledFrom(modelTagNames)
	modelHours = rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, grace / 2, grace - time.Minute, grace, undo, 8 * 24 * time.Hour})
)

func drawManifest(t *rapid.T, what string) digest.Digest {
	return earth.order[rapid.IntRange(0, len(earth.order)-1).Draw(t, what)]
}

func drawBlob(t *rapid.T, what string) digest.Digest {
	return earth.blobs[rapid.IntRange(0, len(earth.blobs)-1).Draw(t, what)]
}

// state is what is on disk.
type state struct {
	revisions, layers map[ledger.Held]bool
	contents          map[digest.Digest]bool
	tags              map[[2]string]digest.Digest
}

// look reads the disk, and nothing of the store: every file there is.
func look(t *rapid.T, dir string) state {
	s := nothing()
	root := filepath.Join(dir, "registry")
	must(t, filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ = filepath.Rel(filepath.Join(root, layout.Repositories), name)
		repo, rest, found := strings.Cut(name, "/_manifests/tags/")
		switch {
		case found:
			s.tags[[2]string{repo, path.Dir(path.Dir(rest))}] = readLink(t, filepath.Join(root, layout.Repositories, name))
		case strings.Contains(name, "/_manifests/revisions/"):
			s.link(s.revisions, name, "/_manifests/revisions/")
		case strings.Contains(name, "/_layers/"):
			s.link(s.layers, name, "/_layers/")
		case strings.HasSuffix(name, "/data") && !strings.Contains(name, "/_uploads/"):
			parts := strings.Split(path.Dir(name), "/")
			s.contents[digest.Digest(parts[len(parts)-3]+":"+parts[len(parts)-1])] = true
		}
		return nil
	}))
	return s
}

func nothing() state {
	return state{map[ledger.Held]bool{}, map[ledger.Held]bool{}, map[digest.Digest]bool{}, map[[2]string]digest.Digest{}}
}

// places is where each thing that the model ever makes lies, below "registry".
type places struct {
	revisions, layers map[string]ledger.Held
	contents          map[string]digest.Digest
	tags              map[string][2]string
}

var everywhere = newPlaces()

func newPlaces() places {
	p := places{map[string]ledger.Held{}, map[string]ledger.Held{}, map[string]digest.Digest{}, map[string][2]string{}}
	for _, d := range slices.Concat(earth.order, earth.blobs) {
		p.contents[path.Join(layout.Repositories, "../blobs", d.Algorithm().String(), d.Encoded()[:2], d.Encoded(), "data")] = d
	}
	for _, repo := range modelRepoNames {
		in := path.Join(layout.Repositories, repo)
		for _, d := range earth.order {
			p.revisions[path.Join(in, "_manifests/revisions", d.Algorithm().String(), d.Encoded(), "link")] = ledger.Held{Repo: repo, Digest: d}
		}
		for _, d := range earth.blobs {
			p.layers[path.Join(in, "_layers", d.Algorithm().String(), d.Encoded(), "link")] = ledger.Held{Repo: repo, Digest: d}
		}
		for _, tag := range slices.Concat(modelTagNames, slices.Collect(maps.Keys(earth.attached))) {
			p.tags[path.Join(in, "_manifests/tags", tag, "current/link")] = [2]string{repo, tag}
		}
	}
	return p
}

// glance is look for the things that the model makes, in a tenth of the time.
func glance(t *rapid.T, dir string) state {
	root, err := unix.Open(filepath.Join(dir, "registry"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(root)
	is := func(name string) bool {
		err := unix.Faccessat(root, name, unix.F_OK, 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: %v", name, err)
		}
		return err == nil
	}
	s := nothing()
	for name, d := range everywhere.contents {
		if is(name) {
			s.contents[d] = true
		}
	}
	for name, h := range everywhere.revisions {
		if is(name) {
			s.revisions[h] = true
		}
	}
	for name, h := range everywhere.layers {
		if is(name) {
			s.layers[h] = true
		}
	}
	for name, tag := range everywhere.tags {
		if is(name) {
			s.tags[tag] = readLink(t, filepath.Join(dir, "registry", name))
		}
	}
	return s
}

func readLink(t *rapid.T, name string) digest.Digest {
	raw, err := os.ReadFile(name)
	must(t, err)
	return digest.Digest(raw)
}

func (s state) link(in map[ledger.Held]bool, name, between string) {
	repo, rest, _ := strings.Cut(name, between)
	in[ledger.Held{Repo: repo, Digest: digest.Digest(strings.Replace(path.Dir(rest), "/", ":", 1))}] = true
}

// machine is a store, and what must be there.
type machine struct {
	*store.Store
	dir   string
	now   time.Time
	o     Options
	disk  state // before the step
	quiet bool  // the step changed nothing on disk
	steps *atomic.Int64

	tags        map[[2]string]digest.Digest
	told        map[ledger.Held]time.Time
	absent      map[ledger.Held]bool
	protections map[ledger.Held]time.Time // until
	keep        map[digest.Digest]bool    // what policy says
	kept        map[ledger.Held]bool      // what it said
	since       map[ledger.Held]time.Time // since when runs find it needed
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) clock() time.Time { return m.now }

func (m *machine) open(t *rapid.T) {
	var err error
	m.Store, err = store.Open(m.dir, store.Options{Now: m.clock})
	must(t, err)
}

// TestCollectingLosesNothingThatIsNeededOrWasToldOf does what clients, mirrors,
// people and crashes do to a registry that is collected, in any order.
func TestCollectingLosesNothingThatIsNeededOrWasToldOf(t *testing.T) {
	dir, steps := storetest.Folder(t), new(atomic.Int64)
	rapid.Check(t, func(t *rapid.T) {
		own, err := os.MkdirTemp(dir, "model")
		must(t, err)
		m := newMachine(own, steps)
		m.open(t)
		defer func() { m.Close(); os.RemoveAll(own) }()
		m.disk = look(t, m.dir)
		t.Repeat(map[string]func(*rapid.T){
			"":                   m.check,
			"upload":             m.upload,
			"mount":              m.mount,
			"ask for a blob":     m.askBlob,
			"ask for a manifest": m.askManifest,
			"sync content":       m.syncContent,
			"put a manifest":     m.putManifest,
			"push":               m.push,
			"push again":         m.push,
			"attach by a tag":    m.attach,
			"sync":               m.sync,
			"sync in part":       m.syncInPart,
			"untag":              m.untag,
			"untag again":        m.untag,
			"delete a manifest":  m.unpublish,
			"delete a blob":      m.unlink,
			"protect":            m.protect,
			"protect no more":    m.unprotect,
			"change the policy":  m.changePolicy,
			"let time pass":      m.wait,
			"let time go by":     m.wait,
			"collect":            m.collect,
			"collect again":      m.collect,
			"pass and collect":   func(t *rapid.T) { m.now = m.now.Add(modelHours.Draw(t, "time")); m.collect(t) },
			"observe":            m.observe,
			"take back":          m.takeBack,
			"write what is told": func(t *rapid.T) { _, err := m.Told(t.Context()); must(t, err) },
			"close and open":     func(t *rapid.T) { must(t, m.Close()); m.open(t) },
			"crash":              m.crash,
			"rebuild":            m.rebuild,
			"settle":             m.sometimesSettle,
		})
		m.settle(t)
	})
	t.Logf("%d steps", steps.Load())
}

func newMachine(dir string, steps *atomic.Int64) *machine {
	m := &machine{dir: dir, now: storetest.Now(), steps: steps,
		tags: map[[2]string]digest.Digest{}, told: map[ledger.Held]time.Time{}, absent: map[ledger.Held]bool{},
		protections: map[ledger.Held]time.Time{}, keep: map[digest.Digest]bool{}, kept: map[ledger.Held]bool{}, since: map[ledger.Held]time.Time{}}
	m.o = Options{Grace: grace, Undo: undo, Now: m.clock, Keep: m.policy}
	return m
}

func (m *machine) policy(_ context.Context, q Question) (Answer, error) {
	h := ledger.Held{Repo: q.Repo, Digest: q.Digest}
	m.kept[h] = m.keep[q.Digest]
	return Answer{Keep: m.keep[q.Digest]}, nil
}

// tell remembers that a client was told that something is here.
func (m *machine) tell(repo string, ds ...digest.Digest) {
	for _, d := range ds {
		m.told[ledger.Held{Digest: d}] = m.now
		if repo != "" {
			m.told[ledger.Held{Repo: repo, Digest: d}] = m.now
		}
	}
}

// must says whether something has to be here.
func (m *machine) must(h ledger.Held) bool {
	if told, ok := m.told[h]; ok && m.now.Before(told.Add(grace)) {
		return true
	}
	for need := range m.needed(m.disk) {
		if need == h || h.Repo == "" && need.Digest == h.Digest {
			return true
		}
	}
	return false
}

// needed is what roots reach in what is on disk.
func (m *machine) needed(disk state) map[ledger.Held]string {
	marked := map[ledger.Held]string{}
	for tag, d := range m.tags {
		m.mark(disk, ledger.Held{Repo: tag[0], Digest: d}, "tag "+tag[1], marked)
	}
	for h, until := range m.protections {
		if m.now.Before(until) && disk.revisions[h] {
			m.mark(disk, h, "protection", marked)
		}
	}
	for h, keep := range m.kept {
		if keep && disk.revisions[h] {
			m.mark(disk, h, "policy", marked)
		}
	}
	return marked
}

// mark says why.
func (m *machine) mark(disk state, h ledger.Held, why string, marked map[ledger.Held]string) {
	if marked[h] != "" {
		return
	}
	marked[h] = why
	why += " > " + m.name(h)
	manifest, ok := earth.manifests[h.Digest]
	if !ok {
		return
	}
	for _, r := range manifest.Refs {
		part := ledger.Held{Repo: h.Repo, Digest: r.Digest}
		if !m.absent[part] || disk.revisions[part] {
			m.mark(disk, part, why, marked)
		}
	}
	for referrer := range disk.revisions {
		about := earth.manifests[referrer.Digest].Subject
		if referrer.Repo == h.Repo && about != nil && about.Digest == h.Digest {
			m.mark(disk, referrer, why+" <", marked)
		}
	}
}

// here says what is wrong with what has to be here.
func (m *machine) here(disk state, h ledger.Held) string {
	_, manifest := earth.manifests[h.Digest]
	switch {
	case h.Repo != "" && manifest && !disk.revisions[h]:
		return "no link of the manifest"
	case h.Repo != "" && !manifest && !disk.layers[h]:
		return "no link of the blob"
	}
	if disk.contents[h.Digest] && m.disk.contents[h.Digest] {
		return "" // nobody writes to what was right before
	}
	f, err := m.OpenContent(context.Background(), h.Digest)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(raw, earth.Content[h.Digest]) {
		return fmt.Sprint("wrong content ", err)
	}
	return ""
}

// check is called after every step.
func (m *machine) check(t *rapid.T) {
	m.steps.Add(1)
	if m.quiet {
		m.quiet = false
		return
	}
	now := glance(t, m.dir)
	for h, why := range m.needed(m.disk) {
		if fault := m.here(now, h); fault != "" {
			t.Fatalf("%s is needed by %s: %s", m.name(h), why, fault)
		}
	}
	for h, at := range m.told {
		if !m.now.Before(at.Add(grace)) {
			delete(m.told, h)
			continue
		}
		if fault := m.here(now, h); fault != "" {
			t.Fatalf("somebody was told of %s at %s, now %s: %s", m.name(h), at, m.now, fault)
		}
	}
	m.checkWhole(t, now)
	if diff := cmp.Diff(m.tags, now.tags, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("tags (-want +got):\n%s", diff)
	}
	m.disk = now
}

// checkWhole finds manifests that are served in part, and links without content.
func (m *machine) checkWhole(t *rapid.T, disk state) {
	for h := range disk.revisions {
		for _, r := range earth.manifests[h.Digest].Refs {
			part := ledger.Held{Repo: h.Repo, Digest: r.Digest}
			if m.absent[part] && !disk.revisions[part] {
				continue
			}
			if fault := m.here(disk, part); fault != "" {
				t.Fatalf("%s is served without %s: %s", m.name(h), m.name(part), fault)
			}
		}
	}
	for _, links := range []map[ledger.Held]bool{disk.revisions, disk.layers} {
		for h := range links {
			if fault := m.here(disk, ledger.Held{Digest: h.Digest}); fault != "" {
				t.Fatalf("%s has a link, and its content: %s", m.name(h), fault)
			}
		}
	}
}

// name is for people.
func (m *machine) name(h ledger.Held) string {
	if i := slices.Index(earth.order, h.Digest); i >= 0 {
		return fmt.Sprintf("%s@manifest %d", h.Repo, i)
	}
	return fmt.Sprintf("%s@%q", h.Repo, earth.Content[h.Digest])
}

func (m *machine) upload(t *rapid.T) {
	m.uploadOne(t, modelRepos.Draw(t, "repo"), drawBlob(t, "blob"))
}

func (m *machine) uploadOne(t *rapid.T, repo string, d digest.Digest) {
	dir := filepath.Join(m.dir, "registry", layout.Repositories, repo, "_uploads/session")
	must(t, errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "data"), earth.Content[d], 0o600)))
	must(t, m.AdoptUpload(t.Context(), repo, "session", d))
	m.tell(repo, d)
}

// refused is for what may be gone.
func (m *machine) refused(t *rapid.T, err error, hs ...ledger.Held) {
	for _, h := range hs {
		if !m.must(h) {
			return
		}
	}
	t.Fatalf("all of %v is to be here: %v", hs, err)
}

func (m *machine) mount(t *rapid.T) {
	from, repo, d := modelRepos.Draw(t, "from"), modelRepos.Draw(t, "repo"), drawBlob(t, "blob")
	if err := m.Mount(t.Context(), from, repo, d); err != nil {
		m.refused(t, err, ledger.Held{Repo: from, Digest: d})
		return
	}
	m.tell(from, d)
	m.tell(repo, d)
}

func (m *machine) askBlob(t *rapid.T) {
	m.quiet = true
	m.ask(t, modelRepos.Draw(t, "repo"), drawBlob(t, "blob"), rapid.IntRange(0, 3).Draw(t, "how"))
}

// ask is whether a client was told that it is here.
func (m *machine) ask(t *rapid.T, repo string, d digest.Digest, how int) bool {
	var err error
	switch how {
	case 0:
		_, err = m.BlobSize(repo, d)
	case 1:
		var ok bool
		if ok, err = m.ServesBlob(t.Context(), repo, d); err == nil && !ok {
			err = fs.ErrNotExist
		}
	case 2:
		f, openErr := m.OpenBlob(repo, d)
		if err = openErr; err == nil {
			must(t, f.Close())
		}
	default:
		var in string
		if in, err = m.ServedBlob(t.Context(), d, func(in string) bool { return in == repo }); err == nil && in == "" {
			err = fs.ErrNotExist
		}
	}
	return m.answered(t, repo, d, err)
}

func (m *machine) answered(t *rapid.T, repo string, d digest.Digest, err error) bool {
	if err != nil {
		m.refused(t, err, ledger.Held{Repo: repo, Digest: d})
		return false
	}
	m.tell(repo, d)
	return true
}

func (m *machine) askManifest(t *rapid.T) {
	m.quiet = true
	repo, d := modelRepos.Draw(t, "repo"), drawManifest(t, "manifest")
	m.answered(t, repo, d, m.ServesManifest(repo, d))
}

func (m *machine) syncContent(t *rapid.T) {
	d := rapid.SampledFrom(slices.Concat(earth.order, earth.blobs)).Draw(t, "digest")
	m.ingest(t, d)
	must(t, m.Settle(d))
}

func (m *machine) ingest(t *rapid.T, d digest.Digest) {
	has, err := m.Has(t.Context(), earth.desc(d))
	must(t, err)
	if !has {
		if m.must(ledger.Held{Digest: d}) {
			t.Fatalf("%s is not here", m.name(ledger.Held{Digest: d}))
		}
		must(t, m.Ingest(t.Context(), earth.desc(d), earth.fetch(d)))
	}
	m.tell("", d)
}

func drawTag(t *rapid.T) string {
	if rapid.IntRange(0, 3).Draw(t, "by digest") == 0 {
		return ""
	}
	return modelTags.Draw(t, "tag")
}

// putManifest is a client that builds on what it was told before.
func (m *machine) putManifest(t *rapid.T) {
	m.put(t, modelRepos.Draw(t, "repo"), drawTag(t), drawManifest(t, "manifest"), false)
}

func (m *machine) put(t *rapid.T, repo, tag string, d digest.Digest, whole bool) {
	// What waits for a barrier would get its name at any.
	must(t, errors.Join(m.Ingest(t.Context(), earth.desc(d), earth.fetch(d)), m.Settle(d)))
	manifest := earth.manifests[d]
	_, err := m.Publish(t.Context(), mirror.Publication{Repo: repo, Tag: tag, Root: manifest.Descriptor, Manifests: []mirror.Manifest{manifest}, Kind: ledger.Pushed, By: "model"})
	if err != nil {
		if whole {
			t.Fatal(err)
		}
		var parts []ledger.Held
		for _, r := range manifest.Refs {
			part := ledger.Held{Repo: repo, Digest: r.Digest}
			if r.Role != mirror.RoleChild {
				part.Repo = ""
			}
			parts = append(parts, part)
		}
		m.refused(t, err, parts...)
		return
	}
	m.published(repo, tag, d, d)
}

// published remembers what a publication says is here.
func (m *machine) published(repo, tag string, root digest.Digest, ds ...digest.Digest) {
	for _, d := range ds {
		m.tell(repo, d)
		delete(m.absent, ledger.Held{Repo: repo, Digest: d})
		for _, r := range earth.manifests[d].Refs {
			if r.Role != mirror.RoleChild {
				m.tell(repo, r.Digest)
			}
		}
	}
	if tag != "" {
		m.tags[[2]string{repo, tag}] = root
	}
}

func (m *machine) push(t *rapid.T) {
	m.pushAll(t, modelRepos.Draw(t, "repo"), drawTag(t), drawManifest(t, "manifest"))
}

// pushAll is a client that asks for each part before it brings it.
func (m *machine) pushAll(t *rapid.T, repo, tag string, d digest.Digest) {
	for _, r := range earth.manifests[d].Refs {
		if r.Role == mirror.RoleChild {
			if !m.answered(t, repo, r.Digest, m.ServesManifest(repo, r.Digest)) {
				m.pushAll(t, repo, "", r.Digest)
			}
		} else if !m.ask(t, repo, r.Digest, 0) {
			m.uploadOne(t, repo, r.Digest)
		}
	}
	m.put(t, repo, tag, d, true)
}

func (m *machine) attach(t *rapid.T) {
	tag := rapid.SampledFrom(slices.Sorted(maps.Keys(earth.attached))).Draw(t, "tag")
	m.pushAll(t, modelRepos.Draw(t, "repo"), tag, earth.attached[tag])
}

func (m *machine) sync(t *rapid.T) {
	m.syncAll(t, modelRepos.Draw(t, "repo"), drawTag(t), drawManifest(t, "manifest"), "")
}

// syncInPart leaves out a platform.
func (m *machine) syncInPart(t *rapid.T) {
	root := rapid.SampledFrom(earth.order[3:5]).Draw(t, "index")
	m.syncAll(t, modelRepos.Draw(t, "repo"), drawTag(t), root, earth.order[rapid.IntRange(0, 1).Draw(t, "left out")])
}

// syncAll brings an image with its referrers.
func (m *machine) syncAll(t *rapid.T, repo, tag string, root, without digest.Digest) {
	wanted := m.closure(root, without)
	p := mirror.Publication{Repo: repo, Tag: tag, Root: earth.manifests[root].Descriptor, By: "sync"}
	for _, d := range earth.order {
		if wanted[d] {
			p.Manifests = append(p.Manifests, earth.manifests[d])
			m.ingest(t, d)
			for _, r := range earth.manifests[d].Refs {
				if r.Role != mirror.RoleChild {
					m.ingest(t, r.Digest)
				}
			}
		}
	}
	if without != "" {
		p.Absent = []digest.Digest{without}
	}
	_, err := m.Publish(t.Context(), p)
	must(t, err)
	m.published(repo, tag, root, digestsOf(p.Manifests)...)
	if without != "" {
		m.absent[ledger.Held{Repo: repo, Digest: without}] = true
	}
}

func digestsOf(ms []mirror.Manifest) (ds []digest.Digest) {
	for _, m := range ms {
		ds = append(ds, m.Descriptor.Digest)
	}
	return ds
}

// closure are manifests, with those that refer to them.
func (m *machine) closure(root, without digest.Digest) map[digest.Digest]bool {
	wanted := map[digest.Digest]bool{root: true}
	for range earth.order {
		for _, d := range earth.order {
			about := earth.manifests[d].Subject
			if about != nil && wanted[about.Digest] {
				wanted[d] = true
			}
			for _, r := range earth.manifests[d].Refs {
				if wanted[d] && r.Role == mirror.RoleChild && r.Digest != without {
					wanted[r.Digest] = true
				}
			}
		}
	}
	return wanted
}

func (m *machine) untag(t *rapid.T) {
	if len(m.tags) == 0 {
		t.Skip("no tags")
	}
	tag := rapid.SampledFrom(slices.SortedFunc(maps.Keys(m.tags), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })).Draw(t, "tag")
	if rapid.Bool().Draw(t, "asking") {
		_, err := m.UntagUnless(t.Context(), tag[0], tag[1], ledger.Event{By: "model"}, func(digest.Digest) error { return nil })
		must(t, err)
	} else {
		must(t, m.Untag(t.Context(), tag[0], tag[1], ledger.Event{By: "model"}))
	}
	delete(m.tags, tag)
}

func (m *machine) unpublish(t *rapid.T) {
	h := ledger.Held{Repo: modelRepos.Draw(t, "repo"), Digest: drawManifest(t, "manifest")}
	err := m.Unpublish(t.Context(), h.Repo, h.Digest, ledger.Event{By: "model"}, func(string) error { return nil })
	if _, used := errors.AsType[*store.InUseError](err); used || errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	delete(m.told, h)
	delete(m.kept, h)
	delete(m.disk.revisions, h)
	for tag, d := range m.tags {
		if tag[0] == h.Repo && d == h.Digest {
			delete(m.tags, tag)
		}
	}
}

func (m *machine) unlink(t *rapid.T) {
	h := ledger.Held{Repo: modelRepos.Draw(t, "repo"), Digest: drawBlob(t, "blob")}
	err := m.Unlink(t.Context(), h.Repo, h.Digest)
	if _, used := errors.AsType[*store.InUseError](err); used || errors.Is(err, fs.ErrNotExist) {
		return
	}
	must(t, err)
	delete(m.told, h)
}

func (m *machine) protect(t *rapid.T) {
	h := ledger.Held{Repo: modelRepos.Draw(t, "repo"), Digest: drawManifest(t, "manifest")}
	p := ledger.Protection{Name: "p", Repo: h.Repo, Digest: h.Digest, Owner: "model"}
	until := m.now.Add(365 * 24 * time.Hour * 100)
	if rapid.Bool().Draw(t, "expires") {
		until = m.now.Add(modelHours.Draw(t, "for"))
		p.Expires = until
	}
	must(t, m.Ledger().RecordProtection(t.Context(), p))
	m.protections[h] = until
}

func (m *machine) unprotect(t *rapid.T) {
	if len(m.protections) == 0 {
		t.Skip("no protections")
	}
	h := slices.SortedFunc(maps.Keys(m.protections), func(x, y ledger.Held) int { return strings.Compare(x.String(), y.String()) })[0]
	must(t, m.Ledger().RemoveProtection(t.Context(), "p", h.Repo, h.Digest, "model"))
	delete(m.protections, h)
}

func (m *machine) collect(t *rapid.T) { m.run(t) }

func (m *machine) changePolicy(t *rapid.T) {
	m.quiet = true
	d := drawManifest(t, "d")
	m.keep[d] = !m.keep[d]
}

func (m *machine) wait(t *rapid.T) {
	m.quiet = true
	m.now = m.now.Add(modelHours.Draw(t, "time"))
}

func (m *machine) run(t *rapid.T) Report {
	r, err := Run(t.Context(), m.Store, m.o)
	must(t, err)
	if r.KeptByDoubt > 0 {
		t.Fatalf("doubts: %q", r.Problems)
	}
	m.dropAttached(t)
	m.checkCondemned(t, r)
	for h := range m.kept {
		if m.isPart(h) || m.isNamed(h) {
			delete(m.kept, h) // asked again when that ends, if ever
		}
	}
	return r
}

// isPart reports whether a manifest refers to h, or is its subject.
func (m *machine) isPart(h ledger.Held) bool {
	about := earth.manifests[h.Digest].Subject
	for other := range m.disk.revisions {
		if other.Repo != h.Repo {
			continue
		}
		if about != nil && about.Digest == other.Digest || slices.ContainsFunc(earth.manifests[other.Digest].Refs, func(r mirror.Ref) bool { return r.Digest == h.Digest }) {
			return true
		}
	}
	return false
}

// isNamed reports whether a tag or a protection names h.
func (m *machine) isNamed(h ledger.Held) bool {
	for tag, d := range m.tags {
		if tag[0] == h.Repo && d == h.Digest {
			return true
		}
	}
	return m.now.Before(m.protections[h])
}

// dropAttached forgets the tags that went with what they are named after.
func (m *machine) dropAttached(t *rapid.T) {
	now := glance(t, m.dir)
	for tag := range m.tags {
		subject, ok := mirror.AttachedTag(tag[1])
		if ok && now.tags[tag] == "" && !now.revisions[ledger.Held{Repo: tag[0], Digest: subject}] {
			delete(m.tags, tag)
		}
	}
}

// checkCondemned finds what is condemned and due though something has needed it for
// so long that all that was condemned before is due as well.
func (m *machine) checkCondemned(t *rapid.T, r Report) {
	needed := m.needed(m.disk)
	maps.DeleteFunc(m.since, func(h ledger.Held, _ time.Time) bool { return needed[h] == "" })
	for h := range needed {
		if m.since[h].IsZero() {
			m.since[h] = m.now
		}
	}
	if !r.PausedUntil.IsZero() || m.o.Observe {
		return
	}
	for v, err := range m.Ledger().Reviews(t.Context()) {
		must(t, err)
		since, is := m.since[v.Held]
		if is && v.State != ledger.Waiting && !v.Due.After(m.now) && m.now.Sub(since) > undo {
			t.Fatalf("%s is needed by %s since %s, and stays %s since %s, due %s", m.name(v.Held), needed[v.Held], since, v.State, v.Since, v.Due)
		}
	}
}

func (m *machine) observe(t *rapid.T) {
	m.o.Observe = true
	before := look(t, m.dir)
	m.run(t)
	m.o.Observe = false
	if diff := cmp.Diff(before, look(t, m.dir), cmp.AllowUnexported(state{})); diff != "" {
		t.Fatalf("observing changed the disk: %s", diff)
	}
}

func (m *machine) takeBack(t *rapid.T) {
	d := rapid.SampledFrom(slices.Concat(earth.order, earth.blobs)).Draw(t, "digest")
	repos, err := m.TakeBack(t.Context(), d)
	must(t, err)
	for _, repo := range repos {
		h := ledger.Held{Repo: repo, Digest: d}
		if m.here(m.disk, h) == "" {
			m.told[h] = m.now
		}
	}
}

// crash goes on with the ledger as it is now: closing writes to nothing else.
func (m *machine) crash(t *rapid.T) {
	name := filepath.Join(m.dir, "ledger.db")
	must(t, copySparse(name, name+".now"))
	must(t, m.Close())
	must(t, os.Rename(name+".now", name))
	m.open(t)
}

// copySparse leaves out the holes: most of a small ledger's file is one.
func copySparse(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	for at := int64(0); ; {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return out.Truncate(end)
		}
		hole, holeErr := f.Seek(data, unix.SEEK_HOLE)
		_, copyErr := io.Copy(io.NewOffsetWriter(out, data), io.NewSectionReader(f, data, hole-data))
		if err := errors.Join(err, holeErr, copyErr); err != nil {
			return err
		}
		at = hole
	}
}

func (m *machine) rebuild(t *rapid.T) {
	r, err := m.Rebuild(t.Context())
	must(t, err)
	if len(r.Problems) > 0 {
		t.Fatalf("problems: %q", r.Problems)
	}
}

func (m *machine) sometimesSettle(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "settle") > 0 {
		t.Skip("not now")
	}
	m.settle(t)
}

// settle lets everything go that may, and compares what is left with what a plain
// walk reaches. What is condemned late takes another undo; no chain is longer than
// there are manifests.
func (m *machine) settle(t *rapid.T) {
	clear(m.keep)
	for _, d := range slices.Concat([]time.Duration{surveyEvery, grace}, slices.Repeat([]time.Duration{undo}, len(earth.order))) {
		m.now = m.now.Add(d)
		m.run(t)
		m.check(t)
	}
	clear(m.kept)
	if diff := cmp.Diff(look(t, m.dir), glance(t, m.dir), cmp.AllowUnexported(state{})); diff != "" {
		t.Fatalf("a glance sees something else (-all +glance):\n%s", diff)
	}
	want, got := nothing(), look(t, m.dir)
	want.tags = m.tags
	for h := range m.needed(got) {
		want.contents[h.Digest] = true
		if _, manifest := earth.manifests[h.Digest]; manifest {
			want.revisions[h] = true
		} else {
			want.layers[h] = true
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(state{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("left on disk (-want +got):\n%s\nreviews:\n%s", diff, m.reviews(t))
	}
	m.checkLedger(t, got)
}

// reviews are what is asked about, and what needs it, for people.
func (m *machine) reviews(t *rapid.T) string {
	var all strings.Builder
	for v, err := range m.Ledger().Reviews(t.Context()) {
		must(t, err)
		whys, err := m.Ledger().Needs(t.Context(), []ledger.Held{v.Held}, m.now, nil)
		must(t, err)
		fmt.Fprintf(&all, "%s: %+v: %q\n", m.name(v.Held), v, whys)
	}
	return all.String()
}

// checkLedger compares the graph with what is on disk, and with a new one.
func (m *machine) checkLedger(t *rapid.T, disk state) {
	held := map[ledger.Held]bool{}
	for _, repo := range modelRepoNames {
		for d, err := range m.Ledger().Links(t.Context(), repo) {
			must(t, err)
			held[ledger.Held{Repo: repo, Digest: d}] = true
		}
	}
	if diff := cmp.Diff(disk.revisions, held, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("the ledger's links (-disk +ledger):\n%s", diff)
	}
	before := m.graph(t)
	m.rebuild(t)
	if diff := cmp.Diff(m.graph(t), before); diff != "" {
		t.Fatalf("the ledger's graph (-rebuilt +collected):\n%s", diff)
	}
	for v, err := range m.Ledger().Reviews(t.Context()) {
		must(t, err)
		if v.State != ledger.Waiting {
			t.Fatalf("%s is %s after all is settled", m.name(v.Held), v.State)
		}
	}
}

// graph is what the ledger says of each digest.
func (m *machine) graph(t *rapid.T) map[digest.Digest]string {
	all := map[digest.Digest]string{}
	for _, d := range slices.Concat(earth.order, earth.blobs) {
		parents, err := m.Ledger().Parents(t.Context(), d)
		must(t, err)
		children, err := m.Ledger().Children(t.Context(), d)
		if !errors.Is(err, fs.ErrNotExist) {
			must(t, err)
		}
		referrers, err := m.Ledger().Referrers(t.Context(), "r", d)
		must(t, err)
		all[d] = fmt.Sprint(parents, len(children), len(referrers))
	}
	return all
}
