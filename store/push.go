package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"lastro/store/layout"
	"lastro/store/ledger"
)

// Mount lets repo serve a blob that from serves; fs.ErrNotExist when it does
// not. It is durable from the repository's next publication on.
func (s *Store) Mount(ctx context.Context, from, repo string, d digest.Digest) error {
	serves, err := s.ServesBlob(ctx, from, d)
	if err == nil && !serves {
		err = fs.ErrNotExist
	}
	if err == nil {
		err = s.linkBlob(repo, d)
	}
	if err != nil {
		return fmt.Errorf("mount %s from %s into %s: %w", d, from, repo, err)
	}
	return nil
}

// ServesBlob reports whether repo serves a blob.
func (s *Store) ServesBlob(_ context.Context, repo string, d digest.Digest) (bool, error) {
	if err := errors.Join(layout.CheckRepository(repo), layout.CheckDigest(d)); err != nil {
		return false, err
	}
	s.sentences.tell(repo, d, s.now)
	err := s.linked(layout.Layer(repo, d), d)
	if err == nil {
		_, err = s.tree.Stat(layout.Data(d))
	}
	return err == nil, ignoreGone(err)
}

// ServedBlob is a repository among those that may is true for, and that serves
// a blob; "" when there is none. When the blob is here at all it looks at the
// folder of every repository.
func (s *Store) ServedBlob(ctx context.Context, d digest.Digest, may func(repo string) bool) (string, error) {
	if err := layout.CheckDigest(d); err != nil {
		return "", err
	}
	if _, err := s.tree.Stat(layout.Data(d)); err != nil {
		return "", ignoreGone(err)
	}
	found := ""
	err := s.folders(ctx, "_layers", func(repo string) (more bool, err error) {
		if layout.CheckRepository(repo) != nil {
			return true, nil
		}
		serves, err := s.ServesBlob(ctx, repo, d)
		if serves && may(repo) {
			found = repo
		}
		return found == "", err
	})
	return found, err
}

// folders calls f for every repository that has a folder of this name, tagged
// or not, until there is no more to be seen.
func (s *Store) folders(ctx context.Context, name string, f func(repo string) (more bool, err error)) error {
	_, err := s.foldersBelow(ctx, "", name, f)
	return err
}

func (s *Store) foldersBelow(ctx context.Context, repo, name string, f func(string) (bool, error)) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	entries, err := s.tree.Entries(path.Join(layout.Repositories, repo))
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		switch {
		case e.Name() == name:
			more, err = f(repo)
		case e.IsDir() && !strings.HasPrefix(e.Name(), "_"):
			more, err = s.foldersBelow(ctx, path.Join(repo, e.Name()), name, f)
		default:
			continue
		}
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// Expect says that a blob is about to come into a repository by another way than
// this package's: what is condemned of it is taken back, and what is being removed is
// waited for. LinkBlob is to follow.
func (s *Store) Expect(repo string, d digest.Digest) { s.sentences.tell(repo, d, s.now) }

// LinkBlob lets repo serve a blob that came, if it does not already; fs.ErrNotExist
// when it is not here. It is durable from the repository's next publication on.
func (s *Store) LinkBlob(repo string, d digest.Digest) error {
	if err := s.linkBlob(repo, d); err != nil {
		return fmt.Errorf("link %s into %s: local registry: %w", d, repo, layout.Explain(err))
	}
	return nil
}

func (s *Store) linkBlob(repo string, d digest.Digest) error {
	if err := layout.CheckRepository(repo); err != nil {
		return err
	}
	defer s.gates.enter(repo)()
	s.sentences.tell(repo, d, s.now)
	if _, err := s.tree.Size(d); err != nil {
		return err
	}
	// Nothing needs it before its manifest comes.
	s.sentences.put(ledger.Review{Held: ledger.Held{Repo: repo, Digest: d}, Told: s.now(), Due: s.now(), Why: "it came before its manifest"})
	return s.tree.Link(layout.Layer(repo, d), d)
}

// Sessions of uploads lie where distribution has them.
func uploads(repo string) string { return path.Join(layout.Repositories, repo, "_uploads") }

func upload(repo, session string) string { return path.Join(uploads(repo), session) }

// AdoptUpload makes what was uploaded in a session a blob that repo serves, and
// ends the session. What does not hash to d is layout.ErrDigest, and goes; a
// session that is not there is fs.ErrNotExist. Nobody may write to the session
// any more.
func (s *Store) AdoptUpload(ctx context.Context, repo, session string, d digest.Digest) error {
	err := errors.Join(layout.CheckRepository(repo), layout.CheckDigest(d), checkSession(session))
	if err == nil {
		err = s.adoptUpload(ctx, repo, session, d)
	}
	if err != nil {
		return fmt.Errorf("upload %s of %s: local registry: %w", session, repo, layout.Explain(err))
	}
	return nil
}

func checkSession(session string) error {
	if session == "" || strings.ContainsAny(session, "/\\\x00") || strings.HasPrefix(session, ".") {
		return fmt.Errorf("%q is not a session: %w", session, fs.ErrNotExist)
	}
	return nil
}

func (s *Store) adoptUpload(ctx context.Context, repo, session string, d digest.Digest) error {
	s.sentences.tell(repo, d, s.now)
	_, err := s.tree.Adopt(ctx, upload(repo, session)+"/data", d)
	if err == nil {
		err = s.linkBlob(repo, d)
	}
	if err == nil || errors.Is(err, layout.ErrDigest) {
		err = errors.Join(err, s.DropUpload(ctx, repo, session))
	}
	return err
}

