package probe

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/buckettest"
	"lastro/store/vault/bucket/folder"
	"lastro/store/vault/bucket/s3"
	"lastro/store/vault/layout"
)

func open(t *testing.T, fake *buckettest.Server) bucket.Bucket {
	t.Helper()
	return openWith(t, fake, s3.Settings{})
}

func openWith(t *testing.T, fake *buckettest.Server, s s3.Settings) bucket.Bucket {
	t.Helper()
	srv := httptest.NewServer(fake)
	t.Cleanup(srv.Close)
	s.Endpoint, s.Credentials = srv.URL, s3.Credentials{AccessKey: "k", SecretKey: "s"}
	b, err := s3.Open(t.Context(), "b", "p", s, s3.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func run16(t *testing.T, b bucket.Bucket) Result {
	t.Helper()
	r, err := Run(t.Context(), b, Options{Server: b.(bucket.Server), Now: time.Now(), Writers: 16, Keys: 4, Version: "1.2"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAPlaceThatLiesIsFoundOut(t *testing.T) {
	all := layout.Proven{Conditions: true, PutOnce: true, Swap: true, Coherent: true, Checksum: true, Delete: true}
	without := func(change func(*layout.Proven)) layout.Proven {
		p := all
		change(&p)
		return p
	}
	for _, c := range []struct {
		name   string
		server *buckettest.Server
		want   layout.Proven
		mode   layout.Mode
	}{
		{"an honest one is strict", &buckettest.Server{}, all, layout.Strict},
		{"one that ignores If-None-Match has a single writer", &buckettest.Server{IgnoreNoneMatch: true}, without(func(p *layout.Proven) { p.PutOnce, p.Swap = false, false }), layout.SingleWriter},
		{"one that ignores If-Match has a single writer", &buckettest.Server{IgnoreMatch: true}, without(func(p *layout.Proven) { p.Swap = false }), layout.SingleWriter},
		{"one that looks and then writes loses the race", &buckettest.Server{Racy: true}, without(func(p *layout.Proven) { p.PutOnce, p.Swap = false, false }), layout.SingleWriter},
		{"one that says no and writes has a single writer", &buckettest.Server{StoreRefused: true}, without(func(p *layout.Proven) { p.PutOnce, p.Swap = false, false }), layout.SingleWriter},
		{"one that refuses conditions has a single writer", &buckettest.Server{RefuseConditions: true, Racy: true}, without(func(p *layout.Proven) { p.Conditions, p.PutOnce, p.Swap = false, false, false }), layout.SingleWriter},
		{"one that stores wrong bytes is still strict", &buckettest.Server{IgnoreChecksum: true}, without(func(p *layout.Proven) { p.Checksum = false }), layout.Strict},
		{"one that lists late has a single writer", &buckettest.Server{HideNew: true}, without(func(p *layout.Proven) { p.Coherent, p.Delete = false, false }), layout.SingleWriter},
		{"one that keeps what it says it removed is found out", &buckettest.Server{KeepRemoved: true}, without(func(p *layout.Proven) { p.Delete = false }), layout.Strict},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run16(t, open(t, c.server))
			if diff := cmp.Diff(c.want, r.Proven, cmpopts.IgnoreFields(layout.Proven{}, "When", "Version")); diff != "" {
				t.Errorf("%s\n%+v", diff, r.Tried)
			}
			if r.Proven.When.IsZero() || r.Proven.Version != "1.2" {
				t.Errorf("got %+v, want when and by whom", r.Proven)
			}
			if got := (layout.Config{Proven: r.Proven}).Mode(); got != c.mode {
				t.Errorf("got mode %q, want %q", got, c.mode)
			}
			if left := c.server.Keys(); len(left) > 0 && !c.server.HideNew && !c.server.KeepRemoved {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestAServerThatLearntConditionsIsTriedWithThem(t *testing.T) {
	server := &buckettest.Server{RefuseConditions: true, Racy: true}
	b := open(t, server)
	run16(t, b)
	if _, err := b.Put(t.Context(), "k", bucket.Bytes([]byte("x"))); err != nil {
		t.Errorf("without conditions: %v", err)
	}
	server.RefuseConditions, server.Racy = false, false
	if r := run16(t, b); !r.Proven.Conditions || !r.Proven.Swap {
		t.Errorf("got %+v", r.Tried)
	}
}

func TestWhatTheSettingsAskIsLookedAt(t *testing.T) {
	class, sse := s3.Settings{StorageClass: "STANDARD_IA"}, s3.Settings{SSE: s3.SSE{AES256: true}}
	for _, c := range []struct {
		name   string
		server *buckettest.Server
		set    s3.Settings
		tried  string
		holds  bool
		err    string
	}{
		{"a class that is kept to", &buckettest.Server{}, class, "s3.storage-class", true, ""},
		{"a class that is ignored costs more, and no data", &buckettest.Server{IgnoreAsked: true}, class, "s3.storage-class", false, ""},
		{"encryption that is done", &buckettest.Server{}, sse, "s3.sse", true, ""},
		{"encryption without conditions", &buckettest.Server{RefuseConditions: true}, sse, "s3.sse", true, ""},
		{"encryption that is ignored is refused", &buckettest.Server{IgnoreAsked: true}, sse, "s3.sse", false, `s3.sse asks for AES256, and the server stores with ""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := openWith(t, c.server, c.set)
			r, err := Run(t.Context(), b, Options{Server: b.(bucket.Server), Now: time.Now()})
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, want %q", err, c.err)
			}
			if i := slices.IndexFunc(r.Tried, func(tried Tried) bool { return tried.Name == c.tried }); i < 0 || r.Tried[i].Holds != c.holds {
				t.Errorf("got %+v, want %s: %v", r.Tried, c.tried, c.holds)
			}
			if left := c.server.Keys(); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestClocksThatDifferAreSeen(t *testing.T) {
	for _, ahead := range []time.Duration{26 * time.Hour, -26 * time.Hour} {
		r := run16(t, open(t, &buckettest.Server{Ahead: ahead}))
		if (r.Ahead - ahead).Abs() > time.Minute {
			t.Errorf("got %s ahead, want %s", r.Ahead, ahead)
		}
	}
}

func TestCredentialsThatMayNotDeleteAreNoError(t *testing.T) {
	server := &buckettest.Server{}
	server.Seen = func(r *http.Request) (int, string) {
		if r.URL.Query().Has("delete") {
			return http.StatusForbidden, "AccessDenied"
		}
		return 0, ""
	}
	b := open(t, server)
	r := run16(t, b)
	if r.Proven.Delete || r.Left == 0 || r.Why == nil {
		t.Errorf("got %+v, want what is left and why", r)
	}
}

func TestAFolderIsStrict(t *testing.T) {
	b := folder.Open(t.TempDir(), folder.Options{})
	for _, writers := range []int{0, 16} {
		r, err := Run(t.Context(), b, Options{Now: time.Now(), Writers: writers, Keys: 2})
		if err != nil || (layout.Config{Proven: r.Proven}).Mode() != layout.Strict {
			t.Errorf("%d writers: got %+v, %v", writers, r, err)
		}
	}
	for info, err := range b.List(t.Context(), "") {
		t.Errorf("left behind: %v, %v", info, err)
	}
}

func TestAProbeRemovesWhatAnotherLeftLongAgo(t *testing.T) {
	b := folder.Open(t.TempDir(), folder.Options{})
	for _, key := range []string{"vault/probe/old/once/0", "vault/HEAD.json", "blobs/a"} {
		if _, err := b.Put(t.Context(), key, bucket.Bytes([]byte(key))); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	for _, now := range []time.Time{time.Now(), time.Now().Add(2 * stale)} {
		if _, err := Run(t.Context(), b, Options{Now: now}); err != nil {
			t.Fatal(err)
		}
		left = append(left, "then:")
		for info, err := range b.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			left = append(left, info.Key)
		}
	}
	want := "then: blobs/a vault/HEAD.json vault/probe/old/once/0 then: blobs/a vault/HEAD.json"
	if got := strings.Join(left, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
