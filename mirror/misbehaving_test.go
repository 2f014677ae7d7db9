package mirror_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/mirror/sample"
	"lastro/mirror/upstream"
	"lastro/mirror/upstream/upstreamtest"
	"lastro/store"
)

// twoTags is the rule for upstreams that misbehave: two signed images that
// share layers.
var twoTags = mirror.Rule{Name: "web", From: "reg.test/apps/web", To: "web", Tags: mirror.TagFilter{Include: []string{"1.?"}}, Referrers: true}

// flawless is a registry that was filled before time became virtual.
type flawless struct {
	handler http.Handler
	images  map[string]sample.Expect // by tag of apps/web
	sizes   map[digest.Digest]int64
}

var theFlawless = sync.OnceValues(func() (*flawless, error) {
	reg, err := sample.Start(sample.Options{LayerBytes: 100 << 10, Versions: 2})
	if err != nil {
		return nil, err
	}
	defer reg.Close()
	expect, err := reg.Fill(context.Background())
	f := &flawless{handler: reg.Handler(), images: map[string]sample.Expect{}, sizes: map[digest.Digest]int64{}}
	for _, e := range expect {
		if e.Repo == "apps/web" && e.Tag != "latest" {
			f.images[e.Tag] = e
		}
		for _, c := range append(e.Image, e.Referrers...) {
			f.sizes[c.Digest] = c.Size
		}
	}
	return f, err
})

func mustFlawless(t testing.TB) *flawless {
	t.Helper()
	f, err := theFlawless()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// shelter is a local registry that a test can look into.
type shelter interface {
	mirror.Destination
	holds() map[digest.Digest]bool
	checkWhole(fataler)
}

// outpost mirrors two tags from an upstream on a net in memory.
type outpost struct {
	*flawless
	net    upstreamtest.Net
	tally  upstreamtest.Tally
	dest   shelter
	engine *mirror.Engine
	rule   mirror.Rule
}

// outpostOf is called in a bubble.
func outpostOf(t *testing.T, f *flawless, dest shelter) *outpost {
	t.Helper()
	o := &outpost{flawless: f, dest: dest, rule: twoTags}
	o.engine = &mirror.Engine{Dest: dest, Now: time.Now}
	t.Cleanup(o.net.Close)
	return o
}

// between puts what goes wrong between the upstream and us, in place of what
// was there, and begins with new connections, as a new process does.
func (o *outpost) between(t *testing.T, w weather) {
	t.Helper()
	faults := w.faults
	if w.cdn != nil {
		cdn := &upstreamtest.Elsewhere{Host: "cdn.test", Leaked: func(header string) { t.Errorf("the CDN got the header Authorization: %s", header) }}
		o.net.Serve(cdn.Host, cdn.Handler(o.tally.Count(upstreamtest.With(o.handler, w.cdn...))))
		faults = append(slices.Clone(faults), cdn.Redirect(upstreamtest.Blobs(nil)))
	}
	o.net.Serve("reg.test", o.tally.Count(upstreamtest.With(o.handler, append([]upstreamtest.Fault{patience}, faults...)...)))
	dial := o.net.Dial
	if w.dns != nil {
		dial = upstreamtest.FlappingDNS(dial, w.dns)
	}
	up, err := upstream.Open("reg.test", upstream.Settings{PlainHTTP: true, Credentials: upstream.Anonymous()}, upstream.Options{Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	o.engine.Source = from(up)
}

// patience ends with the thousandth request for the same: then time passes, and
// a run that would never end is over.
var patience = upstreamtest.Silent(upstreamtest.Strike{When: upstreamtest.From(1000)})

// weather is all that goes wrong in a run. The zero value is a fair day.
type weather struct {
	faults []upstreamtest.Fault
	cdn    []upstreamtest.Fault // not nil: blobs come from a CDN that has these
	dns    upstreamtest.When
}

// maxRun is how long a run may take, whatever the upstream does.
const maxRun = 2 * time.Hour

// run is one sync. It has to end in time, to say whose fault it was, and to
// leave nothing visible that is not whole.
func (o *outpost) run(t *testing.T) mirror.RuleReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), maxRun)
	defer cancel()
	r, err := o.syncOnce(ctx)
	if err != nil {
		t.Fatalf("the run did not end in %s: %v", maxRun, err)
	}
	for _, f := range r.Rules[0].Failed {
		tag := "reg.test/apps/web:" + f.Tag
		if !strings.Contains(f.Error, strings.TrimSuffix(tag, ":")) && !strings.Contains(f.Error, "reg.test/apps/web:sha256-") {
			t.Errorf("the error of %q names neither it nor what is attached to it: %s", f.Tag, f.Error)
		}
	}
	o.dest.checkWhole(t)
	return r.Rules[0]
}

