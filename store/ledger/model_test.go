package ledger_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"reflect"
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
	"lastro/store/ledger"
	"lastro/store/storetest"
)

var long = flag.Bool("long", false, "run the long variants: the model takes a million steps")

// TestMain makes the model short unless -long or rapid's flags say otherwise.
func TestMain(m *testing.M) {
	set := func(name, value string) {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	set("rapid.checks", "20")
	set("rapid.steps", "60")
	flag.Parse()
	if *long {
		set("rapid.checks", "2500")
		set("rapid.steps", "400")
	}
	os.Exit(m.Run())
}

// The world of the model: few names, so that they meet.
var (
	repos = rapid.SampledFrom([]string{"a", "a/b", "a-b"})
	tags  = rapid.SampledFrom([]string{"", "1", "1.0", "latest"})
	kinds = rapid.SampledFrom([]string{ledger.Seen, ledger.Moved, ledger.Removed, ledger.Restored, "protected"})
	hours = rapid.Custom(func(t *rapid.T) time.Time {
		return time.Date(2026, 5, 1, rapid.IntRange(-3, 30).Draw(t, "hour"), 0, 0, rapid.IntRange(0, 1).Draw(t, "ns"), time.UTC)
	})
	world   = manifests()
	digests = rapid.SampledFrom(everyDigest(world))
	some    = rapid.SliceOfN(rapid.SampledFrom(world), 0, 4)
	few     = rapid.SliceOfN(digests, 0, 3)
)

func dig(text string) digest.Digest { return digest.FromString(text) }

func descriptor(kind, name string, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: kind, Digest: dig(name), Size: size}
}

// manifests are images that share layers, indexes over them, one within
// another, and referrers, one of a referrer and one of what is never there.
func manifests() []mirror.Manifest {
	ref := func(role mirror.Role, desc ocispec.Descriptor) mirror.Ref {
		return mirror.Ref{Role: role, Descriptor: desc}
	}
	image := func(name string, layers ...string) mirror.Manifest {
		m := mirror.Manifest{Descriptor: descriptor(ocispec.MediaTypeImageManifest, name, int64(len(name)))}
		m.Refs = append(m.Refs, ref(mirror.RoleConfig, descriptor("application/vnd."+name, "config "+name, 2)))
		for i, l := range layers {
			m.Refs = append(m.Refs, ref(mirror.RoleLayer, descriptor(ocispec.MediaTypeImageLayerGzip, l, int64(100+i))))
		}
		return m
	}
	index := func(name string, children ...mirror.Manifest) mirror.Manifest {
		m := mirror.Manifest{Descriptor: descriptor(ocispec.MediaTypeImageIndex, name, 50)}
		for _, c := range children {
			m.Refs = append(m.Refs, ref(mirror.RoleChild, c.Descriptor))
		}
		return m
	}
	about := func(m mirror.Manifest, subject ocispec.Descriptor) mirror.Manifest {
		m.Subject, m.Annotations = &subject, map[string]string{"about": string(subject.Digest)}
		return m
	}
	amd, arm := image("amd", "shared", "x"), image("arm", "shared", "y")
	arm.Descriptor.Digest = digest.SHA512.FromString("arm")
	both := index("both", amd, arm)
	signature := about(image("signature", "s"), both.Descriptor)
	signature.Descriptor.ArtifactType = "application/signature"
	return []mirror.Manifest{amd, arm, both, index("outer", both, image("never")), signature,
		about(image("of signature"), signature.Descriptor), about(image("of nothing"), descriptor("", "nothing", 1))}
}

func everyDigest(ms []mirror.Manifest) (all []digest.Digest) {
	for _, m := range ms {
		all = append(all, m.Descriptor.Digest)
		for _, r := range m.Refs {
			all = append(all, r.Digest)
		}
	}
	slices.Sort(all)
	return append(slices.Compact(all), dig("nothing"))
}

// machine is a ledger and what it should say.
type machine struct {
	*oracle
	l      *ledger.Ledger
	dir    string
	opened int
	path   string
	steps  *atomic.Int64
}

