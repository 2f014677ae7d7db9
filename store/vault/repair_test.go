package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// anotherVault is a vault as a source.
type anotherVault struct{ *vault.Vault }

func (a anotherVault) String() string { return "vault " + a.Name }

func (a anotherVault) Fetch(ctx context.Context, _ []string, c vault.RepairContent) (io.ReadCloser, error) {
	body, _, err := a.OpenBlob(ctx, c.Digest, 0)
	return body, err
}

// giving is a source that gives what it is told to.
type giving struct {
	name  string
	give  func() (io.Reader, error)
	asked *atomic.Int64
	repos *[]string
}

func (g giving) String() string { return g.name }

func (g giving) Fetch(_ context.Context, repos []string, _ vault.RepairContent) (io.ReadCloser, error) {
	g.asked.Add(1)
	*g.repos = repos
	r, err := g.give()
	if err != nil {
		return nil, err
	}
	return io.NopCloser(r), nil
}

func gives(name string, raw []byte) giving {
	return giving{name, func() (io.Reader, error) { return bytes.NewReader(raw), nil }, new(atomic.Int64), new([]string)}
}

func fails(name string, err error) giving {
	return giving{name, func() (io.Reader, error) { return nil, err }, new(atomic.Int64), new([]string)}
}

func repaired(t tester, v *vault.Vault, o vault.VerifyOptions) vault.VerifiedAll {
	t.Helper()
	all, err := v.VerifyAll(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestAnyDamageIsRepairedByAVerification damages the blobs of a vault in turn: what the
// store has comes from there, the history from another vault.
func TestAnyDamageIsRepairedByAVerification(t *testing.T) {
	t.Parallel()
	for name, damage := range damages() {
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
			sample(t, st)
			v := openVault(t, dir, c, nil)
			backup(t, v, st)
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			o := vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: st, Others: []vault.RepairSource{anotherVault{openVault(t, copied, c, nil)}}, Dir: t.TempDir()}}
			for i, key := range files(t, dir, "blobs") {
				if !*long && i%7 != len(name)%7 {
					continue
				}
				path := filepath.Join(dir, key)
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				p := repaired(t, v, o).Snapshots[0].Problems
				if len(p) != 1 || !p[0].Repaired || p[0].Next != "" {
					t.Fatalf("%s: got %+v, want it repaired", key, p)
				}
				if from := p[0].Source; from != "local store" && (from != "vault main" || inStore(t, st, key)) {
					t.Errorf("%s: it was repaired from %s", key, from)
				}
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) {
					t.Fatalf("%s was not repaired: %v", key, err)
				}
				if list, err := v.List(t.Context()); err != nil || list.Snapshots[0].Verified == nil {
					t.Errorf("%s: the snapshot does not count as verified (%v)", key, err)
				}
				if d := headOf(t, dir).Damaged; len(d) > 0 {
					t.Errorf("%s: %v is to be repaired", key, d)
				}
				wantSound(t, v, "")
			}
			if left, err := os.ReadDir(o.Repair.Dir); err != nil || len(left) > 0 {
				t.Errorf("%v are left, %v", left, err)
			}
		})
	}
}

