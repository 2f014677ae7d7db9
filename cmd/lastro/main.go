// Command lastro keeps a verified, dated, restorable copy of the container
// images that people depend on: it mirrors them from upstream registries into
// a local registry, remembers every digest that every tag had, removes by
// rules that explain themselves, backs up to a bucket and restores.
//
// Each verb is one file of this package. [wire.go] is the only place that
// names the concrete types of the packages below; a verb parses, calls and
// prints. A verb does the same work in two places: in its own process when
// nothing else has the data folder open, or inside the running daemon, which
// it reaches through <data>/lastro.sock.
package main

import (
	"context"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], process())
	stop()
	os.Exit(code)
}

// userName is who runs this process, by number where there is no name.
func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "user " + strconv.Itoa(os.Getuid())
}

// process is the environment of a lastro started by a person.
func process() host {
	dir, err := os.Getwd()
	if err != nil {
		dir = "."
	}
	h := host{
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		dir:    dir,
		getenv: os.Getenv,
		now:    time.Now,
		user:   userName(),
	}
	if fd := int(os.Stderr.Fd()); term.IsTerminal(fd) {
		h.columns, _, _ = term.GetSize(fd)
	}
	return h
}
