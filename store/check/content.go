package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/store"
	"lastro/store/layout"
)

// readers is how many contents are read at the same time.
const readers = 2

// block is what is read at once.
type block [256 << 10]byte

var buffers = sync.Pool{New: func() any { return new(block) }}

// badContent is content that is missing or wrong.
type badContent struct {
	lack
	repos  map[string]bool // that need it
	info   fs.FileInfo     // the file that was read; nil: there is none
	taken  string          // where its bytes lie since they were taken out of service; "": they were not
	source string          // that it was brought from
	healed bool
}

type orphan struct {
	size int64
	age  time.Duration
}

// doubt notes content that seems missing or wrong, and who needs it.
func (c *check) doubt(l lack, repo string) *badContent {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.bad[l.Digest]
	if b == nil {
		b = &badContent{lack: l, repos: map[string]bool{}}
		c.bad[l.Digest] = b
	}
	if b.Size == 0 {
		b.Size, b.MediaType = l.Size, l.MediaType
	}
	b.Manifest = b.Manifest || l.Manifest
	if repo != "" {
		b.repos[repo] = true
	}
	return b
}

// contents looks at every file of content, and reads those of the part.
func (c *check) contents(parent context.Context) error {
	g, ctx := errgroup.WithContext(parent)
	g.SetLimit(readers)
	c.orphans = map[digest.Digest]orphan{}
	for _, algorithm := range c.entries(layout.Blobs) {
		for _, two := range c.entries(path.Join(layout.Blobs, algorithm.Name())) {
			dir := path.Join(layout.Blobs, algorithm.Name(), two.Name())
			for _, e := range c.entries(dir) {
				d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm.Name()), e.Name())
				if d.Validate() != nil || !strings.HasPrefix(e.Name(), two.Name()) {
					c.foreign(path.Join(dir, e.Name()))
					continue
				}
				if ctx.Err() == nil {
					c.content(ctx, d, g)
				}
			}
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return parent.Err() // it may have ended while nothing was being read
}

// content looks at one file of content.
func (c *check) content(ctx context.Context, d digest.Digest, g *errgroup.Group) {
	if c.glance(ctx) != nil {
		return
	}
	info, err := c.disk.Stat(layout.Data(d))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			c.unreadable(layout.Data(d), err)
		}
		return
	}
	if !c.known[d] {
		if !c.whole() {
			return
		}
		if age := c.o.Now().Sub(info.ModTime()); age > settled {
			c.orphans[d] = orphan{info.Size(), age}
		}
	}
	c.out.Blobs++
	c.out.Bytes += info.Size()
	if !c.again[d] && (c.o.Parts < 1 || number(d)%uint64(c.o.Parts) != uint64(c.o.Part-1)) {
		return
	}
	c.out.ReadBlobs++
	c.out.ReadBytes += info.Size()
	c.o.Progress.Plan(1, info.Size())
	g.Go(func() error { return c.readContent(ctx, store.Content{Descriptor: descriptor(d)}) })
}

// readContent reads one content of the part.
func (c *check) readContent(ctx context.Context, of store.Content) error {
	info, l, err := c.hash(ctx, of)
	if l.kind == Corrupt && c.takes() {
		info, l, err = c.hash(ctx, of) // once may be the disk's mood
	}
	if err != nil || l.kind == "" || l.kind == Missing {
		c.o.Progress.Done(of.Digest.String(), err)
		return err
	}
	c.o.Progress.Done(of.Digest.String(), errors.New(l.detail))
	b := c.doubt(l, "")
	if l.kind == Corrupt && c.takes() {
		b.info = info
		return c.takeOut(ctx, b)
	}
	return nil
}

// takes reports whether bad content is to be taken out of service.
func (c *check) takes() bool { return c.o.Repair || c.o.Quarantine }

func descriptor(d digest.Digest) ocispec.Descriptor { return ocispec.Descriptor{Digest: d} }

