package catalog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/buckettest"
	"lastro/store/vault/bucket/folder"
	"lastro/store/vault/bucket/s3"
	"lastro/store/vault/layout"
)

func catalogOf(b bucket.Bucket) *Catalog {
	server, _ := b.(bucket.Server)
	return &Catalog{Name: "main", Bucket: b, Server: server, Log: slog.New(slog.DiscardHandler), Now: time.Now, Version: "1.2"}
}

func onServer(t *testing.T, h http.Handler) *Catalog {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	b, err := s3.Open(t.Context(), "b", "p", s3.Settings{Endpoint: srv.URL, Credentials: s3.Credentials{AccessKey: "k", SecretKey: "hush-hush"}}, s3.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return catalogOf(b)
}

func keys(t *testing.T, b bucket.Reader) (list []string) {
	t.Helper()
	for info, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, info.Key)
	}
	return list
}

func TestInitMakesAVaultAndRecordsWhatItsPlaceDoes(t *testing.T) {
	v := catalogOf(folder.Open(filepath.Join(t.TempDir(), "vault"), folder.Options{}))
	var id string
	for _, made := range []bool{true, false} {
		p, err := v.Init(t.Context())
		if err != nil || p.Made != made || p.Left != 0 || p.Config.Mode() != layout.Strict || id != "" && p.Config.ID != id {
			t.Fatalf("got %+v, %v", p, err)
		}
		id = p.Config.ID
		c, err := v.Config(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p.Config, c); diff != "" {
			t.Error(diff)
		}
	}
	want := []string{layout.KeyLayout, layout.KeyHead, layout.KeyConfig}
	if got := keys(t, v.Bucket); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAVaultWhosePlaceNobodyTriedIsTriedByTheNextBackup(t *testing.T) {
	v := catalogOf(folder.Open(filepath.Join(t.TempDir(), "vault"), folder.Options{}))
	p, err := v.Init(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := fmt.Sprintf(`{"format":1,"id":%q,"created":"2026-01-02T03:04:05Z","proven":{"swap":true}}`, p.Config.ID)
	if err := v.Bucket.Replace(t.Context(), layout.KeyConfig, bucket.Bytes([]byte(old))); err != nil {
		t.Fatal(err)
	}
	if c, err := v.Config(t.Context()); err != nil || c.Mode() != layout.SingleWriter {
		t.Errorf("before: got %+v, %v", c, err)
	}
	c, err := v.ConfigOrNew(t.Context())
	if err != nil || c.Mode() != layout.Strict || c.Created.Year() != 2026 || c.ID != p.Config.ID {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestWhatWasFoundCountsForAMonth(t *testing.T) {
	server := &buckettest.Server{}
	v := onServer(t, server)
	start := time.Now()
	if _, err := v.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.IgnoreMatch, server.IgnoreNoneMatch = true, true // it was changed
	for _, after := range []struct {
		days int
		want layout.Mode
	}{{0, layout.Strict}, {29, layout.Strict}, {31, layout.SingleWriter}} {
		server.Ahead = time.Duration(after.days) * 24 * time.Hour
		v.Now = func() time.Time { return start.Add(server.Ahead) }
		if c, err := v.ConfigOrNew(t.Context()); err != nil || c.Mode() != after.want {
			t.Errorf("after %d days: got %s, %v; want %s", after.days, c.Mode(), err, after.want)
		}
	}
}

// answers refuses everything the same way.
func answers(status int, code string) http.Handler {
	return &buckettest.Server{Seen: func(*http.Request) (int, string) { return status, code }}
}

func TestWhatCannotBeAVaultIsLeftAsItWas(t *testing.T) {
	holding := func(key, text string) *buckettest.Server {
		s := &buckettest.Server{}
		if _, err := onServer(t, s).Bucket.Put(t.Context(), key, bucket.Bytes([]byte(text))); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		name   string
		server http.Handler
		want   string
	}{
		{"wrong credentials", answers(403, "SignatureDoesNotMatch"), "check s3.credentials"},
		{"a missing bucket", answers(404, "NoSuchBucket"), "does not exist: create it"},
		{"a clock that the server refuses", answers(403, "RequestTimeTooSkewed"), "set the clock"},
		{"a clock that the server does not look at", &buckettest.Server{Ahead: -time.Hour}, "set the clock; nothing was changed"},
		{"a bucket in another region", answers(301, "PermanentRedirect"), "set s3.region"},
		{"something else at the address", holding("photos/cat.jpg", "miaow"), "not empty and not a vault: give it a place of its own (it holds photos/cat.jpg)"},
		{"a newer format", holding(layout.KeyConfig, `{"format":99}`), "written by a newer version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := onServer(t, c.server)
			before := c.server.(*buckettest.Server).Keys()
			_, initErr := v.Init(t.Context())
			_, backupErr := v.ConfigOrNew(t.Context())
			for what, err := range map[string]error{"init": initErr, "backup": backupErr} {
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
					t.Errorf("%s: got %v, want %q", what, err, c.want)
				}
			}
			if after := c.server.(*buckettest.Server).Keys(); !slices.Equal(before, after) {
				t.Errorf("got %q, had %q", after, before)
			}
		})
	}
}

// between lets another writer come in after a read of the head.
type between struct {
	bucket.Bucket
	after int // the reads that pass before it comes
	other func(context.Context)
	mu    sync.Mutex
}

func (b *between) Load(ctx context.Context, key string) (bucket.Record, error) {
	rec, err := b.Bucket.Load(ctx, key)
	b.mu.Lock()
	defer b.mu.Unlock()
	if key == layout.KeyHead {
		if b.after--; b.after == 0 {
			b.other(ctx)
		}
	}
	return rec, err
}

// TestWithoutConditionsACommitLooksAgain lets a second writer commit between the reads
// of a first one, on a server that ignores conditions.
func TestWithoutConditionsACommitLooksAgain(t *testing.T) {
	for reads := 1; reads <= 2; reads++ {
		v := onServer(t, &buckettest.Server{IgnoreMatch: true, IgnoreNoneMatch: true})
		p, err := v.Init(t.Context())
		if err != nil || p.Config.Mode() != layout.SingleWriter {
			t.Fatalf("got %+v, %v", p, err)
		}
		add := func(v *Catalog, name string) func(context.Context) {
			return func(ctx context.Context) {
				err := v.ChangeHead(ctx, p.Config, func(h *layout.Head) error {
					if d := digest.FromString(name); !slices.Contains(h.Damaged, d) {
						h.Damaged = append(h.Damaged, d)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		}
		first := catalogOf(&between{Bucket: v.Bucket, after: reads, other: add(v, "second")})
		add(first, "first")(t.Context())
		h, err := v.Heads(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// After the second read the first one writes over what came in between: that
		// moment is why there may be one writer only. Its own change is never lost.
		if want := 3 - reads; len(h.Damaged) != want || h.Damaged[len(h.Damaged)-1] != digest.FromString("first") {
			t.Errorf("after %d reads: got %v, want %d changes", reads, h.Damaged, want)
		}
	}
}

// overwritten lets another writer write over the first Swap, from the state before.
type overwritten struct {
	bucket.Bucket
	once sync.Once
}

func (b *overwritten) Swap(ctx context.Context, key, etag string, data []byte) (string, error) {
	before, err := b.Load(ctx, key)
	if err != nil {
		return "", err
	}
	etag, err = b.Bucket.Swap(ctx, key, etag, data)
	b.once.Do(func() { err = b.Replace(ctx, key, bucket.Bytes(before.Data)) })
	return etag, err
}

func TestWithoutConditionsACommitThatWasOverwrittenIsMadeAgain(t *testing.T) {
	v := onServer(t, &buckettest.Server{IgnoreMatch: true, IgnoreNoneMatch: true})
	p, err := v.Init(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	read := []time.Time{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if err := catalogOf(&overwritten{Bucket: v.Bucket}).ChangeHead(t.Context(), p.Config, func(h *layout.Head) error { h.Read = read; return nil }); err != nil {
		t.Fatal(err)
	}
	h, err := v.Heads(t.Context())
	if diff := cmp.Diff(read, h.Read); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestOnAServerWithoutConditionsAVaultWorks(t *testing.T) {
	server := &buckettest.Server{RefuseConditions: true, Racy: true}
	v := onServer(t, server)
	p, err := v.Init(t.Context())
	if err != nil || p.Config.Mode() != layout.SingleWriter || p.Config.Proven.Conditions {
		t.Fatalf("got %+v, %v", p, err)
	}
	again := catalogOf(v.Bucket) // what it needs is known from the vault
	again.Server.Adapt(bucket.Lacks{})
	if _, err := again.ConfigOrNew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := again.ChangeHead(t.Context(), p.Config, func(h *layout.Head) error { h.Read = []time.Time{time.Now()}; return nil }); err != nil {
		t.Error(err)
	}
	if _, err := again.Bucket.Put(t.Context(), "blobs/a", bucket.Bytes([]byte("x"))); err != nil {
		t.Error(err)
	}
	r, _, err := again.Bucket.Get(t.Context(), "blobs/a", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); string(data) != "x" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
}