func inStore(t *testing.T, st *store.Store, key string) bool {
	t.Helper()
	alg, hex, _ := strings.Cut(strings.TrimPrefix(key, layout.DirBlobs), "/")
	f, err := st.OpenContent(t.Context(), digest.NewDigestFromEncoded(digest.Algorithm(alg), hex))
	if err == nil {
		f.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// TestRightBytesComeFromTheFirstThatHasThem has lost a layer.
func TestRightBytesComeFromTheFirstThatHasThem(t *testing.T) {
	t.Parallel()
	layer := sharedLayer()
	flipped := slices.Clone(layer.raw)
	flipped[7] ^= 1
	longer := append(slices.Clone(layer.raw), 'x')
	breaks := giving{"breaks", func() (io.Reader, error) {
		return io.MultiReader(bytes.NewReader(layer.raw[:99]), iotest.ErrReader(errors.New("the line is down"))), nil
	}, new(atomic.Int64), new([]string)}
	for _, x := range []struct {
		name   string
		local  string // what the store has of it: right, wrong, nothing
		others []giving
		from   string // "": nobody
		asked  []int64
		why    []string // in the report
	}{
		{name: "the store before all others", local: "right", others: []giving{gives("a", layer.raw)}, from: "local store", asked: []int64{0}},
		{name: "the first other if the store has it not", others: []giving{gives("a", layer.raw), gives("b", layer.raw)}, from: "a", asked: []int64{1, 0}},
		{name: "the first other if the store has it wrong", local: "wrong", others: []giving{gives("a", layer.raw)}, from: "a", asked: []int64{1}},
		{name: "the second if the first has other bytes", others: []giving{gives("a", flipped), gives("b", layer.raw)}, from: "b", asked: []int64{1, 1}},
		{name: "the second if the first has more bytes", others: []giving{gives("a", longer), gives("b", layer.raw)}, from: "b", asked: []int64{1, 1}},
		{name: "the second if the first has fewer bytes", others: []giving{gives("a", layer.raw[:10]), gives("b", layer.raw)}, from: "b", asked: []int64{1, 1}},
		{name: "the second if the first has nothing", others: []giving{fails("a", fs.ErrNotExist), gives("b", layer.raw)}, from: "b", asked: []int64{1, 1}},
		{name: "the second if the first breaks off", others: []giving{breaks, gives("b", layer.raw)}, from: "b", asked: []int64{1, 1}},
		{name: "nobody, and each is named", local: "wrong", others: []giving{fails("a", fs.ErrNotExist), gives("b", flipped), fails("c", errors.New("429 Too Many Requests"))}, asked: []int64{1, 1, 1},
			why: []string{"local store: its bytes do not match", "a: does not have it", "b: its bytes do not match", "c: 429 Too Many Requests"}},
		{name: "nobody, if there is nobody", why: []string{"local store: does not have it"}},
	} {
		for kind, damage := range map[string]func(string) error{"missing": os.Remove, "corrupt": damages()["flipped"]} {
			t.Run(kind+": "+x.name, func(t *testing.T) {
				c := &clock{}
				data, dir := t.TempDir(), filepath.Join(t.TempDir(), "vault")
				st := openStore(t, data, c, nil)
				t.Cleanup(func() { st.Close() })
				publish(t, st, "docker.io/library/a", "1", plain("a", layer))
				v := openVault(t, dir, c, nil)
				backup(t, v, st)
				spoilLocal(t, data, layer, x.local)
				file := filepath.Join(dir, layout.BlobKey(layer.desc.Digest))
				if err := damage(file); err != nil {
					t.Fatal(err)
				}
				before, _ := os.ReadFile(file)
				o := vault.RepairOptions{Store: st, Dir: t.TempDir()}
				var start []int64
				for _, g := range x.others {
					o.Others = append(o.Others, g)
					start = append(start, g.asked.Load())
				}
				all := repaired(t, v, vault.VerifyOptions{All: true, Repair: &o})
				p := all.Snapshots[0].Problems
				if len(p) != 1 || p[0].Kind != kind || p[0].Repaired != (x.from != "") || p[0].Source != x.from || all.Left() != map[bool]int{true: 0, false: 1}[x.from != ""] {
					t.Fatalf("got %+v, want it from %q", p, x.from)
				}
				if diff := cmp.Diff([]string{"docker.io/library/a:1"}, p[0].Images); diff != "" {
					t.Error(diff)
				}
				for i, g := range x.others {
					if n := g.asked.Load() - start[i]; n != x.asked[i] {
						t.Errorf("%s was asked %d times, want %d", g, n, x.asked[i])
					} else if n > 0 && !slices.Equal(*g.repos, []string{"docker.io/library/a"}) {
						t.Errorf("%s was asked for %v", g, *g.repos)
					}
				}
				after, _ := os.ReadFile(file)
				if x.from != "" {
					if !bytes.Equal(after, layer.raw) || len(headOf(t, dir).Damaged) > 0 {
						t.Error("it was not repaired")
					}
					return
				}
				if !bytes.Equal(before, after) || !slices.Equal(headOf(t, dir).Damaged, []digest.Digest{layer.desc.Digest}) {
					t.Error("something was changed, or forgotten")
				}
				for _, want := range x.why {
					if !strings.Contains(p[0].Unrepaired, want) {
						t.Errorf("got %q, want %q in it", p[0].Unrepaired, want)
					}
				}
				if !strings.Contains(p[0].Next, "lastro backup verify --repair main") {
					t.Errorf("next is %q", p[0].Next)
				}
			})
		}
	}
}

// spoilLocal makes of a content of a store what is wanted.
func spoilLocal(t *testing.T, data string, c content, want string) {
	t.Helper()
	switch want {
	case "wrong":
		spoil(t, filepath.Join(data, "registry/docker/registry/v2/blobs/sha256", c.desc.Digest.Encoded()[:2], c.desc.Digest.Encoded(), "data"))
	case "":
		loseContent(t, data, c)
	}
}

// TestWhatIsFoundWithoutReadingIsRepaired loses and cuts a layer, and looks at each level.
func TestWhatIsFoundWithoutReadingIsRepaired(t *testing.T) {
	t.Parallel()
	for level, o := range map[string]vault.VerifyOptions{"list": {List: true}, "head": {Head: true}, "part": {Part: 1, Parts: 999}} {
		for kind, damage := range map[string]func(string) error{"missing": os.Remove, "corrupt": shorten} {
			t.Run(level+" "+kind, func(t *testing.T) {
				c := &clock{}
				dir := filepath.Join(t.TempDir(), "vault")
				st := newStore(t, c)
				sample(t, st)
				v := openVault(t, dir, c, nil)
				backup(t, v, st)
				if err := damage(filepath.Join(dir, layout.BlobKey(sharedLayer().desc.Digest))); err != nil {
					t.Fatal(err)
				}
				o.All, o.Repair = true, &vault.RepairOptions{Store: st}
				all := repaired(t, v, o)
				if p := all.Snapshots[0].Problems; len(p) != 1 || !p[0].Repaired || p[0].Kind != kind {
					t.Errorf("got %+v", p)
				}
				if n := all.Read.Blobs + all.ByHash.Blobs + all.ByLength.Blobs; n != all.Blobs || all.Left() != 0 || all.Repaired()["local store"] != 1 {
					t.Errorf("%d of %d blobs are right, %d problems", n, all.Blobs, all.Left())
				}
				wantSound(t, v, "")
			})
		}
	}
}

// TestWhatIsBelowARepairedManifestIsRepairedToo loses an image altogether.
func TestWhatIsBelowARepairedManifestIsRepairedToo(t *testing.T) {
	c := &clock{}
	dir := filepath.Join(t.TempDir(), "vault")
	st := newStore(t, c)
	sample(t, st)
	v := openVault(t, dir, c, nil)
	backup(t, v, st)
	lost := 0
	for _, key := range files(t, dir, "blobs") {
		if inStore(t, st, key) {
			remove(t, dir, key)
			lost++
		}
	}
	all := repaired(t, v, vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: st}})
	if p := all.Snapshots[0].Problems; len(p) != lost || all.Left() > 0 || all.Read.Blobs != all.Blobs {
		t.Errorf("got %d problems, %d left, want all %d repaired", len(p), all.Left(), lost)
	}
	wantSound(t, v, "")
}