// TestTheLedgerIsWhatMapsSay does what a mirror, people and crashes do to a
// ledger, in any order.
func TestTheLedgerIsWhatMapsSay(t *testing.T) {
	dir, steps := storetest.Folder(t), new(atomic.Int64)
	rapid.Check(t, func(t *rapid.T) {
		own, err := os.MkdirTemp(dir, "model")
		must(t, err)
		m := &machine{oracle: newOracle(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)), dir: own, path: filepath.Join(own, "0"), steps: steps}
		m.open(t, false)
		defer func() { m.l.Close(); os.RemoveAll(own) }()
		t.Repeat(map[string]func(*rapid.T){
			"":                     m.look,
			"record":               m.recordEvent,
			"record again":         m.recordEvent,
			"record publication":   m.recordPublished,
			"unlink":               m.unlink,
			"pull":                 m.pull,
			"flush pulls":          m.flushPulls,
			"import":               m.importEvents,
			"import many":          m.importMany,
			"publish":              m.publish,
			"serve":                m.serve,
			"ask for referrers":    m.check,
			"lose a referrer":      m.uncheck,
			"run a job":            m.job,
			"back up":              m.backUp,
			"forget the bucket":    m.forget,
			"rebuild":              m.rebuild,
			"end in a rebuild":     m.endInRebuild,
			"set the clock":        func(t *rapid.T) { m.now = hours.Draw(t, "now") },
			"close and open":       func(t *rapid.T) { must(t, m.l.Close()); m.flush(); m.open(t, false) },
			"crash":                func(t *rapid.T) { m.crash(t, m.copy(t)) },
			"record while listing": m.listing,
			"move house":           m.moveHouse,
		})
	})
	t.Logf("%d steps", steps.Load())
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t *rapid.T, what string, want, got any) {
	t.Helper()
	if diff := difference(what, want, got); diff != "" {
		t.Fatal(diff)
	}
}

// difference is empty when there is none. Most often there is none, and then it
// is fast.
func difference(what string, want, got any) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		return what + ": -want +got\n" + diff
	}
	return ""
}

func (m *machine) open(t *rapid.T, crashed bool) {
	l, err := ledger.Open(m.path, ledger.Options{Now: func() time.Time { return m.now }})
	must(t, err)
	same(t, "unclean", crashed, l.Unclean())
	m.l = l
	m.whole(t)
}

// copy is the file as a crash now would leave it.
func (m *machine) copy(t *rapid.T) string {
	m.opened++
	path := filepath.Join(m.dir, fmt.Sprint(m.opened))
	must(t, copySparse(m.path, path))
	return path
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

// crash goes on with a copy.
func (m *machine) crash(t *rapid.T, path string) {
	must(t, m.l.Close())
	must(t, os.Remove(m.path))
	m.path = path
	clear(m.noted)
	m.open(t, true)
}

// cutContext ends when it was asked often enough: between two transactions.
type cutContext struct {
	context.Context
	left *atomic.Int64
}

func (c cutContext) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return c.Context.Err()
}

var errCut = errors.New("cut short")

// do runs an operation whose transactions do steps, and may cut it short. Then
// some first steps are done, and no part of one. A process may end there.
func (m *machine) do(t *rapid.T, op func(ctx context.Context) error, steps ...func()) {
	ctx := cutContext{t.Context(), new(atomic.Int64)}
	ctx.left.Store(1 << 62)
	if rapid.IntRange(0, 5).Draw(t, "cut") == 0 {
		ctx.left.Store(rapid.Int64Range(0, int64(2*len(steps)+1)).Draw(t, "left"))
	}
	err := op(ctx)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	for _, step := range steps {
		if err != nil && m.differs(t) == "" {
			break
		}
		step()
	}
	if err != nil && rapid.Bool().Draw(t, "the process ends") {
		m.crash(t, m.copy(t))
	}
}

