package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
)

// Options change how a store is opened. Now is required.
type Options struct {
	Log  *slog.Logger // nil: nothing is logged
	Now  func() time.Time
	Step func(op, subject string) // fault point of tests, before every change on disk
	// Fault is called after Step; its error is what the change ends with.
	Fault func(op, subject string) error
	// Behind lets Open return before the registry was compared with the ledger,
	// which goes on behind. It has no effect after a crash: what that left is
	// mended first.
	Behind bool
}

// partialAge is how long unfinished content may lie before Open removes it.
const partialAge = 7 * 24 * time.Hour

// Store is the local registry. Its methods may be called from many goroutines.
// One process has it open at a time.
type Store struct {
	tree   *layout.Tree
	ledger *ledger.Ledger
	lock   *os.File
	log    *slog.Logger
	now    func() time.Time
	tags   tagLocks
	gates  gates
	behind *behind      // nil: nothing is
	holds  sync.RWMutex // shared by who reads for long, against who removes
	taking sync.RWMutex // shared by who takes something out of one repository, against who removes

	sentences *sentences
}

var _ mirror.Destination = (*Store)(nil)

// LockedError says that another process has the data folder open.
type LockedError struct {
	Dir string
	PID int // 0: not known
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("the data folder %s is in use by %s: one lastro at a time may have it open", e.Dir, who)
}

// Open opens the data folder and makes it when it is absent. It mends what a
// crash left between the registry and the ledger. A folder that another process
// has open is a [LockedError], one that a newer lastro wrote ledger.ErrNewer;
// neither is changed. The caller closes the store.
func Open(dir string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{log: o.Log, now: o.Now, sentences: newSentences()}
	err := s.open(dir, o)
	if _, locked := errors.AsType[*LockedError](err); locked {
		return nil, err
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the data folder %s: %w", dir, layout.Explain(err)), s.Close())
	}
	if o.Behind && !s.ledger.Unclean() {
		s.compareBehind()
		return s, nil
	}
	if err := s.reconcile(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("open the data folder %s: compare the registry with the ledger: %w", dir, layout.Explain(err)), s.Close())
	}
	return s, nil
}

func (s *Store) open(dir string, o Options) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = lock(dir); err != nil {
		return err
	}
	if s.ledger, err = ledger.Open(filepath.Join(dir, "ledger.db"), ledger.Options{Log: o.Log, Now: o.Now}); err != nil {
		return err
	}
	s.tree, err = layout.Open(filepath.Join(dir, "registry"), filepath.Join(dir, "partial"), layout.Options{Step: o.Step, Fault: o.Fault})
	if err != nil {
		return err
	}
	if err := s.sentences.load(context.Background(), s.ledger); err != nil {
		return err
	}
	if err := s.noteOpened(context.Background(), dir); err != nil {
		return err
	}
	purged, err := s.tree.PurgePartials(s.now().Add(-partialAge))
	if purged > 0 {
		s.log.Info("old unfinished downloads removed", "files", purged)
	}
	return err
}

// lock takes the data folder for this process. The kernel gives it back when
// the process ends, however it ends.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock: %w", err)
		}
		text, _ := io.ReadAll(io.LimitReader(f, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return nil, &LockedError{dir, pid}
	}
	return f, errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n"))
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// Close closes the ledger and gives the data folder back.
func (s *Store) Close() error {
	s.behind.stop()
	var errs []error
	if s.ledger != nil {
		errs = append(errs, s.sentences.flush(context.Background(), s.ledger))
	}
	if s.tree != nil {
		errs = append(errs, s.tree.Close())
	}
	if s.ledger != nil {
		errs = append(errs, s.ledger.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Ledger is the record of what happened. It is closed with the store.
func (s *Store) Ledger() *ledger.Ledger { return s.ledger }