// once gives wrong bytes for a key the first time it is read.
type onceWrong struct {
	bucket.Bucket
	key    string
	read   *atomic.Int64
	writes *atomic.Int64
}

func (o onceWrong) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	body, info, err := o.Bucket.Get(ctx, key, offset)
	if err == nil && key == o.key && o.read.Add(1) == 1 {
		return io.NopCloser(io.LimitReader(body, info.Size-1)), info, nil
	}
	return body, info, err
}

func (o onceWrong) Replace(ctx context.Context, key string, obj bucket.Object) error {
	if key == o.key {
		o.writes.Add(1)
	}
	return o.Bucket.Replace(ctx, key, obj)
}

func TestWhatIsRightWhenItIsReadAgainIsNotWrittenOver(t *testing.T) {
	c := &clock{}
	dir := filepath.Join(t.TempDir(), "vault")
	st := newStore(t, c)
	sample(t, st)
	backup(t, openVault(t, dir, c, nil), st)
	var in onceWrong
	v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
		in = onceWrong{b, layout.BlobKey(sharedLayer().desc.Digest), new(atomic.Int64), new(atomic.Int64)}
		return in
	})
	all := repaired(t, v, vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: st}})
	if len(all.Snapshots[0].Problems) > 0 || in.writes.Load() > 0 || in.read.Load() != 3 || all.Read.Blobs != all.Blobs {
		t.Errorf("got %+v, %d writes, %d reads", all.Snapshots[0].Problems, in.writes.Load(), in.read.Load())
	}
}