func (m *machine) event(t *rapid.T) ledger.Event {
	e := ledger.Event{Repo: repos.Draw(t, "repo"), Tag: tags.Draw(t, "tag"), Event: kinds.Draw(t, "event"), By: "model", Reason: "why not"}
	if rapid.Bool().Draw(t, "has a digest") {
		e.Digest = rapid.SampledFrom(world[:3]).Draw(t, "digest").Descriptor.Digest
	}
	if rapid.IntRange(0, 9).Draw(t, "says previous") == 0 {
		e.Previous = digests.Draw(t, "previous")
	}
	return e
}

func (m *machine) recordEvent(t *rapid.T) {
	e := m.event(t)
	if rapid.Bool().Draw(t, "has a time") {
		e.Time = hours.Draw(t, "time").In(time.FixedZone("", 3600))
	}
	m.do(t, func(ctx context.Context) error { return m.l.RecordEvent(ctx, e) }, func() { m.record(e) })
}

func (m *machine) recordPublished(t *rapid.T) {
	e := m.event(t)
	if e.Digest == "" {
		t.Skip("published is what has a digest")
	}
	e.Event, e.Time = ledger.Pushed, hours.Draw(t, "time")
	m.do(t, func(ctx context.Context) error { return m.l.RecordPublished(ctx, e) }, func() {
		m.checked[place{e.Repo, e.Digest}] = e.Time
		m.record(e)
	})
}

func (m *machine) unlink(t *rapid.T) {
	p := place{repos.Draw(t, "repo"), rapid.SampledFrom(world).Draw(t, "manifest").Descriptor.Digest}
	m.do(t, func(ctx context.Context) error { return m.l.RecordUnlinked(ctx, p.repo, p.digest) }, func() {
		delete(m.graph.links, p)
		delete(m.checked, p)
		m.forgetPulls()
	})
}

func (m *machine) pull(t *rapid.T) {
	k, at := pullKey{repos.Draw(t, "repo"), tags.Draw(t, "tag"), digests.Draw(t, "digest")}, hours.Draw(t, "time")
	m.l.NotePull(k.repo, k.tag, k.digest, at)
	m.note(pullKey{repo: k.repo, digest: k.digest}, at)
	if k.tag != "" {
		m.note(pullKey{repo: k.repo, tag: k.tag}, at)
	}
}

func (m *machine) flushPulls(t *rapid.T) { m.do(t, m.l.FlushPulls, m.flush) }

func (m *machine) importEvents(t *rapid.T) {
	var events []ledger.Event
	for range rapid.IntRange(0, 5).Draw(t, "events") {
		e := m.event(t)
		e.Time = hours.Draw(t, "time")
		events = append(events, e)
	}
	if len(m.events) > 0 && rapid.Bool().Draw(t, "with known ones") {
		from := rapid.IntRange(max(0, len(m.events)-5), len(m.events)-1).Draw(t, "from")
		events = append(events, m.events[from:]...)
	}
	m.do(t, func(ctx context.Context) error { return m.l.ImportEvents(ctx, events) }, func() { m.imports(byTime(events)) })
}

// importMany makes listings longer than a page, once.
func (m *machine) importMany(t *rapid.T) {
	if len(m.history("many", "0000")) > 0 || rapid.IntRange(0, 99).Draw(t, "chance") > 0 {
		t.Skip("later")
	}
	var events []ledger.Event
	for i := range 1100 {
		events = append(events, ledger.Event{Time: m.now, Repo: "many", Tag: fmt.Sprintf("%04d", i), Event: ledger.Seen, Digest: dig("amd")})
	}
	m.do(t, func(ctx context.Context) error { return m.l.ImportEvents(ctx, events) },
		func() { m.imports(events[:1000]) }, func() { m.imports(events[1000:]) })
}

func (m *machine) publish(t *rapid.T) {
	repo, ms, absent := repos.Draw(t, "repo"), some.Draw(t, "manifests"), few.Draw(t, "absent")
	m.do(t, func(ctx context.Context) error { return m.l.RecordGraph(ctx, repo, ms, absent) },
		func() { m.mark(repo, absent) }, func() { m.add(m.graph, repo, ms) })
}

func (m *machine) mark(repo string, ds []digest.Digest) {
	for _, d := range ds {
		m.absent[place{repo, d}] = true
	}
}

