// Package ocidir writes images into an OCI image layout in a folder, as other
// programs read it: index.json names each image REPOSITORY:TAG, one without a tag is
// listed by its digest alone.
//
// A content appears under its name when it is whole, checked and durable, and
// index.json is replaced after that. Several processes may write into one folder.
package ocidir

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/folder"
	"lastro/store/vault/layout"
	"lastro/store/vault/restore"
)

// Dir is an OCI image layout. It may be used from many goroutines.
type Dir struct {
	path   string
	folder bucket.Bucket

	mu        sync.Mutex
	marked    bool
	index     ocispec.Index
	etag      string
	published []ocispec.Descriptor   // and not in index.json yet
	right     map[digest.Digest]bool // contents that were read or written
}

var _ restore.Target = (*Dir)(nil)

// What cannot be written into.
var (
	ErrForeign = errors.New("it is not empty, and no OCI image layout: name an empty or new folder")
	ErrVault   = errors.New("it is a vault, whose index.json is the backups' to write: name another folder")
)

// Open looks at a folder, an absolute path, which may be missing. It writes nothing.
func Open(ctx context.Context, path string) (*Dir, error) {
	d := &Dir{path: path, folder: folder.Open(path, folder.Options{What: "OCI image layout"}), right: map[digest.Digest]bool{}}
	err := d.check(ctx)
	if err == nil {
		err = d.load(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	return d, nil
}

func (d *Dir) String() string { return "oci:" + d.path }

// check refuses folders that something else lies in.
func (d *Dir) check(ctx context.Context) error {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := d.folder.Load(ctx, layout.KeyConfig); err == nil {
		return ErrVault
	}
	switch rec, err := d.folder.Load(ctx, layout.KeyLayout); {
	case err == nil:
		return checkVersion(rec.Data)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	// What a run leaves that was stopped before it had written anything is dotted.
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), ".") }) {
		return ErrForeign
	}
	return nil
}

func checkVersion(data []byte) error {
	var marker ocispec.ImageLayout
	if err := json.Unmarshal(data, &marker); err != nil {
		return fmt.Errorf("%s: %w", layout.KeyLayout, err)
	}
	if !strings.HasPrefix(marker.Version, "1.") {
		return fmt.Errorf("it is an OCI image layout of version %.20q, and only 1 is known", marker.Version)
	}
	return nil
}

// load reads index.json.
func (d *Dir) load(ctx context.Context) error {
	rec, err := d.folder.Load(ctx, layout.KeyIndex)
	if errors.Is(err, fs.ErrNotExist) {
		d.index, d.etag = ocispec.Index{}, ""
		return nil
	}
	if err != nil {
		return err
	}
	d.index, d.etag = ocispec.Index{}, rec.ETag
	if err := json.Unmarshal(rec.Data, &d.index); err != nil {
		return fmt.Errorf("%s: %w", layout.KeyIndex, err)
	}
	return nil
}

func nameOf(desc ocispec.Descriptor) string { return desc.Annotations[ocispec.AnnotationRefName] }

// Resolve implements restore.Target.
func (d *Dir) Resolve(_ context.Context, repo, tag string) (digest.Digest, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, desc := range d.index.Manifests {
		if nameOf(desc) == repo+":"+tag {
			return desc.Digest, nil
		}
	}
	return "", fs.ErrNotExist
}

// Has reads what was not written just now: only its bytes say that it is right.
func (d *Dir) Has(ctx context.Context, _ string, desc ocispec.Descriptor, _ bool) (bool, error) {
	d.mu.Lock()
	known := d.right[desc.Digest]
	d.mu.Unlock()
	if known {
		return true, nil
	}
	body, info, err := d.folder.Get(ctx, layout.BlobKey(desc.Digest), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer body.Close()
	if info.Size != desc.Size {
		return false, nil
	}
	got, err := desc.Digest.Algorithm().FromReader(body)
	if err != nil {
		return false, err
	}
	if got != desc.Digest {
		return false, nil
	}
	d.note(desc.Digest)
	return true, nil
}

func (d *Dir) note(content digest.Digest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.right[content] = true
}

// Blob implements restore.Target.
func (d *Dir) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, open restore.Open) error {
	if has, err := d.Has(ctx, repo, desc, false); err != nil || has {
		return err
	}
	s := &stream{ctx: ctx, open: open}
	defer s.close()
	return d.put(ctx, desc.Digest, bucket.Object{Size: desc.Size, Digest: desc.Digest, Content: s})
}

