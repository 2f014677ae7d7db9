package vault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

func TestARestoreLeavesAloneWhatMovedHere(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	publish(t, st, "r", "moved", plain("old"))
	publish(t, st, "r", "removed", plain("kept"))
	backup(t, v, st)
	publish(t, st, "r", "moved", plain("new"))
	publish(t, st, "r", "added", plain("added"))
	if err := st.Untag(t.Context(), "r", "removed", ledger.Event{By: "test", Reason: "by hand"}); err != nil {
		t.Fatal(err)
	}
	r := restore(t, v, st, vault.RestoreOptions{})
	if len(r.Failed) != 1 || r.Failed[0].Tag != "moved" || !strings.Contains(r.Failed[0].Error, "force") {
		t.Errorf("got %+v, want the moved tag listed with the way out", r.Failed)
	}
	want := map[string]digest.Digest{"r:moved": plain("new").root.desc.Digest, "r:removed": plain("kept").root.desc.Digest, "r:added": plain("added").root.desc.Digest}
	if diff := cmp.Diff(want, stateOf(t, st).Tags); diff != "" {
		t.Error(diff)
	}
	r = restore(t, v, st, vault.RestoreOptions{Force: true})
	want["r:moved"] = plain("old").root.desc.Digest
	if diff := cmp.Diff(want, stateOf(t, st).Tags); diff != "" || len(r.Failed) > 0 {
		t.Error(diff, r.Failed)
	}
}

func TestARestorePutsForwardATagThatIsOlderHere(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	publish(t, st, "r", "1", plain("old"))
	first := backup(t, v, st)
	publish(t, st, "r", "1", plain("new"))
	backup(t, v, st)
	back := newStore(t, c)
	restore(t, v, back, vault.RestoreOptions{Snapshot: first.Snapshot})
	if r := restore(t, v, back, vault.RestoreOptions{}); len(r.Failed) > 0 {
		t.Errorf("got %+v", r.Failed)
	}
	if got := stateOf(t, back).Tags["r:1"]; got != plain("new").root.desc.Digest {
		t.Errorf("got %s, want what the newer snapshot has", got)
	}
}