// DropUpload ends a session and forgets what was uploaded. One that is not there
// is no error.
func (s *Store) DropUpload(ctx context.Context, repo, session string) error {
	if err := errors.Join(layout.CheckRepository(repo), checkSession(session)); err != nil {
		return err
	}
	if _, err := s.tree.Stat(upload(repo, session)); err != nil {
		return ignoreGone(err)
	}
	return s.tree.Driver().Delete(ctx, "/"+upload(repo, session))
}

// Claim takes a session from all who write to it until release is called, or
// takes none while somebody writes.
type Claim func(repo, session string) (release func(), ok bool)

// PurgeUploads removes the sessions that nobody added to since before, and says
// how many. It may be called beside clients: what is removed is claimed, and what
// cannot be claimed stays.
func (s *Store) PurgeUploads(ctx context.Context, before time.Time, claim Claim) (purged int, err error) {
	err = s.sessions(ctx, func(repo, session string) error {
		gone, err := s.purgeUpload(repo, session, before, claim)
		if gone {
			purged++
		}
		return err
	})
	return purged, err
}

// purgeUpload looks twice: whoever wrote to it before it was claimed may have
// ended just now.
func (s *Store) purgeUpload(repo, session string, before time.Time, claim Claim) (gone bool, err error) {
	dir := upload(repo, session)
	if old, err := s.untouched(dir, before); err != nil || !old {
		return false, err
	}
	release, ok := claim(repo, session)
	if !ok {
		return false, nil
	}
	defer release()
	if old, err := s.untouched(dir, before); err != nil || !old {
		return false, err
	}
	return true, s.tree.Driver().Delete(context.Background(), "/"+dir)
}

// ForgetHashes removes, after an unclean stop, what distribution knows of the
// hashes of sessions: what they vouch for may never have reached the disk, so it
// is to be read and hashed again. It is to be called before there are clients.
func (s *Store) ForgetHashes(ctx context.Context) error {
	if !s.ledger.Unclean() {
		return nil
	}
	return s.sessions(ctx, func(repo, session string) error {
		states := upload(repo, session) + "/hashstates"
		_, err := s.tree.Stat(states)
		if err == nil {
			err = s.tree.Remove(states)
		}
		return ignoreGone(err)
	})
}

// sessions calls f for every session of an upload.
func (s *Store) sessions(ctx context.Context, f func(repo, session string) error) error {
	err := s.folders(ctx, "_uploads", func(repo string) (bool, error) {
		entries, err := s.tree.Entries(uploads(repo))
		for _, e := range entries {
			if err == nil {
				err = f(repo, e.Name())
			}
		}
		return true, err
	})
	if err != nil {
		return fmt.Errorf("unfinished uploads: local registry: %w", err)
	}
	return nil
}

// untouched reports whether a session is there, and nobody wrote to it since before.
func (s *Store) untouched(dir string, before time.Time) (bool, error) {
	last, err := s.touched(dir)
	return err == nil && last.Before(before), ignoreGone(err)
}

// touched is when somebody last wrote to a session.
func (s *Store) touched(dir string) (last time.Time, err error) {
	for _, name := range []string{dir, dir + "/data"} {
		info, err := s.tree.Stat(name)
		if errors.Is(err, fs.ErrNotExist) && name != dir {
			continue
		}
		if err != nil {
			return last, err
		}
		if info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	return last, nil
}

// uploadKey is the file with the key that signs the state of uploads.
const uploadKey = "upload.key"

// UploadKey is a random key that stays the same from one start to the next, so
// that what it signed for a client is good after a restart.
func (s *Store) UploadKey() (string, error) {
	name := filepath.Join(filepath.Dir(s.lock.Name()), uploadKey)
	raw, err := os.ReadFile(name)
	if err == nil && len(raw) == keyLength {
		return string(raw), nil
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		raw, err = newKey(name)
	}
	if err != nil {
		return "", fmt.Errorf("the key of uploads: %w", layout.Explain(err))
	}
	return string(raw), nil
}

const keyLength = 64

func newKey(name string) (key []byte, err error) {
	random := make([]byte, keyLength/2)
	_, _ = rand.Read(random) // it does not fail
	key = []byte(hex.EncodeToString(random))
	return key, writeAside(name, key)
}

func syncFolder(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// gates let many publish into a repository, or one take something out of it.
// The zero value is ready.
type gates struct {
	stripes [64]sync.RWMutex
	entered atomic.Uint64
}

// Published grows while somebody publishes or pushes: who works behind may rest then.
func (s *Store) Published() uint64 { return s.gates.entered.Load() }

// enter waits for whoever takes something out.
func (g *gates) enter(repo string) (leave func()) {
	g.entered.Add(1)
	gate := &g.stripes[stripe(repo)%uint32(len(g.stripes))]
	gate.RLock()
	return gate.RUnlock
}

// shut waits for all who publish into any of repos, and lets nobody else in.
func (g *gates) shut(repos ...string) (open func()) {
	var shut [len(g.stripes)]bool
	for _, repo := range repos {
		shut[stripe(repo)%uint32(len(g.stripes))] = true
	}
	// In one order, so that two who shut many do not wait for each other.
	for i := range shut {
		if shut[i] {
			g.stripes[i].Lock()
		}
	}
	return func() {
		for i := range shut {
			if shut[i] {
				g.stripes[i].Unlock()
			}
		}
	}
}
