package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

// jobCheckLedger is the name of the run that the metrics count as check, ledger.
const jobCheckLedger = "check ledger"

// ledgerWayOut is what to do about a ledger with problems.
const ledgerWayOut = `stop lastro and keep ledger.db; put a copy in its place (lastro ledger copy made one), or move it away and run lastro rebuild (the graph) and lastro restore (the history)`

func (c *cli) ledgerCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "prove that the ledger's file is whole and agrees with itself",
		Long: `Check reads every page of the ledger's file, and looks whether events, history and
tags agree. It looks at a copy in the data folder, which it removes, so it runs
beside everything else and needs that much room on the disk for a while. The daemon
does the same once a night.

What the ledger says of the registry is for lastro check to prove. The exit code is
4 when there is a problem.`,
		Args: takes(cobra.NoArgs),
		RunE: c.verb(func(ctx context.Context, s *site, _ []string) error {
			checked, err := s.checkLedgerFile(ctx)
			if err != nil {
				return err
			}
			if err := c.print(checked); err != nil {
				return err
			}
			if n := len(checked.Problems); n > 0 {
				return outcome{exitDifference, fmt.Sprintf("ledger check: %d problems: %s", n, ledgerWayOut)}
			}
			return nil
		}),
	}
}

// ledgerChecked is what the ledger keeps of a check of itself.
type ledgerChecked struct {
	Time        time.Time `json:"time"`
	Bytes       int64     `json:"bytes"`
	Problems    []string  `json:"problems"`
	More        bool      `json:"more"` // there are more problems
	TookSeconds float64   `json:"took_seconds"`
}

// checkLedgerFile says in the log what is wrong before it records the run in the
// ledger that it is wrong with.
func (s *site) checkLedgerFile(ctx context.Context) (checked ledgerChecked, err error) {
	err = s.record(ctx, jobCheckLedger, func() (runResult, error) {
		began := s.now()
		found, err := s.ledger().Check(ctx)
		if err != nil {
			return runResult{}, err
		}
		took := s.now().Sub(began)
		checked = ledgerChecked{Time: began.UTC(), Bytes: found.Bytes, Problems: found.Problems, More: found.More, TookSeconds: took.Seconds()}
		if n := len(found.Problems); n > 0 {
			s.log.Error("the ledger has problems", "job", jobCheckLedger, "problems", n, "more", found.More, "first", found.Problems[0], "next", ledgerWayOut)
		}
		checked.Problems = append([]string{}, checked.Problems...)
		return runResult{record: checked, failed: len(found.Problems)}, nil
	})
	return checked, err
}

// Print lists the problems first.
func (l ledgerChecked) Print(w io.Writer) error {
	for _, p := range l.Problems {
		fmt.Fprintf(w, "problem: %s\n", p)
	}
	and := ""
	if l.More {
		and = " and more"
	}
	_, err := fmt.Fprintf(w, "checked the ledger: %s, %d problems%s\n", humanize.IBytes(uint64(l.Bytes)), len(l.Problems), and)
	return err
}

// ledgerStatus tells of the last check, if there was one.
func (s *site) ledgerStatus(ctx context.Context, st *status) error {
	job, err := s.job(ctx, jobCheckLedger)
	if err != nil {
		return err
	}
	if job.Err != "" {
		st.Problems = append(st.Problems, "ledger: the last check ended with: "+job.Err)
	}
	var last ledgerChecked
	if len(job.Result) == 0 {
		return nil
	}
	if err := json.Unmarshal(job.Result, &last); err != nil {
		return fmt.Errorf("status: the record of the check of the ledger: %w", err)
	}
	if n := len(last.Problems); n > 0 {
		st.Problems = append(st.Problems, fmt.Sprintf("ledger: the check of %s found %d problems, first %s: %s", stamp(last.Time), n, last.Problems[0], ledgerWayOut))
	}
	return nil
}

func (d *daemon) scheduledLedgerCheck(ctx context.Context) error {
	checked, err := d.site.checkLedgerFile(ctx)
	if err != nil {
		return err
	}
	d.log.Info("ledger checked", "job", jobCheckLedger, "bytes", checked.Bytes, "problems", len(checked.Problems))
	return nil
}

// nightly is between three and four in the morning: each daemon at a time of its
// own, because several may share a disk.
func nightly(who string) func(after time.Time) time.Time {
	h := fnv.New64a()
	h.Write([]byte(who))
	spread := time.Duration(h.Sum64() % uint64(time.Hour))
	return func(after time.Time) time.Time {
		y, m, day := after.In(time.Local).Date()
		for {
			if t := time.Date(y, m, day, 3, 0, 0, 0, time.Local).Add(spread); t.After(after) {
				return t
			}
			day++
		}
	}
}

// whoami tells this daemon from others: by its machine and its folder.
func whoami(data string) string {
	machine, _ := os.Hostname() // none is a name as good as any
	if folder, err := filepath.Abs(data); err == nil {
		data = folder
	}
	return machine + "\x00" + data
}
