package vault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// someSnapshots saves a store whose repositories change by turns.
func someSnapshots(t *testing.T, c *clock, v *vault.Vault) {
	t.Helper()
	st := newStore(t, c)
	sample(t, st)
	backup(t, v, st)
	publish(t, st, "docker.io/library/a", "1", plain("third", sharedLayer()))
	backup(t, v, st)
	backup(t, v, st) // nothing new
	publish(t, st, "other", "1", plain("other", sharedLayer()))
	backup(t, v, st)
}

func TestAllSnapshotsAreVerifiedInOneReading(t *testing.T) {
	c := &clock{}
	dir := filepath.Join(t.TempDir(), "vault")
	someSnapshots(t, c, openVault(t, dir, c, nil))
	var opened countingBucket
	v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { opened = counting(b); return opened })
	all, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil)
	if err != nil || len(all.Snapshots) != 4 || all.Vault != "main" || all.Requests == 0 {
		t.Fatalf("got %+v, %v; want four reports", all, err)
	}
	for key, n := range opened.gets {
		if n != 1 {
			t.Errorf("%s was read %d times", key, n)
		}
	}
	if blobs := files(t, dir, "blobs"); len(opened.gets) != len(blobs) {
		t.Errorf("%d of %d blobs were read", len(opened.gets), len(blobs))
	}
	list, err := v.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range list.Snapshots {
		if s.Verified == nil {
			t.Errorf("%s does not count as verified", s.ID)
		}
		// One alone finds the same.
		want := verified(t, v, s.ID)
		got := all.Snapshots[i]
		want.Time, want.Requests, want.TookSeconds, want.OldestRead, want.OldestUnreadSeconds = got.Time, 0, 0, got.OldestRead, 0
		if diff := cmp.Diff(want, got); diff != "" || got.Blobs == 0 || got.Snapshot != s.ID || len(got.Problems) > 0 {
			t.Errorf("%s: %s %+v", s.ID, diff, got.Problems)
		}
		if got := files(t, dir, layout.DirVerified+s.ID); len(got) != 2 {
			t.Errorf("%s: got receipts %v, want one of each verification", s.ID, got)
		}
	}
}

func TestAProblemIsReportedInTheSnapshotsThatHaveIt(t *testing.T) {
	t.Parallel()
	shared := []string{"docker.io/library/a:1", "docker.io/library/a:2", "docker.io/library/b:multi"}
	for _, x := range []struct {
		name  string
		blob  func(shown vault.Contents) string // key of what is lost, by what the second snapshot shows
		hurts [4][]string                       // tags, by snapshot; nil: it is not needed there
	}{
		{
			name:  "a layer of an image that moved away",
			blob:  func(vault.Contents) string { return layout.BlobKey(plain("a-1-moved").blobs[1].desc.Digest) },
			hurts: [4][]string{{"docker.io/library/a:1"}, {}, {}, {}},
		},
		{
			name:  "a layer that all have, one more in the newest",
			blob:  func(vault.Contents) string { return layout.BlobKey(sharedLayer().desc.Digest) },
			hurts: [4][]string{shared, shared, shared, append(shared, "other:1")},
		},
		{
			name:  "a layer of the newest",
			blob:  func(vault.Contents) string { return layout.BlobKey(plain("other").blobs[1].desc.Digest) },
			hurts: [4][]string{nil, nil, nil, {"other:1"}},
		},
		{
			name:  "a manifest",
			blob:  func(vault.Contents) string { return layout.BlobKey(plain("third", sharedLayer()).root.desc.Digest) },
			hurts: [4][]string{nil, {"docker.io/library/a:1"}, {"docker.io/library/a:1"}, {"docker.io/library/a:1"}},
		},
		{
			name:  "the index of a repository",
			blob:  func(s vault.Contents) string { return layout.BlobKey(s.Repositories[0].Index.Digest) },
			hurts: [4][]string{nil, {}, {}, {}},
		},
		{
			name:  "a root",
			blob:  func(s vault.Contents) string { return layout.BlobKey(s.Root.Digest) },
			hurts: [4][]string{nil, {}, {}, nil},
		},
		{
			name:  "the first history",
			blob:  func(s vault.Contents) string { return layout.BlobKey(s.History.Segments[0].Digest) },
			hurts: [4][]string{{}, {}, {}, {}},
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := &clock{}
			dir := filepath.Join(t.TempDir(), "vault")
			v := openVault(t, dir, c, nil)
			someSnapshots(t, c, v)
			list, err := v.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			shown, err := v.Show(t.Context(), list.Snapshots[1].ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, x.blob(shown))); err != nil {
				t.Fatal(err)
			}
			got, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if list, err = v.List(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i, r := range got.Snapshots {
				var hurts []string
				for _, p := range r.Problems {
					hurts = slices.DeleteFunc(p.Images, func(name string) bool { return strings.Contains(name, "@") })
				}
				if diff := cmp.Diff(x.hurts[i], hurts); diff != "" || len(r.Problems) > 1 {
					t.Errorf("snapshot %d: got %+v %s", i, r.Problems, diff)
				}
				if right := list.Snapshots[i].Verified != nil; right != (x.hurts[i] == nil) {
					t.Errorf("snapshot %d counts as verified: %v", i, right)
				}
			}
			var head layout.Head
			if readJSON(t, filepath.Join(dir, layout.KeyHead), &head); len(head.Damaged) != 1 {
				t.Errorf("got %v to be repaired, want the one", head.Damaged)
			}
		})
	}
}

