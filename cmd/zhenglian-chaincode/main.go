// Command zhenglian-chaincode serves the ledger's chaincode to one department's
// peer over mutual TLS.
//
// Standard output is not used; what the process has to say goes to standard
// error, one JSON object a line. It exits with 0 after SIGTERM, with 2 if it is
// used wrongly, with 1 for everything else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/zhenglian/zhenglian/chaincode"
)

const usage = `Usage: zhenglian-chaincode --config FILE

Serves the chaincode ` + chaincode.Name + ` ` + chaincode.Version + ` to a peer (chaincode as a service).
FILE is JSON; paths in it are relative to its folder:

  {"listen":"127.0.0.1:9052","chaincodeId":"zhenglian_1.0:<package hash>",
   "tls":{"certificate":"server.pem","key":"server.key","clientRoots":"peer-ca.pem"}}

Only clients with a certificate from clientRoots are served.
`

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("zhenglian-chaincode", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are printed below, once
	path := flags.String("config", "", "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		return fail(stderr, exitUsage, err)
	case flags.NArg() > 0:
		return fail(stderr, exitUsage, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case *path == "":
		return fail(stderr, exitUsage, errors.New("--config FILE is required"))
	}
	config, err := readConfig(*path)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	logger := slog.New(slog.NewJSONHandler(stderr, nil))
	server, err := listen(config, logger)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	if err := server.serve(ctx); err != nil {
		return fail(stderr, exitFailed, err)
	}
	return exitOK
}

func fail(stderr io.Writer, code int, err error) int {
	fmt.Fprintln(stderr, "zhenglian-chaincode:", err)
	if code == exitUsage {
		fmt.Fprintln(stderr, "zhenglian-chaincode: try --help")
	}
	return code
}
