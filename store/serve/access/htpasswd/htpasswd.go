package htpasswd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"lastro/store/serve/access/known"
	"lastro/store/serve/access/owner"
	"lastro/store/serve/access/watch"
)

// ErrWrong says that name and password are not those of a user.
var ErrWrong = errors.New("wrong user name or password")

// LaterError says that a login was not tried.
type LaterError struct {
	After time.Duration
	Busy  bool // because of what others do, and not of logins that failed
}

func (e *LaterError) Error() string {
	if e.Busy {
		return fmt.Sprintf("too many logins at once: try again in %s", e.After)
	}
	return fmt.Sprintf("too many failed logins: try again in %s", e.After)
}

const (
	// ttl is how long a password that was right is not compared again.
	ttl = 10 * time.Minute
	// queue is how many logins may wait, and patience for how long.
	queue    = 64
	patience = 10 * time.Second
)

// Options are what a Checker needs; all of them.
type Options struct {
	Log *slog.Logger
	Now func() time.Time
	// Compare is bcrypt.CompareHashAndPassword.
	Compare func(hash, password []byte) error
}

// Checker knows users by their passwords. It may be used from many goroutines.
type Checker struct {
	o        Options
	path     string
	files    *watch.Files
	users    atomic.Pointer[users]
	reported atomic.Pointer[string] // the last fault of the file

	known   *known.Set[login]
	flights singleflight.Group
	slots   chan struct{} // one for each comparison that runs
	waiting atomic.Int32
	slow    *slow
	seal    seal
}

// login is a password that was right.
type login struct {
	name string
	of   *users
}

// Open reads a file, which must be right. It is read again when it changes.
func Open(path string, o Options) (*Checker, error) {
	c := &Checker{
		o: o, path: path, files: watch.New(o.Now, path),
		known: known.New[login](), slow: newSlow(), seal: newSeal(),
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
	c.files.Changed()
	u, err := read(path)
	if err != nil {
		return nil, err
	}
	c.users.Store(u)
	return c, nil
}

// Path is the file.
func (c *Checker) Path() string { return c.path }

// Reload makes the next login look whether the file has changed.
func (c *Checker) Reload() { c.files.Now() }

// current are the users as the file has them, or had them when it was right.
func (c *Checker) current() *users {
	if !c.files.Changed() {
		return c.users.Load()
	}
	u, err := read(c.path)
	c.files.Done(err == nil)
	if err != nil {
		c.report(err)
		return c.users.Load()
	}
	c.reported.Store(nil)
	c.users.Store(u)
	c.known.Clear()
	c.o.Log.Info("users read", "file", c.path, "users", len(u.names))
	return u
}

// report says once that a file is wrong.
func (c *Checker) report(err error) {
	text := err.Error()
	if was := c.reported.Swap(&text); was == nil || *was != text {
		c.o.Log.Error("users not read: those of before remain", "err", err)
	}
}

// Check is nil when a user has that password. Else it is ErrWrong, or a
// *LaterError, or the context's. addr is where the login comes from.
func (c *Checker) Check(ctx context.Context, addr netip.Addr, name, password string) error {
	u := c.current()
	print := c.known.Print(name, password)
	if found, ok := c.known.Get(print, c.o.Now()); ok && found.of == u {
		return nil
	}
	p := pair{owner.Of(addr), strings.Clone(name[:min(len(name), maxName+1)])}
	// Those who come with the same at once are one login.
	done := c.flights.DoChan(string(print[:])+p.addr.String(), func() (any, error) { return nil, c.login(u, print, p, password) })
	select {
	case <-ctx.Done():
		return ctx.Err()
	case r := <-done:
		return r.Err
	}
}

func (c *Checker) login(u *users, print known.Print, p pair, password string) error {
	if after := c.slow.take(p, c.o.Now()); after > 0 {
		return &LaterError{After: after}
	}
	hash, exists := u.hash(p.name)
	if hash == nil {
		return ErrWrong
	}
	if !c.enter() {
		c.slow.undo(p, c.o.Now())
		return &LaterError{After: time.Second, Busy: true}
	}
	err := c.o.Compare(hash, []byte(password))
	<-c.slots
	if err != nil || !exists {
		return ErrWrong
	}
	now := c.o.Now()
	c.slow.succeed(p, now)
	c.known.Put(print, login{p.name, u}, now.Add(ttl))
	return nil
}

// enter waits for a slot. There are fewer than processors: guessing takes none
// from who needs no password.
func (c *Checker) enter() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
	}
	defer c.waiting.Add(-1)
	if c.waiting.Add(1) > queue {
		return false
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case c.slots <- struct{}{}:
		return true
	case <-late.C:
		return false
	}
}