// unwriting is a bucket that does not keep blobs that are written.
type unwriting struct {
	bucket.Bucket
	err error // nil: it says that it did
}

func (u unwriting) Put(ctx context.Context, key string, o bucket.Object) (bool, error) {
	if strings.HasPrefix(key, layout.DirBlobs) {
		return true, u.err
	}
	return u.Bucket.Put(ctx, key, o)
}

func (u unwriting) Replace(ctx context.Context, key string, o bucket.Object) error {
	if strings.HasPrefix(key, layout.DirBlobs) {
		return u.err
	}
	return u.Bucket.Replace(ctx, key, o)
}

func TestWhatCannotBeWrittenIsNotRepaired(t *testing.T) {
	for name, err := range map[string]error{"could not be written to vault file://": errors.New("403 Forbidden"), "are not what is read there now": nil} {
		for kind, damage := range map[string]func(string) error{"missing": os.Remove, "corrupt": damages()["flipped"]} {
			t.Run(kind+" "+name, func(t *testing.T) {
				c := &clock{}
				dir := filepath.Join(t.TempDir(), "vault")
				st := newStore(t, c)
				sample(t, st)
				backup(t, openVault(t, dir, c, nil), st)
				for _, d := range []digest.Digest{sharedLayer().desc.Digest, layerOf("a-1-moved")} {
					if err := damage(filepath.Join(dir, layout.BlobKey(d))); err != nil {
						t.Fatal(err)
					}
				}
				v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return unwriting{b, err} })
				all := repaired(t, v, vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: st}})
				if all.Left() != 2 || len(headOf(t, dir).Damaged) != 2 {
					t.Fatalf("got %d problems, want both", all.Left())
				}
				for _, p := range all.Snapshots[0].Problems {
					if p.Repaired || !strings.Contains(p.Unrepaired, name) || err != nil && !strings.Contains(p.Unrepaired, err.Error()) {
						t.Errorf("got %+v", p)
					}
				}
			})
		}
	}
}

// TestWithoutBeingToldNothingIsRepaired says what to run.
func TestWithoutBeingToldNothingIsRepaired(t *testing.T) {
	c := &clock{}
	dir := filepath.Join(t.TempDir(), "vault")
	st := newStore(t, c)
	sample(t, st)
	v := openVault(t, dir, c, nil)
	backup(t, v, st)
	damage(t, dir, sharedLayer().desc.Digest)
	p := verified(t, v, "").Problems
	if len(p) != 1 || p[0].Repaired || p[0].Next != "lastro backup verify --repair main" || p[0].Unrepaired != "" {
		t.Errorf("got %+v", p)
	}
}

// TestARepairBesideAPruneAndABackup lets another daemon do both before each request of
// a repair: everything is whole afterwards, and nothing is there that should not be.
func TestARepairBesideAPruneAndABackup(t *testing.T) {
	t.Parallel()
	atEachRequest(t, func(t *testing.T, n int64, unfenced bool) bool {
		c := &clock{}
		st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
		plainly := openIn(t, dir, pass, unfenced)
		ids, _ := grown(t, plainly, st, 3)
		var right []byte
		for _, d := range []digest.Digest{layerOf("image 2"), plain("image 2").root.desc.Digest} {
			damage(t, dir, d)
		}
		for i := range 3 {
			right = plain(fmt.Sprint("image ", i)).blobs[1].raw
			publishAgain(t, st, i)
		}
		hook, done := atRequest(n, func() {
			forget(t, plainly, ids[0])
			pruneBy(t, plainly, st, atOnce)
			backup(t, plainly, st)
		})
		all, err := openIn(t, dir, hook, unfenced).VerifyAll(t.Context(), vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: st}}, nil)
		if err != nil && !done.Load() {
			t.Fatal(err)
		}
		if !done.Load() {
			if all.Left() > 0 || len(all.Repaired()) == 0 {
				t.Errorf("got %+v", all)
			}
			return true
		}
		repaired(t, plainly, vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: st}})
		allSound(t, plainly)
		if got, err := os.ReadFile(filepath.Join(dir, layout.BlobKey(layerOf("image 2")))); err != nil || !bytes.Equal(got, right) {
			t.Errorf("the layer is not right, %v", err)
		}
		return false
	})
}