func (m *machine) add(c content, repo string, ms []mirror.Manifest) {
	for _, n := range ms {
		c.add(repo, n)
	}
}

func (m *machine) serve(t *rapid.T) {
	repo, ds := repos.Draw(t, "repo"), few.Draw(t, "served")
	m.do(t, func(ctx context.Context) error { return m.l.RecordServed(ctx, repo, ds...) }, func() {
		for _, d := range ds {
			delete(m.absent, place{repo, d})
		}
	})
}

func (m *machine) check(t *rapid.T) {
	repo, ds, at := repos.Draw(t, "repo"), few.Draw(t, "digests"), hours.Draw(t, "time")
	m.do(t, func(ctx context.Context) error { return m.l.RecordReferrersChecked(ctx, repo, at, ds...) }, func() {
		for _, d := range ds {
			m.checked[place{repo, d}] = at
		}
	})
}

func (m *machine) uncheck(t *rapid.T) {
	repo, ds := repos.Draw(t, "repo"), few.Draw(t, "digests")
	m.do(t, func(ctx context.Context) error { return m.l.RecordReferrersUnchecked(ctx, repo, ds...) }, func() {
		for _, d := range ds {
			delete(m.checked, place{repo, d})
		}
	})
}

func (m *machine) job(t *rapid.T) {
	j := ledger.Job{Name: repos.Draw(t, "name"), Started: hours.Draw(t, "started"), Err: rapid.SampledFrom([]string{"", "no space left"}).Draw(t, "err")}
	m.do(t, func(ctx context.Context) error { return m.l.RecordJob(ctx, j) }, func() { m.jobs[j.Name] = j })
}

func (m *machine) backUp(t *rapid.T) {
	vault, ds := repos.Draw(t, "vault"), few.Draw(t, "digests")
	m.do(t, func(ctx context.Context) error { return m.l.RecordHeld(ctx, vault, ds) }, func() {
		for _, d := range ds {
			m.held[place{vault, d}] = true
		}
	})
}

func (m *machine) forget(t *rapid.T) {
	vault := repos.Draw(t, "vault")
	m.do(t, func(ctx context.Context) error { return m.l.ForgetHeld(ctx, vault) }, func() {
		for _, d := range everyDigest(world) {
			delete(m.held, place{vault, d})
		}
	})
}

// found draws what a rebuild reads.
func found(t *rapid.T) (list []ledger.RepoManifest) {
	for range rapid.IntRange(0, 6).Draw(t, "found") {
		list = append(list, ledger.RepoManifest{Repo: repos.Draw(t, "repo"), Manifest: rapid.SampledFrom(world).Draw(t, "manifest"), Absent: few.Draw(t, "absent")})
	}
	return list
}

// settle is what a rebuild learns of what is absent.
func (m *machine) settle(list []ledger.RepoManifest) {
	for _, r := range list {
		m.mark(r.Repo, r.Absent)
	}
	for _, r := range list {
		delete(m.absent, place{r.Repo, r.Manifest.Descriptor.Digest})
	}
}

func (m *machine) rebuild(t *rapid.T) {
	list, meanwhile := found(t), rapid.SliceOfN(rapid.SampledFrom(world), 0, 2).Draw(t, "meanwhile")
	fails := rapid.IntRange(0, 3).Draw(t, "fails") == 0
	filled := newContent()
	m.do(t, func(ctx context.Context) error {
		return m.l.RebuildGraph(ctx, func(yield func(ledger.RepoManifest, error) bool) {
			must(t, m.l.RecordGraph(t.Context(), "meanwhile", meanwhile, nil))
			m.add(m.graph, "meanwhile", meanwhile)
			m.add(filled, "meanwhile", meanwhile)
			m.look(t)
			_ = yieldAll(list, yield) && fails && yield(ledger.RepoManifest{}, errCut)
		})
	}, func() { m.settle(list) }, func() {
		for _, r := range list {
			filled.add(r.Repo, r.Manifest)
		}
		m.graph = filled
		m.forgetPulls()
	})
}

