package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// daemon serves run on a socket in a new data folder until the test ends.
func daemon(t *testing.T, s *Server) (data string, stop func()) {
	t.Helper()
	data = t.TempDir()
	l, err := Listen(data)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return data, stop
}

// result is everything that a client saw of a verb.
type result struct {
	Code           int
	Stdout, Stderr string
	Items, Done    int
	Total, Moved   int64
	Failures       []string
}

// screen is a client's streams. It writes itself into a result.
type screen struct {
	mu     sync.Mutex
	result result
	onLine func()
}

func (s *screen) Plan(items int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Items += items
	s.result.Total += bytes
}

func (s *screen) Bytes(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Moved += n
}

func (s *screen) Done(item string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Done++
	if err != nil {
		s.result.Failures = append(s.result.Failures, item+": "+err.Error())
	}
}

type onto struct {
	*screen
	to *string
}

func (o onto) Write(p []byte) (int, error) {
	o.mu.Lock()
	*o.to += string(p)
	o.mu.Unlock()
	if o.onLine != nil {
		o.onLine()
	}
	return len(p), nil
}

func (s *screen) streams() Streams {
	return Streams{Stdout: onto{s, &s.result.Stdout}, Stderr: onto{s, &s.result.Stderr}, Progress: s}
}

func give(ctx context.Context, t *testing.T, data string, r Request, s *screen) (result, error) {
	t.Helper()
	c, err := Dial(ctx, data)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	code, err := c.Run(ctx, r, s.streams())
	s.result.Code = code
	return s.result, err
}

func TestAVerbRunsInTheDaemonAndItsOutputProgressAndExitCodeComeBack(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 64<<10) // more than a frame, more than a socket holds
	var request Request
	data, _ := daemon(t, &Server{Version: "1", Run: func(_ context.Context, r Request, s Streams) int {
		request = r
		s.Progress.Plan(2, 100)
		s.Progress.Bytes(60)
		s.Progress.Bytes(40)
		s.Progress.Done("a", nil)
		s.Progress.Done("b", errors.New("no such manifest"))
		fmt.Fprint(s.Stdout, big)
		fmt.Fprint(s.Stderr, "one failed\n")
		return 3
	}})
	sent := Request{Args: []string{"sync", "ä b", ""}, Dir: "/somewhere", Config: "sha256:0", Version: "1"}
	got, err := give(t.Context(), t, data, sent, &screen{})
	if err != nil {
		t.Fatal(err)
	}
	want := result{Code: 3, Stdout: big, Stderr: "one failed\n", Items: 2, Total: 100, Moved: 100, Done: 2, Failures: []string{"b: no such manifest"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(sent, request); d != "" {
		t.Errorf("the daemon got another request: %s", d)
	}
}

func TestProgressArrivesBeforeTheOutputThatFollowsIt(t *testing.T) {
	data, _ := daemon(t, &Server{Run: func(_ context.Context, _ Request, s Streams) int {
		for i := range 50 {
			s.Progress.Done("x", nil)
			fmt.Fprintf(s.Stdout, "%d", i+1)
		}
		return 0
	}})
	s := &screen{}
	s.onLine = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if want := fmt.Sprint(s.result.Done); !strings.HasSuffix(s.result.Stdout, want) {
			t.Errorf("after %s items were done the output ended with %q", want, s.result.Stdout)
		}
	}
	if _, err := give(t.Context(), t, data, Request{}, s); err != nil {
		t.Fatal(err)
	}
	if got, want := s.result.Done, 50; got != want {
		t.Errorf("done: got %d, want %d", got, want)
	}
}

func TestManyVerbsRunAtOnceAndEachGetsItsOwnOutput(t *testing.T) {
	const n = 8
	var all sync.WaitGroup
	all.Add(n)
	data, _ := daemon(t, &Server{Run: func(_ context.Context, r Request, s Streams) int {
		all.Done()
		all.Wait() // ends only when all run together
		fmt.Fprint(s.Stdout, r.Args[0])
		return 0
	}})
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			want := fmt.Sprint(i)
			got, err := give(t.Context(), t, data, Request{Args: []string{want}}, &screen{})
			if err != nil || got.Stdout != want {
				t.Errorf("got %q, %v; want %q", got.Stdout, err, want)
			}
		})
	}
	clients.Wait()
}

