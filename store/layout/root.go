package layout

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	// linksBytes is how much is remembered of links: some 150 000 of them.
	linksBytes = 32 << 20
	// sizesBytes is how much is remembered of the sizes of content: some 60 000.
	sizesBytes = 8 << 20
	// overhead is what a map takes for an entry beside the bytes of its strings.
	overhead = 64
)

// root is a registry's folder. It remembers what links say and how long content
// is; every method that changes a name or a file says so to both memories.
type root struct {
	folder
	links *cache[digest.Digest] // by name
	sizes *cache[int64]         // by digest
}

func openRoot(name string) (*root, error) {
	f, err := openFolder(name)
	if err != nil {
		return nil, err
	}
	return &root{
		folder: f,
		links:  newCache(linksBytes, func(name string, d digest.Digest) int { return len(name) + len(d) + overhead }),
		sizes:  newCache(sizesBytes, func(d string, _ int64) int { return len(d) + overhead }),
	}, nil
}

// change is to be called before a name changes, with all that is below it, and
// the function that it returns after.
func (r *root) change(name string) (end func()) {
	name = path.Clean(name)
	switch reach, key := reachOf(name); reach {
	case oneLink:
		return r.links.change(key)
	case oneContent:
		return r.sizes.change(key)
	case many:
		links := r.links.changeAll(func(key string) bool { return name == "." || strings.HasPrefix(key, name+"/") })
		sizes := r.sizes.changeAll(func(string) bool { return true })
		return func() { links(); sizes() }
	}
	return func() {}
}

func (r *root) create(name string, data []byte) error {
	defer r.change(name)()
	return r.folder.create(name, data)
}

func (r *root) take(from folder, name, to string) error {
	defer r.change(to)()
	return r.folder.take(from, name, to)
}

// Remove removes a file or an empty folder.
func (r *root) Remove(name string) error {
	defer r.change(name)()
	return r.folder.Remove(name)
}

// RemoveAll removes a file or a folder with all in it.
func (r *root) RemoveAll(name string) error {
	defer r.change(name)()
	return r.folder.RemoveAll(name)
}

// Rename moves a file or a folder with all in it.
func (r *root) Rename(from, to string) error {
	defer r.change(from)()
	defer r.change(to)()
	return r.folder.Rename(from, to)
}

// OpenFile opens a file. Who writes to it announces each change.
func (r *root) OpenFile(name string, flags int, mode fs.FileMode) (*os.File, error) {
	if flags&(os.O_CREATE|os.O_TRUNC) != 0 {
		defer r.change(name)()
	}
	return r.folder.OpenFile(name, flags, mode)
}

// reach is what of the memories a change of a name touches.
type reach int

const (
	nothing    reach = iota
	oneLink          // the link with the key, and no other
	oneContent       // the content with the key, and no other
	many             // whatever is below the name
)

// reachOf is decided by the shape of a name alone: links and content have
// names of a fixed depth below their repository or below blobs.
func reachOf(name string) (reach, string) {
	if rest, ok := strings.CutPrefix(name, Repositories+"/"); ok {
		repo := strings.Index(rest, "/_")
		if repo < 0 {
			return many, ""
		}
		return reachIn(name, strings.Split(rest[repo+1:], "/"))
	}
	if rest, ok := strings.CutPrefix(name, Blobs+"/"); ok {
		return reachOfContent(strings.Split(rest, "/"))
	}
	if name == "." || name == Blobs || strings.HasPrefix(Repositories, name) {
		return many, ""
	}
	return nothing, ""
}

// reachIn is reachOf for what lies in a repository, by the elements below it.
func reachIn(name string, below []string) (reach, string) {
	depth := len(below)
	switch {
	case depth > 5:
		return nothing, ""
	case below[0] == "_layers":
		return reachOfLink(name, depth, 3)
	case below[0] != "_manifests":
		return nothing, ""
	case depth == 1:
		return many, ""
	case below[1] == "revisions":
		return reachOfLink(name, depth, 4)
	case below[1] != "tags" || depth > 3 && below[3] != "current":
		return nothing, ""
	case depth == 3:
		return oneLink, name + "/current/link"
	}
	return reachOfLink(name, depth, 4)
}

// reachOfLink is reachOf for a name where folders of one link are so deep.
func reachOfLink(name string, depth, folder int) (reach, string) {
	switch {
	case depth < folder:
		return many, ""
	case depth == folder:
		return oneLink, name + "/link"
	case depth == folder+1 && path.Base(name) == "link":
		return oneLink, name
	}
	return nothing, ""
}

// reachOfContent is reachOf for what lies in blobs, by the elements below it.
func reachOfContent(below []string) (reach, string) {
	switch {
	case len(below) < 3:
		return many, ""
	case len(below) == 3, len(below) == 4 && below[3] == "data":
		return oneContent, below[0] + ":" + below[2]
	}
	return nothing, ""
}

// maxLink is more than any digest takes.
const maxLink = 256

// ReadLink returns the digest in a link. An absent or empty one is
// fs.ErrNotExist. What was read is remembered until this tree, or its driver,
// changes the link; a change by others may not be seen.
func (t *Tree) ReadLink(name string) (digest.Digest, error) {
	d, mark, ok := t.root.links.get(name)
	if ok {
		return d, nil
	}
	d, err := t.root.readLink(name)
	if err != nil {
		return "", err
	}
	if reach, key := reachOf(name); reach == oneLink && key == name && fs.ValidPath(name) {
		t.root.links.keep(name, d, mark)
	}
	return d, nil
}

// readLink reads a link from the disk.
func (r *root) readLink(name string) (digest.Digest, error) {
	var raw [maxLink]byte
	n, err := r.read(name, raw[:])
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", &fs.PathError{Op: "read empty link", Path: name, Err: fs.ErrNotExist}
	}
	d := digest.Digest(bytes.TrimSpace(raw[:n]))
	if err := CheckDigest(d); err != nil {
		return "", fmt.Errorf("link %s: %w", name, err)
	}
	return d, nil
}

// Size is how long content is that is stored, or waits for a barrier;
// fs.ErrNotExist. It is remembered as a link is.
func (t *Tree) Size(d digest.Digest) (int64, error) {
	if size, ok := t.waiting.size(d); ok {
		return size, nil
	}
	size, mark, ok := t.root.sizes.get(string(d))
	if ok {
		return size, nil
	}
	if err := CheckDigest(d); err != nil {
		return 0, err
	}
	size, err := t.root.size(Data(d))
	if err == nil {
		t.root.sizes.keep(string(d), size, mark)
	}
	return size, err
}