func yieldAll(list []ledger.RepoManifest, yield func(ledger.RepoManifest, error) bool) bool {
	for _, r := range list {
		if !yield(r, nil) {
			return false
		}
	}
	return true
}

// endInRebuild ends the process while a rebuild reads.
func (m *machine) endInRebuild(t *rapid.T) {
	list, crashed := found(t), ""
	must(t, m.l.RebuildGraph(t.Context(), func(yield func(ledger.RepoManifest, error) bool) {
		if yieldAll(list, yield) {
			crashed = m.copy(t)
		}
	}))
	m.crash(t, crashed)
}

// listing moves tags while it lists them: each of those before is seen, in
// order.
func (m *machine) listing(t *rapid.T) {
	repo := rapid.SampledFrom([]string{"", "a", "a/b", "many"}).Draw(t, "repo")
	want, got := m.tags(repo), []ledger.TagState(nil)
	for s, err := range m.l.Tags(t.Context(), repo) {
		must(t, err)
		got = append(got, s)
		if len(got) <= 2 {
			e := ledger.Event{Repo: s.Repo, Tag: s.Tag, Event: kinds.Draw(t, "event"), Digest: dig("both")}
			must(t, m.l.RecordEvent(t.Context(), e))
			m.record(e)
		}
	}
	same(t, "tags of "+repo, want, got)
}

// look compares one place.
func (m *machine) look(t *rapid.T) {
	m.steps.Add(1)
	m.lookAtTag(t, repos.Draw(t, "repo"), tags.Draw(t, "tag"), hours.Draw(t, "time"))
	d := digests.Draw(t, "digest")
	m.lookAtDigest(t, d)
	m.lookAtPlace(t, repos.Draw(t, "repo"), d)
	seq, err := m.l.LastSeq(t.Context())
	must(t, err)
	same(t, "last number", uint64(len(m.events)), seq)
}

// whole compares everything.
func (m *machine) whole(t *rapid.T) {
	if diff := m.differs(t); diff != "" {
		t.Fatal(diff)
	}
	for _, repo := range []string{"a", "a/b", "a-b", "meanwhile"} {
		for _, tag := range []string{"", "1", "1.0", "latest"} {
			m.lookAtTag(t, repo, tag, m.now.Add(-time.Hour))
		}
	}
	for _, d := range everyDigest(world) {
		m.lookAtDigest(t, d)
	}
}

// differs says what the ledger tells otherwise than the oracle, if anything.
func (m *machine) differs(t *rapid.T) string {
	var all []string
	compare := func(what string, want, got any) {
		if diff := difference(what, want, got); diff != "" {
			all = append(all, diff)
		}
	}
	ctx := t.Context()
	compare("events", m.events, collect(t, m.l.Events(ctx, 0)))
	compare("tags", m.tags(""), collect(t, m.l.Tags(ctx, "")))
	compare("repositories", m.repositories(), collect(t, m.l.Repositories(ctx)))
	since, err := m.l.PullsSince(ctx)
	must(t, err)
	compare("pulls since", m.since, since)
	for _, repo := range []string{"a", "a/b", "a-b", "meanwhile"} {
		compare("links of "+repo, m.graph.of(repo), collect(t, m.l.Links(ctx, repo)))
		held, err := m.l.Held(ctx, repo, everyDigest(world))
		must(t, err)
		want := map[digest.Digest]bool{}
		for _, d := range everyDigest(world) {
			if m.held[place{repo, d}] {
				want[d] = true
			}
			absent, err := m.l.Absent(ctx, repo, d)
			must(t, err)
			compare("absent", m.absent[place{repo, d}], absent)
			checked, err := m.l.ReferrersChecked(ctx, repo, d)
			must(t, err)
			compare("checked", m.checked[place{repo, d}], checked)
		}
		compare("held by "+repo, want, held)
		for _, k := range m.pullable(repo) {
			pulled, err := m.l.LastPulled(ctx, repo, k.tag, k.digest)
			must(t, err)
			compare("last pulled", m.lastPulled(repo, k.tag, k.digest), pulled)
		}
	}
	jobs, err := m.l.Jobs(ctx)
	must(t, err)
	compare("jobs", slices.SortedFunc(maps.Values(m.jobs), func(a, b ledger.Job) int { return strings.Compare(a.Name, b.Name) }), jobs)
	return strings.Join(all, "\n")
}