func TestPatternsSelect(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	sample(t, st)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	backup(t, v, st)
	sig := "docker.io/library/b:" + strings.Replace(string(index("b-s390x", plain("b-amd64", sharedLayer()), plain("b-arm64")).root.desc.Digest), ":", "-", 1) + ".sig"
	for _, x := range []struct {
		name     string
		patterns []string
		want     []string
	}{
		{name: "a repository", patterns: []string{"docker.io/library/a"}, want: []string{"docker.io/library/a:1", "docker.io/library/a:2"}},
		{name: "a short name", patterns: []string{"a:2"}, want: []string{"docker.io/library/a:2"}},
		{name: "an image with what is attached to it", patterns: []string{"docker.io/library/b:multi"}, want: []string{"docker.io/library/b:multi", sig}},
		{name: "a glob", patterns: []string{"ghcr.io/**"}, want: []string{"ghcr.io/c:windows"}},
		{name: "a tag by a glob", patterns: []string{"docker.io/library/a:[!1]"}, want: []string{"docker.io/library/a:2"}},
		{name: "all repositories, one tag", patterns: []string{"**:windows"}, want: []string{"ghcr.io/c:windows"}},
		{name: "two of them", patterns: []string{"a:1", "ghcr.io/c"}, want: []string{"docker.io/library/a:1", "ghcr.io/c:windows"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			back := newStore(t, c)
			r := restore(t, v, back, vault.RestoreOptions{Patterns: x.patterns})
			var got []string
			s := stateOf(t, back)
			for name := range s.Tags {
				got = append(got, name)
				if len(s.History[name]) == 0 {
					t.Errorf("%s has no history", name)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(x.want, got); diff != "" || len(r.Failed) > 0 {
				t.Error(diff, r.Failed)
			}
		})
	}
}

func TestADigestIsRestoredByItself(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	inner := plain("amd64")
	multi := index("s390x", inner, plain("arm64"))
	top := index("", multi)
	sig := signature(multi.root, "multi")
	publish(t, st, "a/b", "1", top.with(sig))
	publish(t, st, "c", "1", plain("other"))
	publish(t, st, "c", "1", plain("moved"))
	backup(t, v, st)
	name := func(repo string, img image) string { return repo + "@" + img.root.desc.Digest.String() }
	for _, x := range []struct {
		name    string
		pattern string
		want    []string
	}{
		{"one under a tag, with all below it", name("a/b", top), []string{name("a/b", top), name("a/b", multi), name("a/b", inner), name("a/b", plain("arm64")), name("a/b", sig)}},
		{"one inside of an image, with what is attached to it", name("a/b", multi), []string{name("a/b", multi), name("a/b", inner), name("a/b", plain("arm64")), name("a/b", sig)}},
		{"one inside of one inside", name("a/b", inner), []string{name("a/b", inner)}},
		{"one that a tag left", name("c", plain("other")), []string{name("c", plain("other"))}},
		{"in whatever repository", plain("moved").root.desc.Digest.String(), []string{name("c", plain("moved"))}},
		{"by a pattern, with a tag that is of no account", "?:3@" + plain("moved").root.desc.Digest.String(), []string{name("c", plain("moved"))}},
	} {
		t.Run(x.name, func(t *testing.T) {
			back := newStore(t, c)
			plan, err := v.PlanRestore(t.Context(), back, vault.RestoreOptions{Patterns: []string{x.pattern}})
			r := restore(t, v, back, vault.RestoreOptions{Patterns: []string{x.pattern}})
			got := stateOf(t, back)
			if len(got.Tags) > 0 || len(r.Failed) > 0 || r.Images != 1 || err != nil || plan.Blobs != r.Blobs || plan.Requests != r.Requests {
				t.Errorf("got tags %v and %+v, planned %d blobs in %d requests, %v", got.Tags, r, plan.Blobs, plan.Requests, err)
			}
			slices.Sort(x.want)
			if diff := cmp.Diff(x.want, slices.Sorted(maps.Keys(got.Manifests))); diff != "" {
				t.Error(diff)
			}
			path := t.TempDir()
			copyTo(t, v, path, vault.RestoreOptions{Patterns: []string{x.pattern}})
			if _, there := layoutNames(t, path)[x.want[0][strings.Index(x.want[0], "@")+1:]]; !there && len(x.want) == 1 {
				t.Error("a copy has it not")
			}
		})
	}
}

func TestAPatternThatMeansNothingIsNamed(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	sample(t, st)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	backup(t, v, st)
	absent := digest.FromString("nothing").String()
	for _, x := range []struct {
		name     string
		patterns []string
		failed   []string
		err      string
	}{
		{name: "all of them", patterns: []string{"a:9", "nothing"}, err: "is meant by a:9, nothing: see"},
		{name: "a digest that is not there", patterns: []string{"docker.io/library/a@" + absent}, err: absent},
		{name: "a digest that is none", patterns: []string{"a@sha256:12"}, err: `"a@sha256:12"`},
		{name: "one beside others", patterns: []string{"a:1", "a:9", "x/*", absent}, failed: []string{"a:9", "x/*", absent}},
		{name: "none", patterns: []string{"a", "b:multi"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			back := newStore(t, c)
			_, err := v.PlanRestore(t.Context(), back, vault.RestoreOptions{Patterns: x.patterns})
			r, again := v.Restore(t.Context(), back, vault.RestoreOptions{Patterns: x.patterns}, nil)
			for _, err := range []error{err, again} {
				if x.err == "" && err != nil || x.err != "" && (err == nil || !strings.Contains(err.Error(), x.err)) {
					t.Errorf("got %v, want %q", err, x.err)
				}
			}
			var failed []string
			for _, f := range r.Failed {
				failed = append(failed, f.Repo)
			}
			if diff := cmp.Diff(x.failed, failed); diff != "" {
				t.Error(diff)
			}
			if x.err != "" && len(stateOf(t, back).Manifests) > 0 {
				t.Error("something was restored")
			}
		})
	}
}

// TestARestoreOfAnEarlierTimeTakesTheNewestSnapshotOfThen has a snapshot before and
// after each of two changes.
func TestARestoreOfAnEarlierTimeTakesTheNewestSnapshotOfThen(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	var ids []string
	var times []time.Time
	for i := range 3 {
		publish(t, st, "r", "1", plain(fmt.Sprint(i)))
		ids = append(ids, backup(t, v, st).Snapshot)
		list, err := v.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, list.Snapshots[i].Time)
	}
	for i, at := range times {
		for name, at := range map[string]time.Time{"at that very time": at, "shortly after": at.Add(time.Second)} {
			back := newStore(t, c)
			r := restore(t, v, back, vault.RestoreOptions{AsOf: at})
			if got := stateOf(t, back).Tags["r:1"]; r.Snapshot != ids[i] || got != plain(fmt.Sprint(i)).root.desc.Digest {
				t.Errorf("%s: got snapshot %s and %s, want %s", name, r.Snapshot, got, ids[i])
			}
		}
	}
	if _, err := v.Restore(t.Context(), newStore(t, c), vault.RestoreOptions{AsOf: times[0].Add(-time.Second)}, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "backup list") {
		t.Errorf("got %v, want that there is none, and where they are listed", err)
	}
}

// TestARestoreThatIsStoppedAnywhereGoesOn ends the context at each step that
// changes the disk, opens the store again and restores again.
func TestARestoreThatIsStoppedAnywhereGoesOn(t *testing.T) {
	t.Parallel()
	c := &clock{}
	st := newStore(t, c)
	sample(t, st)
	want := stateOf(t, st)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	backup(t, v, st)
	stride := int64(71)
	if *long {
		stride = 1
	}
	for k, done := int64(1), false; !done; k += stride {
		ctx, cancel := context.WithCancel(t.Context())
		var steps atomic.Int64
		data := t.TempDir()
		back := openStore(t, data, c, func(string, string) {
			if steps.Add(1) == k {
				cancel()
			}
		})
		_, err := v.Restore(ctx, back, vault.RestoreOptions{}, nil)
		done = err == nil && steps.Load() < k
		cancel()
		stateOf(t, back) // what is visible is whole
		if err := back.Close(); err != nil {
			t.Fatal(err)
		}
		back = openStore(t, data, c, nil)
		restore(t, v, back, vault.RestoreOptions{})
		if diff := cmp.Diff(want, stateOf(t, back)); diff != "" {
			t.Errorf("stopped at step %d: %s", k, diff)
		}
		if err := back.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// unreachableBucket lets some reads pass, then none.
type unreachableBucket struct {
	bucket.Bucket
	reads *atomic.Int64
}

func (b unreachableBucket) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	if b.reads.Add(-1) < 0 {
		return nil, bucket.Info{}, errCut
	}
	return b.Bucket.Get(ctx, key, offset)
}

func TestAVaultThatGoesAwayIsAnErrorAndNotABadImage(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	sample(t, st)
	backup(t, openVault(t, dir, c, nil), st)
	for reads := range int64(30) {
		var left atomic.Int64
		left.Store(reads)
		v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return unreachableBucket{b, &left} })
		back := openStore(t, t.TempDir(), c, nil)
		if _, err := v.Restore(t.Context(), back, vault.RestoreOptions{}, nil); !errors.Is(err, errCut) {
			t.Errorf("after %d reads: got %v, want that the vault is away", reads, err)
		}
		stateOf(t, back)
		_ = back.Close()
		left.Store(reads)
		if _, err := v.Verify(t.Context(), "", nil); !errors.Is(err, errCut) {
			t.Errorf("after %d reads: verify got %v", reads, err)
		}
	}
}

