package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"lastro/configs"
)

// Exit codes, the same for every verb.
const (
	exitDone        = 0
	exitError       = 1
	exitUsage       = 2
	exitPart        = 3
	exitDifference  = 4
	exitInterrupted = 130
)

const exitCodes = `
Exit codes: 0 done, 1 error, 2 usage or configuration, 3 done in part,
4 a difference was found, 130 interrupted.`

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// outcome is an end other than "done" whose result was printed already: it
// carries the exit code, and a sentence when one is still to be said.
type outcome struct {
	code    int
	message string
}

func (o outcome) Error() string { return o.message }

// remoteExit is the exit code of a verb that ran, and printed, in the daemon.
type remoteExit struct{ code int }

func (remoteExit) Error() string { return "" }

func exitCode(ctx context.Context, err error) int {
	if o, ok := errors.AsType[outcome](err); ok {
		return o.code
	}
	if _, ok := errors.AsType[usageError](err); ok || misused(err) {
		return exitUsage
	}
	if _, ok := errors.AsType[*configs.Faults](err); ok {
		return exitUsage
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	return exitError
}

// misused knows cobra's untyped usage errors.
func misused(err error) bool {
	return strings.HasPrefix(err.Error(), "unknown command ") || strings.HasPrefix(err.Error(), "if any flags in the group ")
}

// takes wraps an argument check so that its error counts as usage.
func takes(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{errors.New(err.Error() + " (usage: " + cmd.UseLine() + ")")}
		}
		return nil
	}
}
