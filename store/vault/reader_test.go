package vault_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/layout"
)

const readerSource = "testdata/reader/main.go"

// TestTheReaderIsSmallAndSharesNothing keeps it a proof that the description suffices.
func TestTheReaderIsSmallAndSharesNothing(t *testing.T) {
	raw, err := os.ReadFile(readerSource)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(raw, []byte("\n")); lines > 100 {
		t.Errorf("it has %d lines", lines)
	}
	f, err := parser.ParseFile(token.NewFileSet(), readerSource, raw, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range f.Imports {
		if first, _, _ := strings.Cut(strings.Trim(i.Path.Value, `"`), "/"); strings.Contains(first, ".") || first == "lastro" {
			t.Errorf("it imports %s", i.Path.Value)
		}
	}
}

// readImage is a line of what the reader prints.
type readImage struct {
	Repository, Tag string
	Digest          digest.Digest
	Contents        []digest.Digest
}

func buildReader(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "reader")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, readerSource).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// readSnapshot has the reader take a snapshot out: its images, and their contents.
func readSnapshot(t *testing.T, reader, dir, id string) ([]readImage, map[digest.Digest][]byte, error) {
	t.Helper()
	out := t.TempDir()
	printed, err := exec.CommandContext(t.Context(), reader, dir, id, out).Output()
	if err != nil {
		failed, _ := errors.AsType[*exec.ExitError](err)
		return nil, nil, errors.New(string(failed.Stderr))
	}
	var images []readImage
	contents := map[digest.Digest][]byte{}
	for dec := json.NewDecoder(bytes.NewReader(printed)); dec.More(); {
		var img readImage
		if err := dec.Decode(&img); err != nil {
			t.Fatal(err)
		}
		for _, d := range img.Contents {
			raw, err := os.ReadFile(filepath.Join(out, strings.Replace(d.String(), ":", "-", 1)))
			if err != nil {
				t.Fatal(err)
			}
			contents[d] = raw
		}
		images = append(images, img)
	}
	return images, contents, nil
}

// listedImage is an image that a snapshot is to list.
type listedImage struct {
	repo, tag string
	image
}

// everySort are images of every sort, each as it is to be listed.
func everySort() []listedImage {
	long := []byte("named by a longer digest")
	sha512 := content{ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.SHA512.FromBytes(long), Size: int64(len(long))}, long}
	elsewhere, kept := foreignLayer("elsewhere"), foreignLayer("kept")
	multi := index("s390x", plain("amd64", sharedLayer()), plain("arm64"))
	nested := index("", multi, plain("attestation"))
	return []listedImage{
		{"docker.io/library/a", "1", plain("a-1", sharedLayer())},
		{"docker.io/library/a", "2", plain("a-2", sharedLayer(), sha512)},
		{"docker.io/library/a", "gone", plain("a-gone")},
		{"docker.io/library/b", "multi", nested},
		{"docker.io/library/b", strings.Replace(string(multi.root.desc.Digest), ":", "-", 1) + ".sig", plain("cosign")},
		{"docker.io/library/b", "", signature(multi.root, "multi")},
		{"ghcr.io/c", "", plain("by digest only")},
		{"ghcr.io/c", "s390x", plain("s390x")}, // left out of the other
		{"ghcr.io/c", "windows", plain("windows", content{desc: elsewhere.desc}, kept)},
	}
}

// wanted is what a reader gives of images.
func wanted(list []listedImage) (images []readImage, contents map[digest.Digest][]byte) {
	contents = map[digest.Digest][]byte{}
	for _, l := range list {
		img := readImage{Repository: l.repo, Tag: l.tag, Digest: l.root.desc.Digest}
		for _, c := range slices.Concat(l.blobs, l.manifests) {
			img.Contents = append(img.Contents, c.desc.Digest)
			contents[c.desc.Digest] = c.raw
		}
		slices.Sort(img.Contents)
		img.Contents = slices.Compact(img.Contents)
		images = append(images, img)
	}
	return images, contents
}

func byName(a, b readImage) int {
	return strings.Compare(a.Repository+":"+a.Tag+"@"+a.Digest.String(), b.Repository+":"+b.Tag+"@"+b.Digest.String())
}

// TestAReaderWrittenFromTheDescriptionReadsEverySnapshot has an older one, of whose
// images some have moved since and some are gone.
func TestAReaderWrittenFromTheDescriptionReadsEverySnapshot(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	list := everySort()
	for _, l := range list {
		publish(t, st, l.repo, l.tag, l.image)
	}
	older := backup(t, v, st)
	publish(t, st, "docker.io/library/a", "1", plain("a-1-moved"))
	if err := st.Untag(t.Context(), "docker.io/library/a", "gone", ledger.Event{By: "test", Reason: "too old"}); err != nil {
		t.Fatal(err)
	}
	newer := backup(t, v, st)
	moved := slices.Clone(list)
	moved[0].image = plain("a-1-moved")
	moved = append(moved, listedImage{"docker.io/library/a", "", list[0].image}, listedImage{"docker.io/library/a", "", list[2].image})
	moved = slices.Delete(moved, 2, 3)

	reader := buildReader(t)
	for _, x := range []struct {
		name string
		id   string
		list []listedImage
	}{
		{"the older one", older.Snapshot, list},
		{"the newest", newer.Snapshot, moved},
	} {
		t.Run(x.name, func(t *testing.T) {
			images, contents, err := readSnapshot(t, reader, dir, x.id)
			if err != nil {
				t.Fatal(err)
			}
			wantImages, wantContents := wanted(x.list)
			slices.SortFunc(images, byName)
			slices.SortFunc(wantImages, byName)
			if diff := cmp.Diff(wantImages, images); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(wantContents, contents); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("and sees that one is not whole", func(t *testing.T) {
		spoil(t, filepath.Join(dir, layout.BlobKey(plain("a-2").blobs[1].desc.Digest)))
		if _, _, err := readSnapshot(t, reader, dir, older.Snapshot); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("got %v", err)
		}
	})
}

func spoil(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		raw[0] ^= 1
		err = errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, raw, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheIndexOfASnapshotIsTheOneThatItsBackupWrote compares with what lay there
// when the snapshot was the newest.
func TestTheIndexOfASnapshotIsTheOneThatItsBackupWrote(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	var reports []vault.Report
	var written [][]byte
	for _, change := range []func(){
		func() { sample(t, st) },
		func() { publish(t, st, "docker.io/library/a", "2", plain("a-2-moved")) },
		func() {},
	} {
		change()
		reports = append(reports, backup(t, v, st))
		raw, err := os.ReadFile(filepath.Join(dir, layout.KeyIndex))
		if err != nil {
			t.Fatal(err)
		}
		written = append(written, raw)
	}
	if bytes.Equal(written[0], written[1]) || !bytes.Equal(written[1], written[2]) {
		t.Fatal("the snapshots are not what they should be")
	}
	for i, r := range reports {
		got, err := v.Flat(t.Context(), r.Snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(written[i]), string(got)); diff != "" {
			t.Errorf("snapshot %d: %s", i, diff)
		}
	}
	if _, err := v.Flat(t.Context(), "nope"); err == nil || !strings.Contains(err.Error(), "backup list") {
		t.Errorf("got %v, want where snapshots are listed", err)
	}
}