// publishAgain brings an image of grown back.
func publishAgain(t tester, st *store.Store, i int) {
	t.Helper()
	publish(t, st, "again", fmt.Sprint("t", i), plain(fmt.Sprint("image ", i)))
}

// TestTheVaultsOwnDocumentsAreMadeAgain loses them in a vault that has no other source
// than the store.
func TestTheVaultsOwnDocumentsAreMadeAgain(t *testing.T) {
	t.Parallel()
	st, _ := promised(t)
	dir := filepath.Join(t.TempDir(), "vault")
	open := func() *vault.Vault {
		v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + dir}, vault.Options{Config: []byte("data: here\n")})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := open()
	sample(t, st)
	backup(t, v, st)
	shown, err := v.Show(t.Context(), "")
	if err != nil || shown.State == nil || shown.Config == nil {
		t.Fatalf("got %+v, %v", shown, err)
	}
	lost := []digest.Digest{shown.Root.Digest, shown.Repositories[0].Index.Digest, shown.State.Digest, shown.Config.Digest}
	for name, damage := range map[string]func(string) error{"lost": os.Remove, "flipped": damages()["flipped"]} {
		for _, d := range lost {
			if err := damage(filepath.Join(dir, layout.BlobKey(d))); err != nil {
				t.Fatal(name, err)
			}
		}
		all := repaired(t, open(), vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: st}})
		if all.Left() > 0 || all.Repaired()["local store"] != len(lost) {
			t.Errorf("%s: got %+v", name, all.Snapshots[0].Problems)
		}
		wantSound(t, v, "")
	}
	// What has changed since is not made of what is there now.
	publish(t, st, "docker.io/library/a", "new", plain("new"))
	if err := os.Remove(filepath.Join(dir, layout.BlobKey(shown.Root.Digest))); err != nil {
		t.Fatal(err)
	}
	p := repaired(t, v, vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: st}}).Snapshots[0].Problems
	if len(p) != 1 || p[0].Repaired || p[0].Unrepaired != "local store: does not have it" || !strings.HasPrefix(p[0].Next, "lastro backup main: a new snapshot") {
		t.Errorf("got %+v", p)
	}
}

func TestWhatNobodyVouchesForIsNotRepaired(t *testing.T) {
	mine, other := newSigner(t, 1), newSigner(t, 2)
	dir, st := t.TempDir(), newStore(t, &clock{})
	publish(t, st, "r", "1", plain("a"))
	backup(t, signedVault(t, dir, other.private), st)
	all := repaired(t, signedVault(t, dir, mine.private), vault.VerifyOptions{Repair: &vault.RepairOptions{Store: st}})
	if p := all.Snapshots[0].Problems; len(p) != 1 || p[0].Kind != "untrusted" || p[0].Repaired || p[0].Unrepaired != "" || p[0].Next != "" {
		t.Errorf("got %+v", p)
	}
}

// TestWhatIsNotNamedAnyMoreShowsBesideARepair has a record that counts more than there is.
func TestWhatIsNotNamedAnyMoreShowsBesideARepair(t *testing.T) {
	dir, st := t.TempDir(), newStore(t, &clock{})
	publish(t, st, "r", "1", plain("a"))
	v := openVault(t, dir, &clock{}, nil)
	backup(t, v, st)
	forge(t, dir, func(s *layout.Snapshot) { s.Closure = digest.FromString("more") })
	damage(t, dir, layerOf("a"))
	all := repaired(t, v, vault.VerifyOptions{Repair: &vault.RepairOptions{Store: st}})
	var kinds []string
	for _, p := range all.Snapshots[0].Problems {
		kinds = append(kinds, p.Kind)
	}
	slices.Sort(kinds)
	if diff := cmp.Diff([]string{"corrupt", "incomplete"}, kinds); diff != "" || all.Left() != 1 || all.Repaired()["local store"] != 1 {
		t.Errorf("%s %+v", diff, all.Snapshots[0].Problems)
	}
}
