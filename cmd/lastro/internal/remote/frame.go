package remote

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"
)

// kind is the first byte of a frame.
type kind byte

const (
	kindHello    kind = 'h'
	kindRefusal  kind = 'n'
	kindRequest  kind = 'r'
	kindCancel   kind = 'c'
	kindStdout   kind = 'o'
	kindStderr   kind = 'e'
	kindProgress kind = 'p'
	kindDone     kind = 'd'
	kindExit     kind = 'x'
)

const (
	header     = 5
	maxFrame   = 64 << 10
	maxRequest = 4 << 20
	chunk      = 32 << 10 // of output in one frame
	maxText    = 4 << 10  // of an item's name or its error
)

type (
	hello struct {
		Protocol int    `json:"protocol"`
		Version  string `json:"version"`
	}
	refusal struct {
		Error     string `json:"error"`
		Forbidden bool   `json:"forbidden,omitempty"`
	}
	request struct {
		Protocol int `json:"protocol"`
		Request
	}
	moved struct {
		Items int   `json:"items,omitempty"` // planned since the last one
		Total int64 `json:"total,omitempty"` // bytes planned since the last one
		Bytes int64 `json:"bytes,omitempty"` // bytes done since the last one
	}
	done struct {
		Item  string `json:"item"`
		Error string `json:"error,omitempty"`
	}
	exit struct {
		Code int `json:"code"`
	}
)

type frame struct {
	kind    kind
	payload []byte
}

// readFrame reads one frame of at most limit bytes. Between frames the end of
// the stream is io.EOF; within one it is io.ErrUnexpectedEOF.
func readFrame(r io.Reader, limit int) (frame, error) {
	var head [header]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if uint64(size) > uint64(limit) {
		return frame{}, fmt.Errorf("a frame of %d bytes is over the limit of %d", size, limit)
	}
	f := frame{kind: kind(head[0]), payload: make([]byte, size)}
	if _, err := io.ReadFull(r, f.payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	return f, nil
}

// decode reads the payload of a frame that must be of the given kind.
func (f frame) decode(want kind, v any) error {
	if f.kind != want {
		return fmt.Errorf("a frame of kind %q where %q is due", f.kind, want)
	}
	if err := json.Unmarshal(f.payload, v); err != nil {
		return fmt.Errorf("a frame of kind %q: %w", f.kind, err)
	}
	return nil
}

// wire writes frames. Its methods may be called from many goroutines.
type wire struct {
	conn     net.Conn
	patience time.Duration

	mu  lock
	err error // sticky: after half a frame nothing makes sense any more
}

func newWire(conn net.Conn, patience time.Duration) *wire {
	return &wire{conn: conn, patience: patience, mu: newLock()}
}

// lock is a mutex that is held while the other side is waited for. Being a
// channel, it lets the tests' clock run on meanwhile.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// send writes one frame, or fails when the other side reads nothing for as
// long as our patience lasts.
func (w *wire) send(k kind, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	b := make([]byte, header, header+len(payload))
	b[0] = byte(k)
	binary.BigEndian.PutUint32(b[1:], uint32(len(payload)))
	if w.err = w.conn.SetWriteDeadline(time.Now().Add(w.patience)); w.err != nil {
		return w.err
	}
	_, w.err = w.conn.Write(append(b, payload...))
	return w.err
}

func (w *wire) sendJSON(k kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.send(k, b)
}

// clip keeps one item's text well within a frame, whatever JSON makes of it.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText] + "…"
}