func (o *outpost) syncOnce(ctx context.Context) (mirror.Report, error) {
	p, err := o.engine.Plan(ctx, []mirror.Rule{o.rule})
	if err != nil {
		return mirror.Report{}, err
	}
	return o.engine.Apply(ctx, p)
}

// complete reports whether all tags are where the upstream has them.
func (o *outpost) complete(t *testing.T) bool {
	t.Helper()
	for tag, e := range o.images {
		if d, err := o.dest.Resolve(t.Context(), "web", tag); err != nil || d != e.Digest {
			return false
		}
		for _, c := range append(e.Image, e.Referrers...) {
			if ok, err := o.dest.Linked(t.Context(), "web", c.Descriptor, c.Manifest); err != nil || !ok {
				return false
			}
		}
	}
	return true
}

// recover is a run on a fair day, after which nothing may be missing and in
// which nothing that was here is fetched again. It is the next day, because an
// upstream that seemed to have no referrers is asked for them again then.
func (o *outpost) recover(t *testing.T) {
	t.Helper()
	time.Sleep(25 * time.Hour) // nothing: time is virtual
	o.between(t, weather{})
	held, before := o.dest.holds(), o.sent()
	if r := o.run(t); len(r.Failed) > 0 || !o.complete(t) {
		t.Fatalf("a run without the fault leaves something behind: %+v", r)
	}
	for d, bytes := range o.sent() {
		if held[d] && bytes > before[d] {
			t.Errorf("%s was here, and %d bytes of it were fetched", d, bytes-before[d])
		}
	}
}

func (o *outpost) sent() map[digest.Digest]int64 {
	all := map[digest.Digest]int64{}
	for _, d := range o.tally.Digests() {
		all[d] = o.tally.Sent(d).Bytes
	}
	return all
}

// inTransit is how much may have been sent and not read when an answer breaks off.
const inTransit = 16 << 10

// checkFrugal fails when more was fetched of anything than the faults explain:
// answers that did not come to their end, and content that they spoilt.
func (o *outpost) checkFrugal(t *testing.T) {
	t.Helper()
	for _, d := range o.tally.Digests() {
		sent, size := o.tally.Sent(d), o.sizes[d]
		if sent.Bytes > size*int64(1+sent.Spoilt)+inTransit*int64(1+sent.Cuts) {
			t.Fatalf("%s has %d bytes, and %d of it were fetched in %d answers that broke off, after it was spoilt %d times", d, size, sent.Bytes, sent.Cuts, sent.Spoilt)
		}
	}
}

func TestWhateverOneUpstreamDoesTheRunEndsAndTheNextCompletesIt(t *testing.T) {
	f := mustFlawless(t)
	for _, tt := range misbehaviours(f) {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := outpostOf(t, f, newPantry())
				tt.check(t, o)
			})
		})
	}
}

