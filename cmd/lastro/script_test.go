package main

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"lastro/mirror/sample"
	"lastro/store"
	"lastro/store/vault/bucket/buckettest"
)

var (
	long   = flag.Bool("long", false, "run the long tests too")
	update = flag.Bool("update", false, "write what scripts print into their golden files")
)

// TestMain lets the test binary be the lastro command, so that tests run the
// real program in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"lastro": func() { os.Exit(runForTest()) },
	})
}

// runForTest is main with a fault point: with LASTRO_TEST_KILL_AT=n the process
// kills itself (SIGKILL) just before its n-th change on disk or in a bucket.
// With LASTRO_TEST_STEPS=file it writes how many there were.
func runForTest() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	h := process()
	var steps atomic.Int64
	at, _ := strconv.ParseInt(os.Getenv("LASTRO_TEST_KILL_AT"), 10, 64)
	count := os.Getenv("LASTRO_TEST_STEPS")
	if at > 0 || count != "" {
		h.step = func(string, string) {
			if steps.Add(1) == at {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // until the signal has arrived
			}
		}
	}
	code := run(ctx, os.Args[1:], h)
	if count != "" {
		if err := os.WriteFile(count, []byte(strconv.FormatInt(steps.Load(), 10)), 0o600); err != nil {
			panic(err)
		}
	}
	return code
}

// TestScripts runs what a user types. Each script has a sample upstream of its
// own at $UPSTREAM. Beside the usual commands there are:
//
//	exits CODE lastro ARG…   runs lastro and wants this exit code
//	fill FILE…               writes the environment's values into files, for $NAME
//	move REPO TAG            moves a tag of the sample upstream
//	drop REPO TAG            removes one
//	pulled DATA REPO TAG T   notes that a client pulled a tag at T, while nothing runs
//	limit on, limit off      whether it lets manifests be read; if not, in ten minutes
//
// At $S3 there is an S3 server with one bucket, at $LIAR one that ignores conditions,
// at $LOCK one with Object Lock.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			upstream, err := sample.Start(sample.Options{})
			if err != nil {
				return err
			}
			e.Defer(func() { _ = upstream.Close() })
			front := &limiter{next: upstream.Handler()}
			server := httptest.NewServer(front)
			e.Defer(server.Close)
			e.Values["upstream"], e.Values["limiter"] = upstream, front
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("UPSTREAM", server.Listener.Addr().String())
			for name, s3 := range map[string]*buckettest.Server{"S3": {}, "LIAR": {IgnoreNoneMatch: true, IgnoreMatch: true}, "LOCK": {Lock: true}} {
				server := httptest.NewServer(s3)
				e.Defer(server.Close)
				e.Setenv(name, server.URL)
			}
			_, err = upstream.Fill(context.Background())
			return err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "fill": fill, "move": move, "drop": drop, "limit": setLimit, "pulled": pulled,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG…")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func fill(ts *testscript.TestScript, _ bool, files []string) {
	for _, name := range files {
		text := os.Expand(ts.ReadFile(name), func(name string) string {
			if value := ts.Getenv(name); value != "" {
				return value
			}
			return "${" + name + "}"
		})
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

func move(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: move REPO TAG")
	}
	_, err := ts.Value("upstream").(*sample.Registry).Move(context.Background(), args[0], args[1])
	ts.Check(err)
}

func pulled(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: pulled DATA REPO TAG TIME")
	}
	at, err := time.Parse(time.RFC3339, args[3])
	ts.Check(err)
	st, err := store.Open(ts.MkAbs(args[0]), store.Options{Now: time.Now})
	ts.Check(err)
	d, err := st.Resolve(context.Background(), args[1], args[2])
	st.Ledger().NotePull(args[1], args[2], d, at)
	ts.Check(errors.Join(err, st.Close()))
}

// limiter is an upstream that may want no manifests to be read for ten minutes.
type limiter struct {
	next http.Handler
	on   atomic.Bool
}

func (l *limiter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.on.Load() && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	l.next.ServeHTTP(w, r)
}

func setLimit(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 || args[0] != "on" && args[0] != "off" {
		ts.Fatalf("usage: limit on|off")
	}
	ts.Value("limiter").(*limiter).on.Store(args[0] == "on")
}

func drop(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: drop REPO TAG")
	}
	req := httptest.NewRequest(http.MethodDelete, "/v2/"+args[0]+"/manifests/"+args[1], nil)
	w := httptest.NewRecorder()
	ts.Value("limiter").(*limiter).next.ServeHTTP(w, req)
	if w.Code != http.StatusAccepted {
		ts.Fatalf("drop %s:%s: %d %s", args[0], args[1], w.Code, w.Body)
	}
}
