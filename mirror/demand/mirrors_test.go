package demand

import (
	"bytes"
	"testing"
	"testing/synctest"

	"lastro/mirror"
	"lastro/mirror/sample"
	"lastro/mirror/upstream"
	"lastro/mirror/upstream/upstreamtest"
	"lastro/store/serve"
	"lastro/store/storetest"
)

// TestAMissIsAnsweredByTheMirrorThatHasIt has a client pull an image whose upstream
// fails, and the upstream's first mirror as well.
func TestAMissIsAnsweredByTheMirrorThatHasIt(t *testing.T) {
	registry, err := sample.Start(sample.Options{NoReferrers: true})
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	all, err := registry.Fill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var image sample.Expect
	for _, e := range all {
		if e.Repo == "library/tools" && e.Tag == "1" {
			image = e
		}
	}
	for _, c := range []struct {
		name            string
		upstream, first upstreamtest.Fault
		blobsOnly       bool // the mirror is asked for
	}{
		{"the upstream lost its blobs, and the mirror is down", upstreamtest.Vanishing(upstreamtest.Blobs(nil)), upstreamtest.Unavailable(upstreamtest.Strike{}), true},
		{"the upstream breaks off, and the mirror has nothing", upstreamtest.CutAt(upstreamtest.Blobs(nil), 10), upstreamtest.Vanishing(upstreamtest.Strike{}), true},
		{"both are down", upstreamtest.Unavailable(upstreamtest.Strike{}), upstreamtest.Unavailable(upstreamtest.Strike{}), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var net upstreamtest.Net
				var second upstreamtest.Tally
				net.Serve("reg.test", upstreamtest.With(registry.Handler(), c.upstream))
				net.Serve("first.test", upstreamtest.With(registry.Handler(), c.first))
				net.Serve("second.test", second.Count(registry.Handler()))
				t.Cleanup(net.Close)
				far, err := upstream.Open("reg.test", upstream.Settings{
					PlainHTTP: true, Credentials: upstream.Anonymous(), Mirrors: []upstream.Mirror{{URL: "http://first.test"}, {URL: "http://second.test"}},
				}, upstream.Options{Dial: net.Dial})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(far.Close)
				b := newBench(t, newHub(), Options{}, mirror.Rule{Name: "all", From: "reg.test/**", OnDemand: true})
				b.engine.Source = func(string) (mirror.Source, error) { return far, nil }
				h, err := serve.New(b.store, serve.Options{Demand: b.Demand})
				if err != nil {
					t.Fatal(err)
				}
				local := "/v2/reg.test/library/tools"
				if w := storetest.Ask(h, "GET", local+"/manifests/1"); w.Code != 200 || w.Header().Get("Docker-Content-Digest") != image.Digest.String() {
					t.Fatalf("the manifest: %d %s", w.Code, w.Body)
				}
				for _, content := range image.Image {
					kind := "/blobs/"
					if content.Manifest {
						kind = "/manifests/"
					}
					if w := storetest.Ask(h, "GET", local+kind+content.Digest.String()); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), content.Raw) {
						t.Errorf("%s: %d", content.Digest, w.Code)
					}
				}
				b.settle(t)
				if at := b.at(t, "reg.test/library/tools", "1"); at != image.Digest {
					t.Errorf("the tag is at %q", at)
				}
				asked := second.Requests()
				if n := asked.Count("GET", sample.KindBlob); n == 0 {
					t.Error("the second mirror was asked for no blob")
				}
				if n := asked.Count("GET", sample.KindManifest); (n == 0) != c.blobsOnly {
					t.Errorf("the second mirror was asked for %d manifests", n)
				}
			})
		})
	}
}