// TestWhatOneUpstreamDoesARealStoreStands runs a few of them, or with -long all,
// over the real local registry.
func TestWhatOneUpstreamDoesARealStoreStands(t *testing.T) {
	f := mustFlawless(t)
	few := []string{"bodies are cut, and continued", "the rest of a layer has wrong bytes", "manifests are always cut"}
	for _, tt := range misbehaviours(f) {
		if !*long && !slices.Contains(few, tt.name) {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, nil)
				one := flawless{f.handler, map[string]sample.Expect{"1.0": f.images["1.0"]}, f.sizes}
				o := outpostOf(t, &one, &house{s.store, s, f.sizes})
				o.rule.Tags.Include = []string{"1.0"}
				tt.check(t, o)
			})
		})
	}
}

// house is the real local registry as a shelter.
type house struct {
	*store.Store
	site  *site
	sizes map[digest.Digest]int64
}

func (h *house) checkWhole(t fataler) { h.site.checkWhole(t) }

func (h *house) holds() map[digest.Digest]bool {
	held := map[digest.Digest]bool{}
	for d, size := range h.sizes {
		if has, err := h.Has(context.Background(), ocispec.Descriptor{Digest: d, Size: size}); err == nil && has {
			held[d] = true
		}
	}
	return held
}

// misbehaviour is one fault, and what a run in it comes to.
type misbehaviour struct {
	name string
	weather
	says   string // in the errors; "": the run copies all
	may    string // in place of says, of a run that may also copy all
	within time.Duration
}

func (m misbehaviour) check(t *testing.T, o *outpost) {
	t.Helper()
	o.between(t, m.weather)
	began := time.Now()
	r := o.run(t)
	if took := time.Since(began); took > m.within {
		t.Errorf("the run took %s, want at most %s", took, m.within)
	}
	switch {
	case m.says+m.may == "" && (len(r.Failed) > 0 || !o.complete(t)):
		t.Errorf("got %+v, want all copied", r)
	case m.says != "" && len(r.Failed) == 0:
		t.Errorf("nothing failed, want %q", m.says)
	}
	for _, f := range r.Failed {
		if !strings.Contains(f.Error, m.says+m.may) {
			t.Errorf("got %q, want %q in it", f.Error, m.says+m.may)
		}
	}
	o.checkFrugal(t)
	o.recover(t)
	o.checkFrugal(t)
}