// untilItEnds is a verb that waits for the end of its context and tells the cause.
func untilItEnds(started chan<- struct{}, cause chan<- error) Run {
	return func(ctx context.Context, _ Request, s Streams) int {
		close(started)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		fmt.Fprint(s.Stderr, "stopped half-way\n")
		return 130
	}
}

func TestAnInterruptedClientEndsItsVerbAndHearsItsLastWords(t *testing.T) {
	started, cause := make(chan struct{}), make(chan error, 1)
	data, _ := daemon(t, &Server{Run: untilItEnds(started, cause)})
	ctx, interrupt := context.WithCancel(t.Context())
	go func() { <-started; interrupt() }()
	got, err := give(ctx, t, data, Request{}, &screen{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (result{Code: 130, Stderr: "stopped half-way\n"}); cmp.Diff(want, got) != "" {
		t.Error(cmp.Diff(want, got))
	}
	if got := <-cause; !errors.Is(got, ErrInterrupted) {
		t.Errorf("cause: got %v, want ErrInterrupted", got)
	}
}

func TestAClientThatGoesAwayEndsItsVerb(t *testing.T) {
	started, cause := make(chan struct{}), make(chan error, 1)
	data, _ := daemon(t, &Server{Run: untilItEnds(started, cause)})
	c, err := Dial(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-started; c.Close() }()
	if code, err := c.Run(t.Context(), Request{}, Streams{}); err == nil {
		t.Errorf("a closed client returned %d and no error", code)
	}
	if got := <-cause; !errors.Is(got, ErrGone) {
		t.Errorf("cause: got %v, want ErrGone", got)
	}
}

func TestADaemonThatShutsDownTellsTheClient(t *testing.T) {
	started, cause := make(chan struct{}), make(chan error, 1)
	data, stop := daemon(t, &Server{Run: untilItEnds(started, cause)})
	go func() { <-started; stop() }()
	got, err := give(t.Context(), t, data, Request{}, &screen{})
	if err != nil {
		t.Fatal(err)
	}
	want := result{Code: 130, Stderr: "stopped half-way\nlastro: the daemon is shutting down: give the command again when it is back\n"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := <-cause; !errors.Is(got, ErrStopping) {
		t.Errorf("cause: got %v, want ErrStopping", got)
	}
}

func TestADaemonThatDiesIsAnErrorThatSaysSo(t *testing.T) {
	data := t.TempDir()
	l, err := Listen(data)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		w := newWire(conn, patience)
		_, err = (&Server{}).greet(conn, w)
		_ = w.send(kindStdout, []byte("half a li"))
		if err := errors.Join(err, conn.Close()); err != nil {
			t.Error(err)
		}
	}()
	got, err := give(t.Context(), t, data, Request{Args: []string{"sync", "debian"}}, &screen{})
	want := fmt.Sprintf(`the daemon of %s went away before "lastro sync debian" had ended: unexpected EOF: start it, or look into its log`, data)
	if err == nil || err.Error() != want || got.Code != 1 || got.Stdout != "half a li" {
		t.Errorf("got %+v, %v\nwant code 1, %s", got, err, want)
	}
}

func TestAPanicInAVerbLeavesTheDaemonRunning(t *testing.T) {
	var log bytes.Buffer
	data, _ := daemon(t, &Server{Log: slog.New(slog.NewTextHandler(&log, nil)), Run: func(_ context.Context, r Request, _ Streams) int {
		if len(r.Args) > 0 {
			panic("index out of range")
		}
		return 0
	}})
	got, err := give(t.Context(), t, data, Request{Args: []string{"sync"}}, &screen{})
	if err != nil {
		t.Fatal(err)
	}
	want := result{Code: 1, Stderr: "lastro: a fault in the daemon: index out of range (its log has more)\n"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, err := give(t.Context(), t, data, Request{}, &screen{}); err != nil || got.Code != 0 {
		t.Errorf("the next verb: got %+v, %v", got, err)
	}
	if !strings.Contains(log.String(), "index out of range") || !strings.Contains(log.String(), "remote_test.go") {
		t.Errorf("the log does not say what panicked and where: %s", log.String())
	}
}

func TestAnotherVersionIsTold(t *testing.T) {
	data, _ := daemon(t, &Server{Version: "1.4.0", Run: func(context.Context, Request, Streams) int { return 0 }})
	for version, want := range map[string]string{
		"1.4.0": "",
		"1.5.0": "lastro: note: the daemon is version 1.4.0 and this command is version 1.5.0: restart the daemon to make them one\n",
	} {
		got, err := give(t.Context(), t, data, Request{Version: version}, &screen{})
		if err != nil || got.Stderr != want {
			t.Errorf("version %s: got %q, %v, want %q", version, got.Stderr, err, want)
		}
	}
}

func TestAnotherProtocolIsRefusedByBothSides(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go func() { _ = newWire(theirs, patience).sendJSON(kindHello, hello{Protocol: 9, Version: "7.0"}) }()
	_, err := meet(t.Context(), ours, patience)
	want := "it is version 7.0 and speaks protocol 9 where this command speaks 1: restart the daemon with this lastro, or use the daemon's"
	if err == nil || err.Error() != want {
		t.Errorf("client: got %v, want %s", err, want)
	}

	ran := false
	data, _ := daemon(t, &Server{Run: func(context.Context, Request, Streams) int { ran = true; return 0 }})
	c, err := Dial(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.wire.sendJSON(kindRequest, request{Protocol: 9}); err != nil {
		t.Fatal(err)
	}
	_, err = receive(c.conn, Streams{}.filled())
	want = "it refuses: the client speaks protocol 9 and the daemon protocol 1"
	if err == nil || err.Error() != want || ran {
		t.Errorf("daemon: got %v (ran: %t), want %s", err, ran, want)
	}
}

func TestARequestThatIsTooLargeIsRefusedBeforeItIsSent(t *testing.T) {
	data, _ := daemon(t, &Server{Run: func(context.Context, Request, Streams) int { return 0 }})
	args := []string{strings.Repeat("x", maxRequest)}
	if _, err := give(t.Context(), t, data, Request{Args: args}, &screen{}); err == nil || !strings.Contains(err.Error(), "over the limit") {
		t.Errorf("got %v, want an error about the limit", err)
	}
}

func TestLongTextOfAnItemFitsIntoAFrame(t *testing.T) {
	worst := strings.Repeat("\x01\xff", maxFrame)
	data, _ := daemon(t, &Server{Run: func(_ context.Context, _ Request, s Streams) int {
		s.Progress.Done(worst, errors.New(worst))
		return 0
	}})
	got, err := give(t.Context(), t, data, Request{}, &screen{})
	if err != nil || got.Done != 1 || len(got.Failures) != 1 {
		t.Errorf("got %d done, %d failures, %v", got.Done, len(got.Failures), err)
	}
}

// brokenPipe is a standard output that somebody closed.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestAnOutputThatCannotBeWrittenEndsTheVerb(t *testing.T) {
	ended := make(chan error, 1)
	data, _ := daemon(t, &Server{Run: func(ctx context.Context, _ Request, s Streams) int {
		for ctx.Err() == nil {
			fmt.Fprintln(s.Stdout, "and on")
		}
		ended <- context.Cause(ctx)
		return 1
	}})
	c, err := Dial(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Run(t.Context(), Request{}, Streams{Stdout: brokenPipe{}}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want io.ErrClosedPipe", err)
	}
	if got := <-ended; !errors.Is(got, ErrGone) {
		t.Errorf("cause: got %v, want ErrGone", got)
	}
}

func TestDialSaysThatNoDaemonRuns(t *testing.T) {
	empty := t.TempDir()
	for name, data := range map[string]string{"empty folder": empty, "no folder": empty + "/none"} {
		if _, err := Dial(t.Context(), data); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want fs.ErrNotExist", name, err)
		}
	}
}

func TestDialEndsWithItsContextWhenTheDaemonHangs(t *testing.T) {
	data := t.TempDir()
	l, err := Listen(data) // connections queue up and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, data); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}