// put stores a content, in place of what is damaged under its name.
func (d *Dir) put(ctx context.Context, content digest.Digest, o bucket.Object) error {
	if err := d.mark(ctx); err != nil {
		return err
	}
	_, err := d.folder.Put(ctx, layout.BlobKey(content), o)
	if errors.Is(err, bucket.ErrDiffers) {
		err = d.folder.Replace(ctx, layout.BlobKey(content), o)
	}
	if err != nil {
		return err
	}
	d.note(content)
	return nil
}

// mark makes the folder an OCI image layout before anything is in it: whoever
// comes again knows it by that.
func (d *Dir) mark(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.marked {
		return nil
	}
	marker := bucket.Bytes([]byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`))
	_, err := d.folder.Put(ctx, layout.KeyLayout, marker)
	if err == nil || errors.Is(err, bucket.ErrDiffers) { // check has read it
		d.marked = true
		return nil
	}
	return err
}

// Manifest implements restore.Target.
func (d *Dir) Manifest(ctx context.Context, _ string, desc ocispec.Descriptor, raw []byte) error {
	return d.put(ctx, desc.Digest, bucket.Object{Size: desc.Size, Digest: desc.Digest, Content: strings.NewReader(string(raw))})
}

// Publish implements restore.Target. Flush makes it visible.
func (d *Dir) Publish(ctx context.Context, repo, tag string, desc ocispec.Descriptor, raw []byte) error {
	if err := d.Manifest(ctx, repo, desc, raw); err != nil {
		return err
	}
	if tag != "" {
		desc = layout.Named(desc, repo, tag)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.published = append(d.published, desc)
	return nil
}

// Flush replaces index.json, as often as another process comes in between. What was
// published of other repositories by then is in it as well.
func (d *Dir) Flush(ctx context.Context, _ string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.published) == 0 {
		return nil
	}
	const tries = 20
	for n := 1; ; n++ {
		err := d.swap(ctx)
		if err == nil {
			d.published = nil
			return nil
		}
		if !errors.Is(err, bucket.ErrChanged) || n == tries {
			return err
		}
		if err := d.load(ctx); err != nil {
			return err
		}
	}
}

func (d *Dir) swap(ctx context.Context) error {
	idx := merged(d.index, d.published)
	data, err := json.Marshal(idx)
	if err != nil {
		return err
	}
	etag, err := d.folder.Swap(ctx, layout.KeyIndex, d.etag, data)
	if err != nil {
		return err
	}
	d.index, d.etag = idx, etag
	return nil
}

// merged puts images into an index, each in place of what has its name.
func merged(idx ocispec.Index, list []ocispec.Descriptor) ocispec.Index {
	idx.Versioned, idx.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex
	key := func(desc ocispec.Descriptor) string { return cmp.Or(nameOf(desc), desc.Digest.String()) }
	fresh := map[string]ocispec.Descriptor{}
	for _, desc := range list {
		fresh[key(desc)] = desc
	}
	all := slices.DeleteFunc(slices.Clone(idx.Manifests), func(desc ocispec.Descriptor) bool {
		_, replaced := fresh[key(desc)]
		return replaced
	})
	for _, desc := range fresh {
		all = append(all, desc)
	}
	slices.SortStableFunc(all, func(a, b ocispec.Descriptor) int { return strings.Compare(key(a), key(b)) })
	idx.Manifests = all
	return idx
}

// stream reads a content that comes from its start, as an io.ReaderAt for one
// reader that goes forward.
type stream struct {
	ctx  context.Context // of the one call that it is for
	open restore.Open
	body io.ReadCloser
	at   int64
}

func (s *stream) ReadAt(p []byte, offset int64) (int, error) {
	if s.body == nil || offset != s.at {
		s.close()
		body, err := s.open(s.ctx)
		if err != nil {
			return 0, err
		}
		s.body, s.at = body, 0
		n, err := io.CopyN(io.Discard, body, offset)
		if s.at = n; err != nil {
			return 0, err
		}
	}
	n, err := io.ReadFull(s.body, p)
	s.at += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

func (s *stream) close() {
	if s.body != nil {
		_ = s.body.Close() // it was read, and what it says was heard
	}
}
