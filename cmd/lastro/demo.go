package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lastro/mirror/sample"
)

func (c *cli) demoCommand() *cobra.Command {
	var stay bool
	cmd := &cobra.Command{
		Use:   "demo [--stay]",
		Short: "the whole life of an image on this machine, without network or configuration",
		Long: `Demo starts a sample upstream, syncs, moves a tag upstream and syncs again, pulls
through the local registry, asks for the past, applies retention, backs up to a
folder, destroys the local data, restores, and pulls the same digests again.
Every step is checked; the exit code is 1 if one does not hold. All of it
happens on loopback and in a temporary folder that is removed at the end.`,
		Args: takes(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&stay, "stay", false, "leave the registry and the admin page up until Ctrl-C")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if c.site != nil {
			return usageError{fmt.Errorf("demo: not inside a daemon")}
		}
		return c.demo(cmd.Context(), stay)
	}
	return cmd
}

func (c *cli) demo(ctx context.Context, stay bool) error {
	d, err := c.newDemonstration()
	if err != nil {
		return err
	}
	defer d.end()
	if err := d.play(ctx, d.steps()); err != nil || !stay {
		return err
	}
	d.say("Registry http://%s   admin http://%s   configuration %s   Ctrl-C ends it.", d.registry, d.admin, d.config())
	<-ctx.Done()
	return nil
}

// demonstration is one run of the demo.
type demonstration struct {
	*cli
	dir     string
	started time.Time
	number  int

	upstream *sample.Registry
	images   []sample.Expect // what the local registry must hold

	registry, admin string        // addresses of the daemon
	halt            func() error  // ends the daemon; nil: none runs
	old             sample.Expect // what the moved tag was before
	before          time.Time     // a time at which it still was
}

// newDemonstration makes the folder that all of it happens in; end removes it.
func (c *cli) newDemonstration() (*demonstration, error) {
	dir, err := os.MkdirTemp("", "lastro-demo-")
	return &demonstration{cli: c, dir: dir, started: c.now()}, err
}

// play does the steps in their order, and stops at the first that does not hold.
func (d *demonstration) play(ctx context.Context, steps []demoStep) error {
	for _, step := range steps {
		d.title(step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("demo: %s: %w", strings.ToLower(step.title), err)
		}
	}
	d.say("\nEvery step held, in %s.", d.now().Sub(d.started).Round(100*time.Millisecond))
	return nil
}

type demoStep struct {
	title string
	do    func(ctx context.Context) error
}

func (d *demonstration) config() string { return filepath.Join(d.dir, "lastro.yaml") }
func (d *demonstration) data() string   { return filepath.Join(d.dir, "data") }
func (d *demonstration) vault() string  { return filepath.Join(d.dir, "vault") }

func (d *demonstration) title(text string) {
	d.number++
	d.say("\n%d. %s", d.number, text)
}

func (d *demonstration) say(format string, args ...any) {
	fmt.Fprintf(d.stdout, format+"\n", args...)
}

// check says that something was looked at, or fails.
func (d *demonstration) check(ok bool, format string, args ...any) error {
	if !ok {
		return fmt.Errorf("this does not hold: "+format, args...)
	}
	d.say("   ✓ "+format, args...)
	return nil
}

// verb runs a verb as a person would type it, shows the command line, and
// returns what it printed.
func (d *demonstration) verb(ctx context.Context, args ...string) (string, error) {
	return d.run(ctx, args)
}

// ask is verb for a result that is counted and not shown.
func (d *demonstration) ask(ctx context.Context, result any, args ...string) error {
	text, err := d.run(ctx, args, "--output", "json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), result); err != nil {
		return fmt.Errorf("lastro %s printed what is no JSON document: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (d *demonstration) run(ctx context.Context, args []string, flags ...string) (string, error) {
	line := "lastro " + strings.Join(args, " ")
	d.say("   $ %s", line)
	var out, errs strings.Builder
	h := d.host
	h.stdout, h.stderr, h.columns = &out, &errs, 0
	flags = append([]string{"--config", d.config(), "--quiet"}, flags...)
	if code := run(ctx, append(flags, args...), h); code != exitDone {
		return out.String(), fmt.Errorf("%s: exit code %d: %s", line, code, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// serve starts the daemon in this process, on the addresses of the configuration.
func (d *demonstration) serve(ctx context.Context) error {
	cfg, err := d.withConfig().load()
	if err != nil {
		return err
	}
	s, err := openSite(cfg, slog.New(slog.DiscardHandler), d.host)
	if err != nil {
		return err
	}
	served := &daemon{cli: d.withConfig(), site: s, log: s.log}
	if err := served.settle(ctx); err != nil {
		return joinClose(err, s)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- served.run(ctx) }()
	d.halt = func() error {
		cancel()
		d.halt = nil
		return joinClose(<-ended, s)
	}
	return d.untilServed(ctx, ended)
}

// settle makes every job look as if it had just run: the demo runs them itself,
// when it comes to them.
func (d *daemon) settle(ctx context.Context) error {
	now := d.now()
	for _, job := range d.jobs(d.site.cfg()) {
		known, err := d.site.job(ctx, job.Name)
		if err != nil {
			return err
		}
		if known.Started.IsZero() {
			known.Started, known.Ended = now, now
			if err := d.site.ledger().RecordJob(ctx, known); err != nil {
				return err
			}
		}
	}
	return nil
}

// untilServed waits until the registry answers.
func (d *demonstration) untilServed(ctx context.Context, ended chan error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.admin+"/readyz", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("the daemon ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not answer: %w", cmp.Or(err, ctx.Err()))
		case <-tick.C:
		}
	}
}

func (d *demonstration) withConfig() *cli {
	c := *d.cli
	c.config = d.config()
	return &c
}

// end stops what runs and removes the folder.
func (d *demonstration) end() {
	if d.halt != nil {
		_ = d.halt()
	}
	if d.upstream != nil {
		_ = d.upstream.Close()
	}
	_ = os.RemoveAll(d.dir)
}
