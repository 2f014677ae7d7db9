package repair

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/folder"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// unlistable is a server that lets nobody look at versions.
type unlistable struct{ bucket.Server }

func (unlistable) Versions(context.Context, string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) { yield(bucket.Info{}, errors.New("403 AccessDenied")) }
}

// other has what it is told.
type other []byte

func (other) String() string { return "other" }

func (o other) Fetch(context.Context, []string, Content) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(o)), nil
}

func vaultIn(t *testing.T, server bucket.Server) (*catalog.Catalog, string) {
	t.Helper()
	dir := t.TempDir()
	return &catalog.Catalog{Name: "main", Bucket: folder.Open(dir, folder.Options{}), Server: server, Log: slog.New(slog.DiscardHandler), Now: time.Now}, dir
}

func damaged(raw []byte) Damaged {
	return Damaged{Content: Content{Descriptor: ocispec.Descriptor{Digest: digest.FromBytes(raw), Size: int64(len(raw))}}}
}

func TestVersionsThatNobodyMayListAreNoSourceAndNoEnd(t *testing.T) {
	right := []byte("right")
	c, dir := vaultIn(t, unlistable{})
	source, err := New(c, Options{Others: []Source{other("wrong"), other("right")}}).Repair(t.Context(), damaged(right))
	if source != "other" || err != nil {
		t.Fatalf("got %q, %v", source, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, layout.BlobKey(digest.FromBytes(right)))); err != nil || !bytes.Equal(got, right) {
		t.Errorf("got %q, %v", got, err)
	}
	_, err = New(c, Options{Others: []Source{other("wrong"), other("wrong")}}).Repair(t.Context(), damaged([]byte("no more")))
	const want = "older version: 403 AccessDenied; other: its bytes do not match the digest and size"
	if none, ok := errors.AsType[*NoSourceError](err); !ok || none.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestASourceThatNeverEndsIsCutAndRefused(t *testing.T) {
	c, _ := vaultIn(t, nil)
	endless := endlessSource{}
	_, err := New(c, Options{Others: []Source{endless}, Dir: t.TempDir()}).Repair(t.Context(), damaged([]byte("short")))
	if err == nil || !strings.Contains(err.Error(), "endless: its bytes do not match") {
		t.Errorf("got %v", err)
	}
}

type endlessSource struct{}

func (endlessSource) String() string { return "endless" }

func (endlessSource) Fetch(context.Context, []string, Content) (io.ReadCloser, error) {
	return io.NopCloser(zeros{}), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestWhatHasAnotherLengthThanIsSaidIsNotWritten(t *testing.T) {
	right := []byte("right")
	for _, said := range []int64{4, 6, 1 << 40} {
		c, dir := vaultIn(t, nil)
		d := damaged(right)
		d.Size = said
		_, err := New(c, Options{Others: []Source{other(right)}, Dir: t.TempDir()}).Repair(t.Context(), d)
		left, _ := os.ReadDir(dir)
		if _, ok := errors.AsType[*NoSourceError](err); !ok || len(left) > 0 {
			t.Errorf("said to have %d bytes: got %v, %v", said, err, left)
		}
	}
}

func TestWithoutRoomNothingIsWritten(t *testing.T) {
	right := []byte("right")
	c, dir := vaultIn(t, nil)
	_, err := New(c, Options{Others: []Source{other(right)}, Dir: filepath.Join(t.TempDir(), "missing")}).Repair(t.Context(), damaged(right))
	if none, ok := errors.AsType[*NoSourceError](err); !ok || !errors.Is(none.Tried[0].Err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("got %v, %v", left, err)
	}
}

func TestARepairThatIsCalledOffEndsWithThat(t *testing.T) {
	c, _ := vaultIn(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	stops := stopping{cancel}
	source, err := New(c, Options{Others: []Source{stops, other("right")}}).Repair(ctx, damaged([]byte("right")))
	if !errors.Is(err, context.Canceled) || source != "" {
		t.Errorf("got %q, %v", source, err)
	}
}

type stopping struct{ cancel func() }

func (stopping) String() string { return "stops" }

func (s stopping) Fetch(ctx context.Context, _ []string, _ Content) (io.ReadCloser, error) {
	s.cancel()
	return nil, ctx.Err()
}

// breaking is a bucket whose connection breaks after the first byte.
type breaking struct{ bucket.Bucket }

var errReset = errors.New("connection reset")

func (b breaking) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	body, info, err := b.Bucket.Get(ctx, key, offset)
	if err != nil {
		return nil, info, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(body, 1), iotest.ErrReader(errReset)), body}, info, nil
}

func TestWhatCannotBeReadToItsEndIsNotDamagedByThat(t *testing.T) {
	right := []byte("right")
	c, dir := vaultIn(t, nil)
	d := damaged(right)
	if err := c.Bucket.Replace(t.Context(), layout.BlobKey(d.Digest), bucket.Object{Size: 5, Digest: d.Digest, Content: bytes.NewReader(right)}); err != nil {
		t.Fatal(err)
	}
	before := c.Bucket
	c.Bucket = breaking{before}
	source, err := New(c, Options{Others: []Source{other("right")}}).Repair(t.Context(), d)
	if source != "" || !errors.Is(err, errReset) {
		t.Errorf("got %q, %v, want %v", source, err, errReset)
	}
	// Nor is a source that breaks off said to have other bytes.
	c.Bucket = before
	if err := os.Remove(filepath.Join(dir, layout.BlobKey(d.Digest))); err != nil {
		t.Fatal(err)
	}
	_, err = New(c, Options{Others: []Source{broken{}}}).Repair(t.Context(), d)
	if none, ok := errors.AsType[*NoSourceError](err); !ok || !errors.Is(none.Tried[0].Err, errReset) {
		t.Errorf("got %v", err)
	}
}

type broken struct{}

func (broken) String() string { return "broken" }

func (broken) Fetch(context.Context, []string, Content) (io.ReadCloser, error) {
	return io.NopCloser(iotest.ErrReader(errReset)), nil
}