// hash reads content and says what is wrong with it; no kind is nothing. info
// describes the file that was read. Its error is ctx's.
func (c *check) hash(ctx context.Context, of store.Content) (info fs.FileInfo, l lack, err error) {
	l = lack{Content: of}
	f, err := c.OpenContent(ctx, of.Digest)
	if err == nil {
		defer f.Close()
		forget(f)
		defer forget(f)
		info, err = f.Stat()
	}
	got := of.Digest
	if err == nil {
		got, err = c.sum(ctx, f, of.Digest.Algorithm())
	}
	switch {
	case ctx.Err() != nil:
		return info, l, ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		l.kind, l.detail = Missing, "it is not here"
	case err != nil:
		l.kind, l.detail = Unreadable, err.Error()
	case got != of.Digest && info.Size() < of.Size:
		l.kind, l.detail = Truncated, fmt.Sprintf("it has %d bytes of %d, and they hash to %s", info.Size(), of.Size, got)
	case got != of.Digest:
		l.kind, l.detail = Corrupt, fmt.Sprintf("its %d bytes hash to %s", info.Size(), got)
	case of.Size > 0 && info.Size() != of.Size:
		l.kind, l.detail = Malformed, fmt.Sprintf("it is right and has %d bytes, where a manifest says %d", info.Size(), of.Size)
	}
	return info, l, nil
}

// sum hashes a file. It ends soon after ctx does.
func (c *check) sum(ctx context.Context, f io.Reader, a digest.Algorithm) (digest.Digest, error) {
	buf := buffers.Get().(*block)
	defer buffers.Put(buf)
	h := a.Hash()
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.Read(buf[:c.o.Pace.most(len(buf))])
		h.Write(buf[:n])
		c.o.Progress.Bytes(int64(n))
		if err := c.o.Pace.spend(ctx, n); err != nil {
			return "", err
		}
		if err == io.EOF {
			return digest.NewDigest(a, h), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// strike takes off the list of orphans what any repository links by now.
func (c *check) strike(ctx context.Context) error {
	if len(c.orphans) == 0 {
		return nil
	}
	err := c.disk.Folders(ctx, func(repo string, _ []string) error {
		for _, d := range append(c.digests(layout.Layers(repo)), c.digests(layout.Revisions(repo))...) {
			delete(c.orphans, d)
		}
		return ctx.Err()
	}, c.unreadable, "_manifests", "_layers")
	if err != nil {
		return err
	}
	for d, o := range c.orphans {
		c.found(Problem{Kind: Orphaned, Digest: d, Path: layout.Data(d), Age: o.age.Seconds(),
			Detail: fmt.Sprintf("nothing refers to its %d bytes, written %s ago", o.size, o.age.Round(time.Minute))})
	}
	return nil
}

// uploads looks for sessions that were left.
func (c *check) uploads(repo string) {
	dir := path.Join(layout.Repositories, repo, "_uploads")
	for _, e := range c.entries(dir) {
		name := path.Join(dir, e.Name())
		var last time.Time
		for _, n := range []string{name, name + "/data"} {
			if info, err := c.disk.Stat(n); err == nil && info.ModTime().After(last) {
				last = info.ModTime()
			}
		}
		if age := c.o.Now().Sub(last); !last.IsZero() && age > forgotten {
			c.found(Problem{Kind: Abandoned, Repo: repo, Path: name, Age: age.Seconds(), Detail: "an upload that nobody has added to for " + age.Round(time.Hour).String()})
		}
	}
}

// partials looks for downloads that were left.
func (c *check) partials(context.Context) error {
	if !c.whole() {
		return nil
	}
	all, err := c.Partials()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.unreadable("partial", err)
	}
	for _, p := range all {
		if age := c.o.Now().Sub(p.Time); age > forgotten {
			c.found(Problem{Kind: Abandoned, Path: p.Name, Age: age.Seconds(), Detail: "a download that nobody has added to for " + age.Round(time.Hour).String()})
		}
	}
	return nil
}
