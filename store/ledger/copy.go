package ledger

import "context"

// Copy writes the ledger as it is now to a new file, mode 0600, and returns its
// size. The file is whole and on disk when its name appears; a name that is taken
// is fs.ErrExist. Recording goes on meanwhile. Pulls that were noted are in it.
//
// A ledger that is opened from a copy is unclean, because what happened since is
// not in it.
func (l *Ledger) Copy(ctx context.Context, to string) (size int64, err error) {
	if err := l.FlushPulls(ctx); err != nil {
		return 0, err
	}
	return l.file.Copy(ctx, to)
}

// tell logs what Open found and did.
func (l *Ledger) tell(path string) {
	switch c := l.file.Compaction(); {
	case c.Err != nil:
		l.log.Warn("ledger is mostly free space and was not compacted", "path", path, "bytes", c.Before, "err", c.Err)
	case c.Before > 0:
		l.log.Info("ledger compacted", "path", path, "before", c.Before, "bytes", c.After)
	}
	switch {
	case l.file.Copied():
		l.log.Warn("ledger is a copy of one that was in use: what happened since it was made is not in it", "path", path)
	case l.file.Unclean():
		l.log.Warn("ledger was not closed cleanly", "path", path)
	}
}