func TestAVaultWithoutSnapshotsHasNothingToVerify(t *testing.T) {
	c := &clock{}
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	if _, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil); !errors.Is(err, vault.ErrNoVault) {
		t.Errorf("got %v, want ErrNoVault", err)
	}
}

// BenchmarkVerifyAll reads many snapshots that have most in common.
func BenchmarkVerifyAll(b *testing.B) {
	c := &clock{}
	st := benchStore(b, c)
	v := openVault(b, filepath.Join(b.TempDir(), "vault"), c, nil)
	for i := range 10 {
		publish(b, st, "small", fmt.Sprint(i), plain(fmt.Sprint("small ", i)))
		backup(b, v, st)
	}
	for b.Loop() {
		if _, err := v.VerifyAll(b.Context(), vault.VerifyOptions{All: true}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func TestPartByPartEverythingIsRead(t *testing.T) {
	c := &clock{}
	dir := filepath.Join(t.TempDir(), "vault")
	someSnapshots(t, c, openVault(t, dir, c, nil))
	const parts = 4
	opened := map[string]int{}
	began := c.now()
	for n := 1; n <= parts; n++ {
		var in countingBucket
		v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { in = counting(b); return in })
		all, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true, Parts: parts}, nil)
		if err != nil || all.Part != n || all.Parts != parts {
			t.Fatalf("got part %d/%d, %v; want %d", all.Part, all.Parts, err, n)
		}
		if late := all.OldestRead.After(began); late != (n == parts) {
			t.Errorf("part %d: longest unread since %s, the first part was read after %s", n, all.OldestRead, began)
		}
		for _, r := range all.Snapshots {
			if want := fmt.Sprintf("%d/%d", n, parts); r.Part != want || r.Read.Blobs >= r.Blobs || r.Read.Blobs == 0 {
				t.Errorf("got %+v", r)
			}
		}
		for key := range in.gets {
			opened[key]++
		}
	}
	for _, key := range files(t, dir, "blobs") {
		if opened[key] == 0 {
			t.Errorf("%s was never read", key)
		}
	}
}

func TestAPartFindsWhatIsMissingOrShortAnywhere(t *testing.T) {
	for _, x := range []struct {
		name, kind string
		o          vault.VerifyOptions
		damage     func(file string) error
	}{
		{"missing, by a part", "missing", vault.VerifyOptions{All: true, Part: 1, Parts: 999}, os.Remove},
		{"missing, by a listing", "missing", vault.VerifyOptions{List: true}, os.Remove},
		{"short, by a listing", "corrupt", vault.VerifyOptions{List: true}, func(file string) error { return os.Truncate(file, 1) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := &clock{}
			dir := filepath.Join(t.TempDir(), "vault")
			v := openVault(t, dir, c, nil)
			someSnapshots(t, c, v)
			shared := layout.BlobKey(sharedLayer().desc.Digest)
			if err := os.Chmod(filepath.Join(dir, shared), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := x.damage(filepath.Join(dir, shared)); err != nil {
				t.Fatal(err)
			}
			all, err := v.VerifyAll(t.Context(), x.o, nil)
			if err != nil {
				t.Fatal(err)
			}
			newest := all.Snapshots[len(all.Snapshots)-1]
			if len(newest.Problems) != 1 || newest.Problems[0].Kind != x.kind || len(newest.Problems[0].Images) == 0 {
				t.Errorf("got %+v", newest.Problems)
			}
			// Once known, it is read whatever part is meant, until it is right.
			again, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true, Part: 2, Parts: 999}, nil)
			if newest := again.Snapshots[len(again.Snapshots)-1]; err != nil || len(newest.Problems) != 1 || newest.Problems[0].Kind != x.kind {
				t.Errorf("again: %+v, %v", newest.Problems, err)
			}
		})
	}
}

func TestAListingProvesNoBytes(t *testing.T) {
	c := &clock{}
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	someSnapshots(t, c, v)
	if _, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true, List: true}, nil); err != nil {
		t.Fatal(err)
	}
	list, err := v.List(t.Context())
	for _, s := range list.Snapshots {
		if err != nil || s.Verified != nil {
			t.Errorf("%s counts as verified: %v", s.ID, err)
		}
	}
}

// saying is a bucket whose server says something of the hash of what lies there.
type saying struct {
	bucket.Bucket
	of func(bucket.Info) string
}

func (s saying) Head(ctx context.Context, key string) (bucket.Info, error) {
	info, err := s.Bucket.Head(ctx, key)
	info.SHA256 = s.of(info)
	return info, err
}

