package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
)

// Disk is the registry's files as they are now, past all that is remembered of
// them. Names are those of package layout.
type Disk struct{ tree *layout.Tree }

// Disk returns the files under the store.
func (s *Store) Disk() Disk { return Disk{s.tree} }

// ErrEmptyLink says that a link is there and holds nothing, which counts as
// absent. It is fs.ErrNotExist as well.
var ErrEmptyLink = fmt.Errorf("the link is empty: %w", fs.ErrNotExist)

// ErrLink says that a link holds something other than a digest.
var ErrLink = errors.New("the link holds no digest")

// longestLink is more than any digest takes.
const longestLink = 256

// Link reads a link; fs.ErrNotExist, [ErrEmptyLink], [ErrLink].
func (k Disk) Link(name string) (digest.Digest, error) {
	f, err := k.tree.OpenFile(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, longestLink))
	if err != nil {
		return "", err
	}
	if len(raw) == 0 {
		return "", ErrEmptyLink
	}
	d := digest.Digest(bytes.TrimSpace(raw))
	if err := layout.CheckDigest(d); err != nil {
		return "", fmt.Errorf("%w: %w", ErrLink, err)
	}
	return d, nil
}

// Stat describes a file; fs.ErrNotExist.
func (k Disk) Stat(name string) (fs.FileInfo, error) { return k.tree.Stat(name) }

// Entries lists a folder, ordered by name; an absent folder is empty.
func (k Disk) Entries(name string) ([]fs.DirEntry, error) { return k.tree.Entries(name) }

// Has reports whether content with this size was ingested. Unlike [Store.Has] it
// tells nobody: what is condemned stays so.
func (k Disk) Has(desc ocispec.Descriptor) (bool, error) {
	if err := layout.CheckDigest(desc.Digest); err != nil {
		return false, err
	}
	return k.tree.Has(desc)
}

// Folders calls f for every repository's folder that holds one of the names, with
// those that it holds. A folder that cannot be listed is given to unreadable,
// and the rest follows. Only the error of ctx or of f ends it.
func (k Disk) Folders(ctx context.Context, f func(repo string, holds []string) error, unreadable func(name string, err error), names ...string) error {
	return k.folders(ctx, "", names, f, unreadable)
}

func (k Disk) folders(ctx context.Context, repo string, names []string, f func(string, []string) error, unreadable func(string, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := path.Join(layout.Repositories, repo)
	entries, err := k.tree.Entries(dir)
	if err != nil {
		unreadable(dir, err)
		return nil
	}
	var holds, below []string
	for _, e := range entries {
		for _, name := range names {
			if e.Name() == name {
				holds = append(holds, name)
			}
		}
		if e.IsDir() && !strings.HasPrefix(e.Name(), "_") {
			below = append(below, e.Name())
		}
	}
	if len(holds) > 0 && repo != "" {
		if err := f(repo, holds); err != nil {
			return err
		}
	}
	for _, name := range below {
		if err := k.folders(ctx, path.Join(repo, name), names, f, unreadable); err != nil {
			return err
		}
	}
	return nil
}

// Partial is unfinished content in <data>/partial.
type Partial struct {
	Name string // below <data>
	Size int64
	Time time.Time // when somebody last added to it
}

// Partials are the unfinished contents. What waits for a barrier is among them.
func (s *Store) Partials() (all []Partial, err error) {
	dir := filepath.Join(filepath.Dir(s.lock.Name()), "partial")
	algorithms, err := os.ReadDir(dir)
	for _, a := range algorithms {
		if !a.IsDir() || a.Name() == "tmp" {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(dir, a.Name()))
		if err != nil {
			return all, err
		}
		for _, e := range entries {
			// One that has gone by now is no longer unfinished.
			if info, err := e.Info(); err == nil {
				all = append(all, Partial{path.Join("partial", a.Name(), e.Name()), info.Size(), info.ModTime()})
			}
		}
	}
	return all, err
}

// Quiet runs f while nobody publishes into a repository or takes something out of
// it, and, unless tag is empty, nobody moves that tag. f calls none of the
// methods that do so.
func (s *Store) Quiet(repo, tag string, f func() error) error {
	defer s.shut(repo)()
	if tag != "" {
		defer s.tags.lock(repo + ":" + tag)()
	}
	return f()
}

// Republish serves a manifest again, with the blobs that it refers to, and records
// it: what a publication without a tag does. All of it must be here. It is to be
// called in [Store.Quiet].
func (s *Store) Republish(ctx context.Context, repo string, m mirror.Manifest) error {
	p := mirror.Publication{Repo: repo, Root: m.Descriptor, Manifests: []mirror.Manifest{m}}
	if err := s.checkPublication(ctx, p); err != nil {
		return err
	}
	blobs, err := s.blobs(ctx, p)
	if err != nil {
		return err
	}
	if err := s.ledger.RecordGraph(ctx, repo, p.Manifests, nil); err != nil {
		return err
	}
	if err := s.link(ctx, p, blobs); err != nil {
		return err
	}
	if err := s.endAbsence(ctx, repo, m.Descriptor.Digest); err != nil {
		return err
	}
	return s.tree.Barrier()
}

// Relink makes a link of a repository say d again, durably, whatever it says now.
// It is to be called in [Store.Quiet].
func (s *Store) Relink(name string, d digest.Digest) error {
	return layout.Explain(s.tree.LinkDurably(name, d))
}

// DropLink removes a link with its folder, durably. It is to be called in [Store.Quiet].
func (s *Store) DropLink(name string) error { return s.tree.Remove(path.Dir(name)) }

// AdoptTag records where a tag is on disk. It is to be called in [Store.Quiet].
func (s *Store) AdoptTag(ctx context.Context, repo, tag string, d, previous digest.Digest) error {
	return s.ledger.RecordEvent(ctx, ledger.Event{Time: s.now(), Repo: repo, Tag: tag, Digest: d, Previous: previous,
		Event: ledger.Adopted, By: "check", Reason: "found in the registry's files"})
}

// Quarantine is where content lies that was taken out of service, below
// <data>/registry. A registry does not look there.
const Quarantine = "quarantine"

// TakeOut takes content out of service that was found bad: it moves the file to
// [Quarantine] in one step, and says where it lies. bad describes the file that was
// read; when another one has its name by now nothing is taken, and taken is false.
// Who asks for the content finds it absent, and who brings it again stores it.
func (s *Store) TakeOut(ctx context.Context, d digest.Digest, bad fs.FileInfo) (name string, taken bool, err error) {
	if err := layout.CheckDigest(d); err != nil {
		return "", false, err
	}
	name = s.freeName(path.Join(Quarantine, d.Algorithm().String(), d.Encoded()))
	data := "/" + layout.Data(d)
	if err := s.tree.Driver().Move(ctx, data, "/"+name); err != nil {
		return "", false, fmt.Errorf("take %s out of service: %w", d, err)
	}
	info, err := s.tree.Stat(name)
	if err != nil || !os.SameFile(info, bad) {
		// It came again after it was read.
		return "", false, errors.Join(err, s.tree.Driver().Move(ctx, "/"+name, data))
	}
	return name, true, s.tree.Barrier()
}

// freeName is a name that nothing has.
func (s *Store) freeName(name string) string {
	for n, free := 1, name; ; n++ {
		if _, err := s.tree.Stat(free); err != nil {
			return free
		}
		free = name + "." + strconv.Itoa(n)
	}
}

// Settle makes what was ingested durable and gives it its name.
func (s *Store) Settle(ds ...digest.Digest) error { return s.tree.Settle(ds...) }