// pullable are the tags and manifests of the world.
func (m *machine) pullable(repo string) []pullKey {
	keys := []pullKey{{repo, "1", ""}, {repo, "1.0", ""}, {repo, "latest", ""}}
	for _, n := range world {
		keys = append(keys, pullKey{repo, "", n.Descriptor.Digest})
	}
	return keys
}

func collect[T any](t *rapid.T, seq iter.Seq2[T, error]) (all []T) {
	for item, err := range seq {
		must(t, err)
		all = append(all, item)
	}
	return all
}

func (m *machine) lookAtTag(t *rapid.T, repo, tag string, at time.Time) {
	history, err := m.l.History(t.Context(), repo, tag)
	must(t, err)
	same(t, "history", m.history(repo, tag), history)
	now, err := m.l.Tag(t.Context(), repo, tag)
	missing(t, now.Digest == "", err)
	same(t, "tag", m.tag(repo, tag), now)
	then, err := m.l.At(t.Context(), repo, tag, at)
	missing(t, then.Digest == "", err)
	same(t, "tag at "+at.String(), m.at(repo, tag, at), then)
}

// missing fails unless err is nil, or fs.ErrNotExist for what is not there.
func missing(t *rapid.T, isMissing bool, err error) {
	t.Helper()
	if isMissing != errors.Is(err, fs.ErrNotExist) || !isMissing && err != nil {
		t.Fatalf("missing %v: %v", isMissing, err)
	}
}

func (m *machine) lookAtDigest(t *rapid.T, d digest.Digest) {
	want, known := m.graph.nodes[d]
	node, err := m.l.Manifest(t.Context(), d)
	missing(t, !known, err)
	children, err := m.l.Children(t.Context(), d)
	missing(t, !known, err)
	same(t, "children", want.Refs, children)
	if known {
		wantNode := ledger.Node{MediaType: want.Descriptor.MediaType, ArtifactType: artifactType(want), Size: want.Descriptor.Size, Annotations: want.Annotations}
		if want.Subject != nil {
			wantNode.Subject = want.Subject.Digest
		}
		same(t, "node", wantNode, node)
	}
	parents, err := m.l.Parents(t.Context(), d)
	must(t, err)
	same(t, "parents", m.graph.parents(d), parents)
}

func (m *machine) lookAtPlace(t *rapid.T, repo string, d digest.Digest) {
	linked, err := m.l.Linked(t.Context(), repo, d)
	must(t, err)
	same(t, "linked", m.graph.links[place{repo, d}], linked)
	absent, err := m.l.Absent(t.Context(), repo, d)
	must(t, err)
	same(t, "absent", m.absent[place{repo, d}], absent)
	referrers, err := m.l.Referrers(t.Context(), repo, d)
	must(t, err)
	same(t, "referrers", m.graph.referrers(repo, d), referrers)
	want, got := map[digest.Digest]int64{}, map[digest.Digest]int64{}
	m.graph.closure(repo, d, 0, want)
	m.closure(t, repo, d, 0, got)
	same(t, "closure", want, got)
}

// closure is what a walk from d finds in the ledger, with sizes.
func (m *machine) closure(t *rapid.T, repo string, d digest.Digest, size int64, seen map[digest.Digest]int64) {
	if _, ok := seen[d]; ok {
		return
	}
	seen[d] = size
	children, err := m.l.Children(t.Context(), d)
	missing(t, err != nil, err)
	for _, r := range children {
		m.closure(t, repo, r.Digest, r.Size, seen)
	}
	referrers, err := m.l.Referrers(t.Context(), repo, d)
	must(t, err)
	for _, r := range referrers {
		m.closure(t, repo, r.Digest, r.Size, seen)
	}
}
