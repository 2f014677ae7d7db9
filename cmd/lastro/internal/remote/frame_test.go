package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
)

func encoded(k kind, payload string) []byte {
	b := []byte{byte(k), 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[1:], uint32(len(payload)))
	return append(b, payload...)
}

func TestReadFrame(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"a whole frame", encoded(kindStdout, "hello"), nil},
		{"an empty frame", encoded(kindCancel, ""), nil},
		{"the end between frames", nil, io.EOF},
		{"the end within a header", encoded(kindStdout, "hello")[:3], io.ErrUnexpectedEOF},
		{"the end right after a header", encoded(kindStdout, "hello")[:5], io.ErrUnexpectedEOF},
		{"the end within what it says", encoded(kindStdout, "hello")[:7], io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := readFrame(bytes.NewReader(c.in), maxFrame)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && !bytes.Equal(encoded(f.kind, string(f.payload)), c.in) {
				t.Errorf("got %q %q", f.kind, f.payload)
			}
		})
	}
}

func TestAFrameOverTheLimitIsNotEvenAllocated(t *testing.T) {
	head := []byte{byte(kindStdout), 0xff, 0xff, 0xff, 0xff}
	allocated := testing.AllocsPerRun(10, func() {
		if _, err := readFrame(bytes.NewReader(head), maxFrame); err == nil {
			t.Error("a frame of 4 GiB was accepted")
		}
	})
	if allocated > 10 {
		t.Errorf("%v allocations", allocated)
	}
}

// FuzzServer sends anything to a daemon: it must neither panic nor hang, and
// run a verb only for a request.
func FuzzServer(f *testing.F) {
	f.Add(encoded(kindRequest, `{"protocol":1,"args":["sync"]}`))
	f.Add(append(encoded(kindRequest, `{"protocol":1}`), encoded(kindCancel, "")...))
	f.Add(encoded(kindRequest, `{"protocol":2}`))
	f.Add(encoded(kindRequest, `{`))
	f.Add(encoded(kindStdout, "x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, theirs := net.Pipe()
		asked := bytes.HasPrefix(in, []byte{byte(kindRequest)})
		s := &Server{peer: func(net.Conn) error { return nil }, Run: func(ctx context.Context, _ Request, _ Streams) int {
			if !asked {
				t.Error("a verb ran and none was asked for")
			}
			<-ctx.Done()
			return 0
		}}
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		go func() { _, _ = ours.Write(in); ours.Close() }()
		s.serve(t.Context(), theirs)
	})
}

// FuzzClient lets a daemon say anything: the client must end with an exit code
// that was sent, or an error.
func FuzzClient(f *testing.F) {
	f.Add(encoded(kindExit, `{"code":3}`))
	f.Add(append(encoded(kindStdout, "hello"), encoded(kindExit, `{"code":0}`)...))
	f.Add(append(encoded(kindProgress, `{"items":2,"total":5,"bytes":1}`), encoded(kindDone, `{"item":"a","error":"b"}`)...))
	f.Add(encoded(kindRefusal, `{"error":"no","forbidden":true}`))
	f.Add(encoded('?', "x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		code, err := receive(io.NopCloser(bytes.NewReader(in)), Streams{}.filled())
		if err == nil && !bytes.Contains(in, []byte{byte(kindExit)}) {
			t.Errorf("exit code %d came from nowhere", code)
		}
	})
}
