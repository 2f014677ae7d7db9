package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lastro/mirror/sample"
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
			e.Values["upstream"] = upstream
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("UPSTREAM", upstream.Addr())
			_, err = upstream.Fill(context.Background())
			return err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "fill": fill, "move": move,
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
			return "$" + name
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
