package ledger

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// TagPage is the names of up to limit tags of repo that come after a name,
// which need not be one of them, ordered bytewise; and whether more follow. An
// empty after is the start. It costs what it returns, wherever it starts. A page
// of more than [file.PageSize] names is read in several transactions.
func (l *Ledger) TagPage(ctx context.Context, repo, after string, limit int) (names []string, more bool, err error) {
	names, more, err = l.namePage(ctx, after, limit, func(tx *bolt.Tx, after string, limit int) ([]string, bool, error) {
		names, more := tagsAfter(tx, repo, after, limit)
		return names, more, nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("tags of %s in the ledger: %w", repo, err)
	}
	return names, more, nil
}

// RepositoryPage is the same of the repositories that have a tag or hold a
// manifest. They are ordered as a walk of their folders: by path elements, so
// that "a/b" comes before "a-b". Repositories, which orders names bytewise, has
// them the other way round.
func (l *Ledger) RepositoryPage(ctx context.Context, after string, limit int) (names []string, more bool, err error) {
	names, more, err = l.namePage(ctx, after, limit, repositoriesAfter)
	if err != nil {
		return nil, false, fmt.Errorf("repositories in the ledger: %w", err)
	}
	return names, more, nil
}

// Holds reports whether a repository has a tag or holds a manifest.
func (l *Ledger) Holds(ctx context.Context, repo string) (held bool, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		prefix := namePrefix(repo)
		k, _ := tx.Bucket([]byte(bucketTag)).Cursor().Seek(prefix)
		if held = bytes.HasPrefix(k, prefix); held {
			return nil
		}
		g, err := readGraph(tx)
		if err == nil {
			k, _ = g.link.Cursor().Seek(prefix)
			held = bytes.HasPrefix(k, prefix)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("repository %s in the ledger: %w", repo, err)
	}
	return held, nil
}

// namePage reads limit names, so many in a transaction that it is short.
func (l *Ledger) namePage(ctx context.Context, after string, limit int, read func(tx *bolt.Tx, after string, limit int) ([]string, bool, error)) (names []string, more bool, err error) {
	for more = true; more; after = names[len(names)-1] {
		var page []string
		err := l.view(ctx, func(tx *bolt.Tx) (err error) {
			page, more, err = read(tx, after, min(limit-len(names), file.PageSize))
			return err
		})
		names = append(names, page...)
		if err != nil || len(names) >= limit || len(page) == 0 {
			return names, more, err
		}
	}
	return names, more, nil
}

func tagsAfter(tx *bolt.Tx, repo, after string, limit int) (names []string, more bool) {
	prefix := namePrefix(repo)
	c := tx.Bucket([]byte(bucketTag)).Cursor()
	from := append(bytes.Clone(prefix), after...)
	if after != "" {
		from = append(from, 0)
	}
	for k, _ := c.Seek(from); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		if len(names) >= limit {
			return names, true
		}
		names = append(names, string(k[len(prefix):]))
	}
	return names, false
}

func repositoriesAfter(tx *bolt.Tx, after string, limit int) (names []string, more bool, err error) {
	g, err := readGraph(tx)
	if err != nil {
		return nil, false, err
	}
	// To a walk, a zero ends a path element as a slash does.
	w := walk{tx.Bucket([]byte(bucketTag)).Cursor(), g.link.Cursor()}
	for name, ok := w.after(strings.ReplaceAll(after, "\x00", "/")); ok; name, ok = w.after(name) {
		if len(names) >= limit {
			return names, true, nil
		}
		names = append(names, name)
	}
	return names, false, nil
}

// walk goes through the names that two buckets' keys start with, in the order
// of their paths. The keys are ordered bytewise, in which what is in "a/" comes
// after "a-b" and "a.b": the walk seeks where the two orders part.
type walk struct{ a, b *bolt.Cursor }

// after is the repository that follows a name, which may be none.
func (w walk) after(name string) (next string, ok bool) {
	if name == "" {
		return w.in("", "", false)
	}
	if next, ok := w.in(name+"/", "", false); ok {
		return next, true
	}
	for {
		cut := strings.LastIndexByte(name, '/') + 1
		if next, ok := w.in(name[:cut], name[cut:], true); ok || cut == 0 {
			return next, ok
		}
		name = name[:cut-1]
	}
}

// in is the first repository in a folder – "" or with a slash at its end – or in
// folders in it: of the elements that come after one, if isAfter, else of all.
func (w walk) in(folder, element string, isAfter bool) (name string, ok bool) {
	from := folder
	if isAfter {
		from += element + "\x01"
	}
	found, isFolder, ok := w.element(folder, from)
	for ok && isAfter && found <= element {
		found, isFolder, ok = w.element(folder, folder+found+"0") // what comes after the slash
	}
	if !ok {
		return "", false
	}
	if shorter, ok := w.shorter(folder, found, element); ok {
		found, isFolder = shorter, true
	}
	if isFolder {
		return w.in(folder+found+"/", "", false)
	}
	return folder + found, true
}

// element is what the first key from a place on has below folder: the name of
// a folder or of a repository.
func (w walk) element(folder, from string) (name string, isFolder, ok bool) {
	key := w.seek(from)
	if key == nil || !bytes.HasPrefix(key, []byte(folder)) {
		return "", false, false
	}
	found := string(key[len(folder):])
	end := strings.IndexAny(found, "/\x00")
	return found[:end], found[end] == '/', true
}

// shorter is the first of the folders whose names are a start of element and
// come after another: their keys come after those of element.
func (w walk) shorter(folder, element, after string) (name string, ok bool) {
	for i := range len(element) {
		if element[i] >= '/' || element[:i] <= after {
			continue
		}
		if inside := folder + element[:i] + "/"; bytes.HasPrefix(w.seek(inside), []byte(inside)) {
			return element[:i], true
		}
	}
	return "", false
}

func (w walk) seek(from string) []byte { return first(w.a, w.b, []byte(from)) }