func misbehaviours(f *flawless) []misbehaviour {
	const part = 70_000 // of a layer, enough to count as progress
	type faults = []upstreamtest.Fault
	var (
		always  = upstreamtest.First(1 << 30)
		first   = upstreamtest.First(1)
		blobs   = upstreamtest.Blobs
		layer   = f.layer()
		ofLayer = upstreamtest.Strike{Method: http.MethodGet, Name: layer.String()}
		tags    = upstreamtest.Strike{Kind: sample.KindTags}
	)
	return []misbehaviour{
		{name: "bodies are cut, and continued", weather: weather{faults: faults{upstreamtest.CutAt(blobs(first), part)}}, within: time.Minute},
		{name: "bodies are always cut early", weather: weather{faults: faults{upstreamtest.CutAt(blobs(always), 20_000)}}, says: "the download broke off", within: time.Minute},
		{name: "bodies are cut before their first byte", weather: weather{faults: faults{upstreamtest.CutAt(blobs(always), 0)}}, says: "the download broke off", within: time.Minute},
		{name: "manifests are cut once", weather: weather{faults: faults{upstreamtest.CutAt(upstreamtest.Manifests(first), 50)}}, within: time.Minute},
		{name: "manifests are always cut", weather: weather{faults: faults{upstreamtest.CutAt(upstreamtest.Manifests(always), 50)}}, says: "the answer broke off", within: 5 * time.Minute},
		{name: "bodies drip", weather: weather{faults: faults{upstreamtest.Drip(blobs(always), 4<<10, time.Second)}}, within: 10 * time.Minute},
		{name: "bodies drip for ever", weather: weather{faults: faults{upstreamtest.Drip(blobs(always), 1, 50*time.Second)}}, says: "too slow", within: time.Hour},
		{name: "redirects stall", weather: weather{faults: faults{upstreamtest.Stall(blobs(always), 10), upstreamtest.RedirectLoop(blobs(always))}}, says: "more than 10 redirects", within: time.Hour},
		{name: "bodies stall, and are continued", weather: weather{faults: faults{upstreamtest.Stall(blobs(first), part)}}, within: 5 * time.Minute},
		{name: "bodies always stall", weather: weather{faults: faults{upstreamtest.Stall(blobs(always), 1000)}}, says: "1m0s", within: 30 * time.Minute},
		{name: "the upstream falls silent once a request", weather: weather{faults: faults{upstreamtest.Silent(blobs(first))}}, within: 10 * time.Minute},
		{name: "the upstream is silent", weather: weather{faults: faults{upstreamtest.Silent(blobs(always))}}, says: "timeout awaiting response headers", within: time.Hour},
		{name: "ranges are not known", weather: weather{faults: faults{upstreamtest.CutAt(blobs(first), part), upstreamtest.NoRange(blobs(always))}}, within: time.Minute},
		{name: "ranges are not known, and bodies are always cut", weather: weather{faults: faults{upstreamtest.CutAt(blobs(always), part), upstreamtest.NoRange(blobs(always))}}, says: "the download broke off", within: time.Minute},
		{name: "ranges begin too late", weather: weather{faults: faults{upstreamtest.CutAt(blobs(first), part), upstreamtest.OtherRange(blobs(always), 1000)}}, within: time.Minute},
		{name: "ranges begin too early", weather: weather{faults: faults{upstreamtest.CutAt(blobs(first), part), upstreamtest.OtherRange(blobs(always), -1000)}}, within: time.Minute},
		{name: "ranges are refused", weather: weather{faults: faults{upstreamtest.CutAt(blobs(first), part), upstreamtest.RefusedRange(blobs(always))}}, within: time.Minute},
		{name: "redirects loop", weather: weather{faults: faults{upstreamtest.RedirectLoop(blobs(always))}}, says: "more than 10 redirects", within: time.Minute},
		{name: "429 once a request", weather: weather{faults: faults{upstreamtest.TooMany(upstreamtest.Strike{When: first})}}, may: "limits requests", within: 10 * time.Minute},
		{name: "429 once a request, with seconds", weather: weather{faults: faults{upstreamtest.TooMany(upstreamtest.Strike{When: first}, upstreamtest.RetryAfterSeconds(20*time.Second))}}, may: "limits requests", within: time.Hour},
		{name: "429 once a request, with a date", weather: weather{faults: faults{upstreamtest.TooMany(upstreamtest.Strike{When: first}, upstreamtest.RetryAfterDate(20*time.Second))}}, may: "limits requests", within: time.Hour},
		{name: "429 always", weather: weather{faults: faults{upstreamtest.TooMany(blobs(always))}}, may: "limits requests", within: time.Hour},
		{name: "503 once a request", weather: weather{faults: faults{upstreamtest.Unavailable(upstreamtest.Strike{When: first})}}, within: 10 * time.Minute},
		{name: "503 always", weather: weather{faults: faults{upstreamtest.Unavailable(blobs(always))}}, says: "503", within: 10 * time.Minute},
		{name: "DNS flaps", weather: weather{dns: upstreamtest.Every(3), faults: faults{upstreamtest.Hurried}}, may: "server misbehaving", within: 10 * time.Minute},
		{name: "DNS is down", weather: weather{dns: always}, says: "server misbehaving", within: 10 * time.Minute},
		{name: "bodies are shorter than their length", weather: weather{faults: faults{upstreamtest.LyingLength(ofLayer, 5000)}}, says: "wrong length", within: time.Minute},
		{name: "bodies are longer than their length", weather: weather{faults: faults{upstreamtest.LyingLength(ofLayer, -5000)}}, says: "wrong length", within: time.Minute},
		{name: "a layer is longer than its manifest says", weather: weather{faults: faults{upstreamtest.OtherLength(ofLayer, 5000)}}, says: "wrong length", within: time.Minute},
		{name: "a layer is shorter than its manifest says", weather: weather{faults: faults{upstreamtest.OtherLength(ofLayer, -5000)}}, says: "wrong length", within: time.Minute},
		{name: "manifests are longer than their index says", weather: weather{faults: faults{upstreamtest.OtherLength(upstreamtest.Manifests(always), 5)}}, says: "wrong digest", within: time.Minute},
		{name: "a layer has wrong bytes", weather: weather{faults: faults{upstreamtest.WrongBytes(ofLayer)}}, says: "blob " + layer.String(), within: time.Minute},
		{name: "the rest of a layer has wrong bytes", weather: weather{faults: faults{upstreamtest.CutAt(blobs(first), part), upstreamtest.WrongBytes(blobs(upstreamtest.Only(2)))}}, within: time.Minute},
		{name: "manifests have wrong bytes", weather: weather{faults: faults{upstreamtest.WrongBytes(upstreamtest.Manifests(always))}}, says: "wrong digest", within: time.Minute},
		{name: "a login page stands before blobs", weather: weather{faults: faults{upstreamtest.HTMLPage(blobs(always))}}, says: "web page", within: time.Minute},
		{name: "a login page stands before everything", weather: weather{faults: faults{upstreamtest.HTMLPage(upstreamtest.Strike{})}}, says: "web page", within: time.Minute},
		{name: "a login page stands before manifests", weather: weather{faults: faults{upstreamtest.HTMLPage(upstreamtest.Strike{Kind: sample.KindManifest})}}, says: "web page", within: time.Minute},
		{name: "pages of a list repeat", weather: weather{faults: faults{upstreamtest.RepeatingPages(1)}}, within: time.Minute},
		{name: "pages of a list come in another order", weather: weather{faults: faults{upstreamtest.ReorderedPages(1)}}, within: time.Minute},
		{name: "pages of a list run in a circle", weather: weather{faults: faults{upstreamtest.CirclingPages(1)}}, says: "circle", within: time.Minute},
		{name: "a list is cut", weather: weather{faults: faults{upstreamtest.CutAt(tags, 20)}}, says: "broke off", within: 5 * time.Minute},
		{name: "a layer is not to be had", weather: weather{faults: faults{upstreamtest.Vanishing(ofLayer)}}, says: "404", within: time.Minute},
		{name: "a layer's addresses at a CDN change", weather: weather{faults: faults{upstreamtest.ExpiringTokens(time.Hour)}, cdn: faults{upstreamtest.CutAt(blobs(first), part)}}, within: time.Minute},
		{name: "tokens die before bodies end", weather: weather{faults: faults{upstreamtest.ExpiringTokens(10 * time.Second), upstreamtest.CutAt(blobs(first), part), upstreamtest.Drip(blobs(first), 4<<10, time.Second)}}, within: 10 * time.Minute},
		{name: "a tag moves between HEAD and GET", weather: weather{faults: faults{upstreamtest.MovingTag(upstreamtest.Strike{Method: http.MethodGet, Name: "1.0"}, "1.1")}}, within: time.Minute},
		{name: "a manifest is not to be had", weather: weather{faults: faults{upstreamtest.Vanishing(upstreamtest.Manifests(always))}}, says: "404", within: time.Minute},
	}
}

// layer is one that both images have.
func (f *flawless) layer() digest.Digest {
	var largest digest.Digest
	for _, c := range f.images["1.0"].Image {
		if f.sizes[c.Digest] >= 100<<10 && f.sizes[c.Digest] >= f.sizes[largest] {
			largest = c.Digest
		}
	}
	return largest
}