// TestAHostileVaultHurtsNobody rewrites a snapshot to what nobody would write.
func TestAHostileVaultHurtsNobody(t *testing.T) {
	self := plain("good").root.desc
	for name, root := range map[string]func(put func(any) ocispec.Descriptor) ocispec.Descriptor{
		"a repository outside": func(put func(any) ocispec.Descriptor) ocispec.Descriptor {
			return named(put, "../../../outside", self, "1")
		},
		"a tag outside": func(put func(any) ocispec.Descriptor) ocispec.Descriptor {
			return named(put, "r", self, "../../../outside")
		},
		"a digest of another kind": func(put func(any) ocispec.Descriptor) ocispec.Descriptor {
			other := self
			other.Digest = digest.SHA384.FromString("x")
			return named(put, "r", other, "1")
		},
		"a size beyond all": func(put func(any) ocispec.Descriptor) ocispec.Descriptor {
			other := self
			other.Size = math.MaxInt64
			return named(put, "r", other, "1")
		},
		"a negative size": func(put func(any) ocispec.Descriptor) ocispec.Descriptor {
			other := self
			other.Size = -1
			return named(put, "r", other, "1")
		},
		"a layer beyond all": func(put func(any) ocispec.Descriptor) ocispec.Descriptor {
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: self}
			m.Config.Size = math.MaxInt64
			return named(put, "r", put(m), "1")
		},
		"an index as its own repository": func(put func(any) ocispec.Descriptor) ocispec.Descriptor {
			inner := named(put, "r", self, "1")
			return named(put, "r", inner, "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
			publish(t, st, "r", "good", plain("good"))
			v := openVault(t, dir, c, nil)
			backup(t, v, st)
			rewrite(t, dir, root)
			data := filepath.Join(t.TempDir(), "a", "b", "data")
			back := openStore(t, data, c, nil)
			defer back.Close()
			r, err := v.Restore(t.Context(), back, vault.RestoreOptions{}, nil)
			if err == nil && len(r.Failed) == 0 && name != "an index as its own repository" {
				t.Errorf("got %+v, want a refusal", r)
			}
			if _, err := v.Verify(t.Context(), "", nil); err != nil {
				t.Error(err)
			}
			for _, key := range files(t, filepath.Dir(filepath.Dir(data)), ".") {
				if !strings.HasPrefix(key, filepath.Join("b", "data")) || strings.Contains(key, "outside") {
					t.Errorf("the restore wrote %s", key)
				}
			}
			stateOf(t, back)
		})
	}
}

