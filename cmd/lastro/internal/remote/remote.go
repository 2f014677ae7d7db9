package remote

import (
	"context"
	"errors"
	"io"
	"time"
)

// Socket is the name of the socket in the data folder.
const Socket = "lastro.sock"

const (
	protocol = 1

	// patience is how long one side waits for the other to say what is due,
	// or to read what was said.
	patience = 30 * time.Second
	// grace is how long a client waits for an interrupted verb to end.
	grace = 15 * time.Second
)

// The causes with which the context of a verb ends.
var (
	ErrInterrupted = errors.New("interrupted")
	ErrGone        = errors.New("the client has gone away")
	ErrStopping    = errors.New("the daemon is shutting down")
)

// ErrRunning means that a daemon already serves the data folder.
var ErrRunning = errors.New("a daemon is running already")

// Request is one command line.
type Request struct {
	Args    []string `json:"args"`              // what follows the program's name
	Dir     string   `json:"dir"`               // working directory, for relative paths among Args
	User    string   `json:"user,omitempty"`    // name of who typed it, as they say; the kernel's word decides who may
	Config  string   `json:"config,omitempty"`  // digest of the configuration that the client has read
	File    string   `json:"file,omitempty"`    // that configuration's, an absolute path
	Version string   `json:"version,omitempty"` // of the client
}

// Progress is told how far a verb is. Its methods may be called from many
// goroutines.
type Progress interface {
	Plan(items int, bytes int64)
	Bytes(n int64)
	Done(item string, err error)
}

// Streams are what a verb talks to. In the daemon none of them is nil; a client
// may leave out those that it does not want.
type Streams struct {
	Stdout, Stderr io.Writer
	Progress       Progress
}

// Run does what a request says and returns the exit code. It should return soon
// after ctx has ended, with what it has to say about it on Stderr;
// context.Cause tells [ErrInterrupted], [ErrGone] and [ErrStopping] apart.
type Run func(ctx context.Context, r Request, s Streams) int

// discard is the progress of a client that wants none.
type discard struct{}

func (discard) Plan(int, int64)    {}
func (discard) Bytes(int64)        {}
func (discard) Done(string, error) {}

func (s Streams) filled() Streams {
	if s.Stdout == nil {
		s.Stdout = io.Discard
	}
	if s.Stderr == nil {
		s.Stderr = io.Discard
	}
	if s.Progress == nil {
		s.Progress = discard{}
	}
	return s
}
