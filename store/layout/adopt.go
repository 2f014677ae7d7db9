package layout

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Adopt makes the file of a finished upload the content of d, and says how long
// it is. upload is its name in the tree, in an _uploads folder; nobody may write
// to it any more. When Adopt returns, the content is whole and has its name, and
// a power cut leaves it so once a barrier has passed, as with Ingest.
//
// The file is hashed once. When it has another digest, which is ErrDigest, or
// ctx ends, it stays as it is. When the content is here already it stays too:
// the caller removes it with the upload. A file that the disk did not take is
// removed, because the page cache would vouch for it.
func (t *Tree) Adopt(ctx context.Context, upload string, d digest.Digest) (size int64, err error) {
	if err := CheckDigest(d); err != nil {
		return 0, err
	}
	if !isUpload(upload) {
		return 0, fmt.Errorf("%q is not the file of an upload", upload)
	}
	f, err := t.root.OpenFile(upload, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, onDisk(err)
	}
	defer f.Close()
	if size, err = verify(ctx, f, d); err != nil {
		return 0, err
	}
	return size, t.name(f, upload, ocispec.Descriptor{Digest: d, Size: size})
}

// isUpload reports whether name is a file of an upload in a repository.
func isUpload(name string) bool {
	rest, ok := strings.CutPrefix(name, Repositories+"/")
	return ok && fs.ValidPath(name) && strings.Contains(rest, "/_uploads/")
}

// verify hashes a file.
func verify(ctx context.Context, f *os.File, d digest.Digest) (size int64, err error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	h := d.Algorithm().Hash()
	if size, err = hashFrom(ctx, h, f, buf[:]); err != nil {
		return 0, err
	}
	if got := digest.NewDigest(d.Algorithm(), h); got != d {
		return 0, fmt.Errorf("%w: got %s, want %s", ErrDigest, got, d)
	}
	return size, nil
}

// hashFrom hashes a file from its start.
func hashFrom(ctx context.Context, h hash.Hash, f *os.File, buf []byte) (size int64, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := f.ReadAt(buf, size)
		h.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			return size, nil
		}
		if err != nil {
			return 0, onDisk(err)
		}
	}
}

// name gives verified content its name, unless there is such content.
func (t *Tree) name(f *os.File, upload string, desc ocispec.Descriptor) error {
	if _, waits := t.waiting.size(desc.Digest); waits {
		if err := t.Settle(desc.Digest); err != nil {
			return onDisk(err)
		}
	}
	has, err := t.Has(desc)
	if err != nil || has {
		return onDisk(err)
	}
	if err := t.syncData(f, upload); err != nil {
		return onDisk(errors.Join(err, t.root.Remove(upload)))
	}
	if err := t.step("rename", Data(desc.Digest)); err != nil {
		return onDisk(err)
	}
	return onDisk(t.root.take(t.root.folder, upload, Data(desc.Digest)))
}