// named is a root over one repository of one image.
func named(put func(any) ocispec.Descriptor, repo string, img ocispec.Descriptor, tag string) ocispec.Descriptor {
	img.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	one := put(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{img}})
	one.MediaType = ocispec.MediaTypeImageIndex
	one.Annotations = map[string]string{layout.AnnotationRepository: repo}
	root := put(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{one}})
	root.MediaType = ocispec.MediaTypeImageIndex
	return root
}

// rewrite makes the newest snapshot of a vault another one, with all digests right.
func rewrite(t *testing.T, dir string, root func(put func(any) ocispec.Descriptor) ocispec.Descriptor) {
	t.Helper()
	write := func(key string, v any) []byte {
		raw, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, key), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var head layout.Head
	readJSON(t, filepath.Join(dir, layout.KeyHead), &head)
	e := &head.Snapshots[len(head.Snapshots)-1]
	var s layout.Snapshot
	readJSON(t, filepath.Join(dir, e.Record), &s)
	s.Root = root(func(v any) ocispec.Descriptor {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(raw)
		if err := os.WriteFile(filepath.Join(dir, layout.BlobKey(d)), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(raw))}
	})
	e.Digest, e.Root = digest.FromBytes(write(e.Record, s)), s.Root.Digest
	write(layout.KeyHead, head)
}
