package folder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"lastro/store/vault/bucket"
)

const (
	tmpDir   = ".tmp"
	lockFile = ".lock"
)

// Options are what Open can be told. The zero value is fine.
type Options struct {
	What string // what the folder is, in errors; "": a vault
	Sent func() // called once for each call, as for a request to a server
	// Step is called before each step that changes the disk; its error stops the
	// call there. For tests.
	Step func(op, key string) error
}

func (o Options) filled() Options {
	if o.Sent == nil {
		o.Sent = func() {}
	}
	if o.Step == nil {
		o.Step = func(string, string) error { return nil }
	}
	return o
}

// folder is a bucket in a folder of the file system.
type folder struct {
	path string
	o    Options

	mu     sync.Mutex
	root   *os.Root        // nil until the folder is there
	synced map[string]bool // folders known to be there durably
	swept  bool
}

var _ bucket.Bucket = (*folder)(nil)

// Open returns the bucket in a folder, an absolute path. The first write makes it.
func Open(path string, o Options) bucket.Bucket {
	return &folder{path: path, o: o.filled(), synced: map[string]bool{}}
}

func (f *folder) String() string { return "file://" + f.path }

// open returns the root, which reading never creates.
func (f *folder) open() (*os.Root, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.root != nil {
		return f.root, nil
	}
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return nil, err
	}
	f.root = root
	return root, nil
}

func (f *folder) fail(op, key string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("%w: %w", bucket.ErrFull, err)
	}
	var content *bucket.ContentError
	if errors.As(err, &content) {
		return fmt.Errorf("%s %s: %w", op, key, err) // not the vault's fault
	}
	return fmt.Errorf("%s %s: %s %s: %w", cmp.Or(f.o.What, "vault"), f, op, key, err)
}

// Load implements Reader; the ETag is the SHA-256 of the bytes.
func (f *folder) Load(ctx context.Context, key string) (bucket.Record, error) {
	f.o.Sent()
	rec, err := f.load(ctx, key)
	if err != nil {
		return rec, f.fail("read", key, err)
	}
	return rec, ctx.Err()
}

func (f *folder) load(ctx context.Context, key string) (bucket.Record, error) {
	file, err := f.file(key)
	if err != nil {
		return bucket.Record{}, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() > bucket.MaxRecord {
		return tooLarge(ctx, file, err)
	}
	data, err := io.ReadAll(io.LimitReader(file, bucket.MaxRecord))
	return bucket.Record{Data: data, ETag: etag(data)}, err
}

// tooLarge only names the state of a record.
func tooLarge(ctx context.Context, file io.Reader, err error) (bucket.Record, error) {
	h := sha256.New()
	if err == nil {
		_, err = io.Copy(h, readerFunc(ctx, file))
	}
	if err != nil {
		return bucket.Record{}, err
	}
	return bucket.Record{ETag: hex.EncodeToString(h.Sum(nil))}, bucket.ErrTooLarge
}

func etag(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

var errNoFile = errors.New("not a regular file")

// file opens a regular file: a fifo or device in its place would block.
func (f *folder) file(key string) (*os.File, error) {
	root, err := f.open()
	if err != nil {
		return nil, err
	}
	file, err := root.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: key, Err: errNoFile}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Get implements Reader.
func (f *folder) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	f.o.Sent()
	file, err := f.file(key)
	if err != nil {
		return nil, bucket.Info{}, f.fail("read", key, err)
	}
	info, err := file.Stat()
	if err == nil {
		_, err = file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, bucket.Info{}, f.fail("read", key, errors.Join(err, file.Close()))
	}
	return &stream{ctx, f, key, file}, bucket.Info{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil
}

// stream is a file whose reading ends with its context.
type stream struct {
	ctx  context.Context // the stream's own life time, as with an HTTP body
	f    *folder
	key  string
	file *os.File
}

func (s *stream) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.file.Read(p)
	if err != nil && err != io.EOF {
		err = s.f.fail("read", s.key, err)
	}
	return n, err
}

func (s *stream) Close() error { return s.file.Close() }

// List implements Reader. A folder that is not there is an empty bucket.
func (f *folder) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		f.o.Sent()
		root, err := f.open()
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err == nil {
			err = f.walk(ctx, root, prefix, yield)
		}
		if err != nil && !errors.Is(err, fs.SkipAll) {
			yield(bucket.Info{}, f.fail("list", prefix, err))
		}
	}
}

func (f *folder) walk(ctx context.Context, root *os.Root, prefix string, yield func(bucket.Info, error) bool) error {
	start := "."
	if i := strings.LastIndexByte(prefix, '/'); i > 0 {
		start = prefix[:i]
	}
	return fs.WalkDir(root.FS(), start, func(key string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone while we looked
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if e.IsDir() {
			return outside(key, prefix)
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || key == lockFile || !strings.HasPrefix(key, prefix) {
			return nil
		}
		if !yield(bucket.Info{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil) {
			return fs.SkipAll
		}
		return nil
	})
}

// outside skips folders that hold nothing under prefix.
func outside(dir, prefix string) error {
	if dir == tmpDir {
		return fs.SkipDir
	}
	if dir = path.Clean(dir) + "/"; dir == "./" || strings.HasPrefix(dir, prefix) || strings.HasPrefix(prefix, dir) {
		return nil
	}
	return fs.SkipDir
}
