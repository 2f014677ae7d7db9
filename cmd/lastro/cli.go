package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lastro/mirror"
)

// host is where a verb runs: its output, its folder, its clock. A verb that
// runs inside the daemon gets the site that is open there.
type host struct {
	stdin          io.Reader // of a process of its own; the daemon's clients send none
	stdout, stderr io.Writer
	dir            string // working directory of the person who typed the verb
	getenv         func(string) string
	now            func() time.Time
	user           string // who typed the verb
	columns        int    // width of the terminal on stderr; 0: not a terminal

	serves   bool                     // it is a daemon, whose clients do not wait
	site     *site                    // the daemon's; nil in a process of our own
	progress mirror.Progress          // the daemon's client; nil: draw here
	step     func(op, subject string) // fault point of tests, before every change on disk or in a bucket
}

// cli is one command line: the host it runs on and its global flags.
type cli struct {
	host
	args   []string // as typed
	counts string   // what progress is of, for the daemon

	config    string
	output    string
	quiet     bool
	logLevel  string
	logFormat string
}

// run does what args say and returns the exit code.
func run(ctx context.Context, args []string, h host) int {
	c := &cli{host: h, args: args}
	root := c.rootCommand()
	root.SetArgs(args)
	return c.exit(ctx, root.ExecuteContext(ctx))
}

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "lastro",
		Short: "a verified, dated, restorable copy of the container images you depend on",
		Long: `lastro copies chosen images from upstream registries into a local registry,
remembers every digest that every tag ever had, removes by rules that explain
themselves, backs all of it up to a bucket or a folder, and restores.

Start with "lastro demo". Then write a lastro.yaml and run "lastro serve".
` + exitCodes,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: c.checkFlags,
	}
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %q)", err, cmd.CommandPath()+" --help")}
	})
	f := root.PersistentFlags()
	f.StringVarP(&c.config, "config", "c", "", "configuration `file` (else $LASTRO_CONFIG, ./lastro.yaml, /etc/lastro/lastro.yaml)")
	f.StringVarP(&c.output, "output", "o", "text", "`text` or json")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "no progress, only results and errors")
	f.StringVar(&c.logLevel, "log-level", "", "debug, info, warn or error (default: info for serve, warn for the rest)")
	f.StringVar(&c.logFormat, "log-format", "text", "`text` or json")
	for _, add := range c.verbs() {
		cmd := add()
		if cmd.Long == "" {
			cmd.Long = strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + "."
		}
		cmd.Long += "\n" + exitCodes
		root.AddCommand(cmd)
	}
	return root
}

func (c *cli) verbs() []func() *cobra.Command {
	return []func() *cobra.Command{
		c.serveCommand, c.demoCommand, c.syncCommand, c.statusCommand, c.listCommand, c.showCommand,
		c.historyCommand, c.resolveCommand, c.retainCommand, c.collectCommand, c.undoCommand, c.protectCommand, c.rollbackCommand, c.checkCommand, c.rebuildCommand, c.ledgerCommand, c.backupCommand,
		c.restoreCommand, c.clientConfigCommand, c.configCommand, c.versionCommand,
	}
}

func (c *cli) checkFlags(cmd *cobra.Command, _ []string) error {
	if c.output != "text" && c.output != "json" {
		return usageError{fmt.Errorf("--output %q is neither text nor json", c.output)}
	}
	if c.logFormat != "text" && c.logFormat != "json" {
		return usageError{fmt.Errorf("--log-format %q is neither text nor json", c.logFormat)}
	}
	var level slog.Level
	if c.logLevel != "" && level.UnmarshalText([]byte(c.logLevel)) != nil {
		return usageError{fmt.Errorf("--log-level %q is none of debug, info, warn, error", c.logLevel)}
	}
	return c.refuseWhileReading(cmd)
}

// logger writes to stderr, from the level asked for, else from def up.
func (c *cli) logger(def slog.Level) *slog.Logger {
	level := def
	if c.logLevel != "" {
		_ = level.UnmarshalText([]byte(c.logLevel)) // checkFlags has refused what does not parse
	}
	o := &slog.HandlerOptions{Level: level}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(c.stderr, o))
	}
	return slog.New(slog.NewTextHandler(c.stderr, o))
}

// printable is a result that can say itself in words. Its JSON form is the
// contract with scripts.
type printable interface{ Print(w io.Writer) error }

// print writes a result to stdout in the form that --output asks for.
func (c *cli) print(v printable) error {
	if c.output != "json" {
		return v.Print(c.stdout)
	}
	e := json.NewEncoder(c.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// exit prints an error and turns it into an exit code.
func (c *cli) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	if done, ok := errors.AsType[remoteExit](err); ok {
		return done.code // the daemon has printed everything
	}
	code := exitCode(ctx, err)
	if message := err.Error(); message != "" {
		fmt.Fprintf(c.stderr, "lastro: %s\n", message)
	}
	return code
}
