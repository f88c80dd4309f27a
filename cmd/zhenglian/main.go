// Command zhenglian runs a department's gateway, verifies proofs offline and
// drives a gateway from the command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	Gateway  gatewayCmd  `cmd:"" help:"Run a department's gateway."`
	Verify   verifyCmd   `cmd:"" help:"Verify a proof file or an evidence folder offline."`
	Audit    auditCmd    `cmd:"" help:"Pull, trace, reconcile and export the departments' access logs; check the whole ledger."`
	Call     callCmd     `cmd:"" help:"Call any path of a gateway, and sign what it writes with a key of one's own."`
	Catalog  catalogCmd  `cmd:"" help:"Work with the catalog through a gateway."`
	Calendar calendarCmd `cmd:"" help:"Set the calendars of working days through the lead's gateway."`
	Rule     ruleCmd     `cmd:"" help:"Set the deadline rules through the lead's gateway."`
	Index    indexCmd    `cmd:"" help:"Work with a gateway's index of the ledger."`
	Sample   sampleCmd   `cmd:"" help:"Load the sample records through the gateways."`
}

// env is what a command may use of the world.
type env struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// The exit codes, a contract with scripts.
const (
	exitOK           = 0
	exitFailed       = 1   // refused or failed
	exitUsage        = 2   // wrong use; Go also exits 2 on a panic, so 2 is never a verdict
	exitProofRefused = 3   // the proof does not hold
	exitCannotDecide = 4   // no trust anchor, unknown version, stale
	exitUnknown      = 5   // the outcome of a write is unknown
	exitInterrupted  = 130 // cancelled
)

// exitError carries the exit code that a failure ends the program with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr}
	exited := -1 // set when kong itself ends the program, for example after --help
	parser, err := kong.New(&cli{},
		kong.Name("zhenglian"),
		kong.Description("Zhenglian 政链: a data-sharing ledger for government departments."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.UsageOnError(),
	)
	if err != nil {
		fmt.Fprintln(stderr, "zhenglian:", err)
		return exitUsage
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "zhenglian: %v (try --help)\n", err)
		return exitUsage
	}
	if err := parsed.Run(e); err != nil {
		fmt.Fprintln(stderr, "zhenglian:", err)
		var coded *exitError
		switch {
		case errors.As(err, &coded):
			return coded.code
		case ctx.Err() != nil:
			return exitInterrupted
		}
		return exitFailed
	}
	return exitOK
}