// truly is what an honest server says of what was stored under its own digest.
func truly(i bucket.Info) string { return path.Base(i.Key) }

func TestByHeadsWhatTheServerSaysIsCompared(t *testing.T) {
	t.Parallel()
	shared := path.Base(layout.BlobKey(sharedLayer().desc.Digest))
	for _, x := range []struct {
		name           string
		says           func(bucket.Info) string
		proven         bool // the server was seen to refuse wrong hashes
		damage         func(file string) error
		hash           bool   // counts
		kind, detailed string // of the problem; "": none
	}{
		{name: "its hash is the digest", says: truly, proven: true, hash: true},
		{name: "its hash is another one", proven: true, hash: true, kind: "corrupt", detailed: "its SHA-256 is 00",
			says: func(i bucket.Info) string {
				if truly(i) == shared {
					return strings.Repeat("0", 64)
				}
				return truly(i)
			}},
		{name: "it has no hash", says: func(bucket.Info) string { return "" }, proven: true},
		{name: "a hash that was never seen to be checked proves nothing", says: truly},
		{name: "a wrong hash that was never seen to be checked proves nothing either", says: func(bucket.Info) string { return strings.Repeat("0", 64) }},
		{name: "it is shorter, whatever its hash", says: truly, proven: true, hash: true, damage: shorten, kind: "corrupt", detailed: "it has 1 bytes"},
		{name: "it is not there", says: truly, proven: true, hash: true, damage: os.Remove, kind: "missing"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := &clock{}
			dir := filepath.Join(t.TempDir(), "vault")
			var in countingBucket
			v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { in = counting(saying{b, x.says}); return in })
			someSnapshots(t, c, v)
			prove(t, dir, x.proven)
			if x.damage != nil {
				if err := x.damage(filepath.Join(dir, layout.BlobKey(sharedLayer().desc.Digest))); err != nil {
					t.Fatal(err)
				}
			}
			clear(in.gets)
			all, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true, Head: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			newest := all.Snapshots[len(all.Snapshots)-1]
			wantProblem(t, newest.Problems, x.kind, x.detailed)
			// One blob is named by its SHA-512, which no server says.
			if all.ByHash.Blobs > 0 != x.hash || all.ByLength.Blobs == 1 != x.hash || all.Read.Blobs == 0 || all.Level != "head" {
				t.Errorf("got %+v", all.Coverage)
			}
			if bad := len(newest.Problems); all.Read.Blobs+all.ByHash.Blobs+all.ByLength.Blobs+bad != all.Blobs {
				t.Errorf("got %+v and %d problems, want each counted once", all.Coverage, bad)
			}
			if in.gets[layout.BlobKey(sharedLayer().desc.Digest)] != 0 {
				t.Error("a layer was read")
			}
			list, err := v.List(t.Context())
			for _, s := range list.Snapshots {
				if err != nil || s.Verified != nil {
					t.Errorf("%s counts as verified, %v", s.ID, err)
				}
			}
			// What was found stays to be read, whatever the next run is told.
			again, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true, Part: 2, Parts: 999}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if read := in.gets[layout.BlobKey(sharedLayer().desc.Digest)] > 0; read != (x.kind != "") {
				t.Errorf("it was read by the next run: %v; %+v", read, again.Snapshots[0].Problems)
			}
		})
	}
}

func shorten(file string) error {
	return errors.Join(os.Chmod(file, 0o600), os.Truncate(file, 1))
}

func wantProblem(t *testing.T, got []vault.Problem, kind, detailed string) {
	t.Helper()
	if kind == "" && len(got) == 0 {
		return
	}
	if len(got) != 1 || got[0].Kind != kind || len(got[0].Images) == 0 || !strings.Contains(got[0].Error, detailed) {
		t.Errorf("got %+v, want that something is %s %s", got, kind, detailed)
	}
}

// prove writes down whether the vault's place checks hashes.
func prove(t *testing.T, dir string, checksum bool) {
	t.Helper()
	file := filepath.Join(dir, layout.KeyConfig)
	var config layout.Config
	readJSON(t, file, &config)
	config.Proven.Checksum = checksum
	data, err := layout.Encode(config)
	if err == nil {
		err = errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheAgeOfTheOldestUnreadByteIsSaid(t *testing.T) {
	c := &clock{}
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	someSnapshots(t, c, v)
	before, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true, Head: true}, nil)
	if err != nil || before.OldestUnreadSeconds <= 0 || before.One().OldestUnreadSeconds != before.OldestUnreadSeconds {
		t.Errorf("got %d s since %s, %v", before.OldestUnreadSeconds, before.OldestRead, err)
	}
	full, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil)
	if err != nil || !full.OldestRead.After(before.OldestRead) || full.Read.Blobs != full.Blobs {
		t.Errorf("after all was read: %s (before: %s), %+v, %v", full.OldestRead, before.OldestRead, full.Coverage, err)
	}
}
