package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Client is a connection to a daemon, for one verb.
type Client struct {
	conn    net.Conn
	wire    *wire
	data    string
	version string

	grace time.Duration
}

// Dial connects to the daemon that has the data folder open. When none runs the
// error is [fs.ErrNotExist]; when it is not ours to use, [fs.ErrPermission].
// The caller closes the client.
func Dial(ctx context.Context, data string) (*Client, error) {
	c, err := dial(ctx, data)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no daemon serves %s: %w", data, fs.ErrNotExist)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("the daemon of %s: %w: become the user that it runs as, or root", data, fs.ErrPermission)
	}
	return nil, fmt.Errorf("the daemon of %s: %w", data, err)
}

func dial(ctx context.Context, data string) (*Client, error) {
	dir, err := filepath.Abs(data)
	if err != nil {
		return nil, err
	}
	conn, err := dialUnix(ctx, filepath.Join(dir, Socket))
	if err != nil {
		return nil, err
	}
	c, err := meet(ctx, conn, patience)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c.data = data
	return c, nil
}

// meet reads the daemon's first word.
func meet(ctx context.Context, conn net.Conn, limit time.Duration) (*Client, error) {
	if err := conn.SetReadDeadline(deadline(limit)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	f, err := readFrame(conn, maxFrame)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("it does not answer: %w", err)
	}
	if f.kind == kindRefusal {
		return nil, f.refusal()
	}
	var h hello
	if err := f.decode(kindHello, &h); err != nil {
		return nil, err
	}
	if h.Protocol != protocol {
		return nil, fmt.Errorf("it is version %s and speaks protocol %d where this command speaks %d: restart the daemon with this lastro, or use the daemon's", h.Version, h.Protocol, protocol)
	}
	return &Client{conn: conn, wire: newWire(conn, limit), version: h.Version, grace: grace}, nil
}

// refusal is the error that the daemon sent instead of an answer.
func (f frame) refusal() error {
	var n refusal
	if err := f.decode(kindRefusal, &n); err != nil {
		return err
	}
	if n.Forbidden {
		return forbidden(n.Error)
	}
	return errors.New("it refuses: " + n.Error)
}

// forbidden is what the daemon says to a user that it does not serve.
type forbidden string

func (f forbidden) Error() string      { return string(f) }
func (forbidden) Is(target error) bool { return target == fs.ErrPermission }

// Version is the daemon's.
func (c *Client) Version() string { return c.version }

// Close ends the connection, and the verb if it still runs.
func (c *Client) Close() error { return c.conn.Close() }

// Run sends the verb to the daemon, copies what it says to s and returns its
// exit code. Errors are of the connection or of writing to s, never the verb's
// own. When ctx ends the daemon is asked to end the verb, whose exit code is
// returned if it comes soon. Run is called once.
func (c *Client) Run(ctx context.Context, r Request, s Streams) (int, error) {
	s = s.filled()
	if r.Version != c.version {
		fmt.Fprintf(s.Stderr, "lastro: note: the daemon is version %s and this command is version %s: restart the daemon to make them one\n", c.version, r.Version)
	}
	if err := c.request(r); err != nil {
		return 1, err
	}
	// Nobody waits for the daemon to speak: a verb may be silent for hours.
	if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
		return 1, err
	}
	stop := context.AfterFunc(ctx, c.interrupt)
	defer stop()
	defer c.Close()
	code, err := receive(c.conn, s)
	switch {
	case err == nil:
		return code, nil
	case ctx.Err() != nil:
		return 130, fmt.Errorf("the daemon of %s has not confirmed that %s ended: %w", c.data, verbOf(r), context.Cause(ctx))
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET):
		return 1, fmt.Errorf("the daemon of %s went away before %s had ended: %w: start it, or look into its log", c.data, verbOf(r), io.ErrUnexpectedEOF)
	}
	return 1, fmt.Errorf("the daemon of %s: %s: %w", c.data, verbOf(r), err)
}

func (c *Client) request(r Request) error {
	b, err := encodeRequest(r)
	if err != nil {
		return err
	}
	if err := c.wire.send(kindRequest, b); err != nil {
		return fmt.Errorf("the daemon of %s: send %s: %w", c.data, verbOf(r), err)
	}
	return nil
}

// interrupt asks for the end of the verb, and waits for it only so long.
func (c *Client) interrupt() {
	_ = c.conn.SetReadDeadline(deadline(c.grace))
	_ = c.wire.send(kindCancel, nil) // when it fails, reading does too
}

func verbOf(r Request) string { return fmt.Sprintf("%q", "lastro "+strings.Join(r.Args, " ")) }
