// Command zhenglian-network starts, stops and inspects a consortium of departments on
// this machine.
//
// Results go to standard output, diagnoses to standard error as one line that names the
// cause and the remedy. It exits 0 when what was asked for holds, 1 when it does not, 2
// for wrong usage, 3 when doctor has warnings and nothing worse, 5 when nobody can say yet
// whether a change of the channel takes effect, and 130 when interrupted.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/zhenglian/zhenglian/network"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// The documented exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitWarned      = 3 // of doctor: nothing is broken, something will be
	exitUnknown     = 5 // of config submit: it may take effect or not
	exitInterrupted = 130
)

type commandLine struct {
	State      string `help:"Folder of everything the consortium is and writes." default:".zhenglian" type:"path"`
	Definition string `help:"The consortium as code." default:"network/consortium.yaml" type:"path"`
	Bin        string `help:"Folder of the programs." default:"bin" type:"path"`
	JSON       bool   `help:"Write the result as JSON to standard output, progress to standard error." name:"json"`

	Build struct{} `cmd:"" help:"Build the programs that are missing or older than their sources."`
	Up    struct {
		WithoutGateways bool `help:"Stop when the chaincode is committed."`
	} `cmd:"" help:"Set up what is missing and start everything; nothing to do is fine."`
	Down   struct{} `cmd:"" help:"Stop every process; data stays."`
	Status struct{} `cmd:"" help:"Show processes, heights, chaincode and certificates."`
	Reset  struct {
		Yes bool `help:"Do not ask."`
	} `cmd:"" help:"Delete all keys, ledgers and logs, after asking."`
	Trust struct {
		Output string `help:"Write the file here instead of to standard output." short:"o" type:"path"`
	} `cmd:"" help:"Print the trust anchors that verifiers pin."`
	Doctor struct{} `cmd:"" help:"Say what is wrong or will be: host, programs, certificates, lag, clocks, disk, anchoring. Exits 1 on failures, 3 on warnings."`

	Revoke struct {
		Department  string `help:"Whose certificate it is." required:""`
		Identity    string `help:"Replace the key of this identity (admin, auditor, gateway, issuing, operator, peer, reviewer), then revoke its certificate." xor:"what"`
		Certificate string `help:"Revoke the certificate in this file." xor:"what" type:"path"`
		Reason      string `help:"Why, as RFC 5280 names it." default:"keycompromise" enum:"unspecified,keycompromise,affiliationchanged,superseded,cessationofoperation"`
	} `cmd:"" help:"Revoke a certificate: at its authority, in the channel and in the trust file."`
	Backup struct {
		Department     string   `help:"Whose data." required:""`
		Output         string   `help:"File to write." required:"" short:"o" type:"path"`
		Recipient      []string `help:"Encrypt for this age recipient (age1…); may be given several times." xor:"secret"`
		PassphraseFile string   `help:"Encrypt with the passphrase in the first line of this file." xor:"secret" type:"path"`
	} `cmd:"" help:"Write everything of a department into one encrypted file; it is stopped meanwhile."`
	Restore struct {
		Department     string `help:"Which department." required:""`
		Input          string `help:"File that backup wrote." required:"" short:"i" type:"path"`
		Identity       string `help:"File with the age identity." xor:"secret" type:"path"`
		PassphraseFile string `help:"File with the passphrase in its first line." xor:"secret" type:"path"`
	} `cmd:"" help:"Bring a department back whose folder is gone, or make the state folder of a new host."`
	Render struct {
		Department string `help:"Whose machine." required:""`
		Out        string `help:"Folder to write." required:"" type:"path"`
		HostState  string `help:"The state folder on that machine." default:"/var/lib/zhenglian"`
		HostBin    string `help:"The programs on that machine." default:"/opt/zhenglian/bin"`
		HostEtc    string `help:"The services' environment on that machine." default:"/etc/zhenglian"`
	} `cmd:"" help:"Write the folder for a machine of one department: keys, configuration, systemd services."`
	Rotate struct {
		Department string `help:"Whose certificates." required:""`
		Days       int    `help:"Renew those that end within so many days; 400 renews all." default:"30"`
	} `cmd:"" help:"Give a department new keys and certificates before the old ones end, without a break of the consortium."`
	Config        configCommand `cmd:"" help:"Change the channel's configuration with the signatures of several departments, each from its own machine."`
	AddDepartment struct{}      `cmd:"" help:"Take in the department that the edited definition has besides."`
	Upgrade       struct{}      `cmd:"" help:"Bring the chaincode to the version in the edited definition, without a break."`
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var cli commandLine
	exited := -1
	parser, err := kong.New(&cli, kong.Name("zhenglian-network"), kong.Writers(stdout, stderr),
		kong.Description("Starts, stops and inspects a consortium of departments on this machine."),
		kong.Exit(func(code int) { exited = code }))
	if err != nil {
		fmt.Fprintf(stderr, "zhenglian-network: %v\n", err)
		return exitFailed
	}
	selected, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "zhenglian-network: %v; see zhenglian-network --help\n", err)
		return exitUsage
	}
	layout, err := network.NewLayout(cli.State, cli.Bin)
	if err != nil {
		fmt.Fprintf(stderr, "zhenglian-network: %v\n", err)
		return exitFailed
	}
	progress := stdout
	if cli.JSON {
		progress = stderr
	}
	c := &network.Consortium{
		Layout: layout, DefinitionPath: cli.Definition,
		Gateways: !cli.Up.WithoutGateways, Progress: network.NewProgress(progress),
	}
	s := session{cli: &cli, consortium: c, stdin: stdin, stdout: stdout}

	code := exitOK
	switch selected.Command() {
	case "build":
		err = s.build(ctx)
	case "up":
		err = s.up(ctx)
	case "down":
		err = s.down(ctx)
	case "status":
		code, err = s.status(ctx)
	case "reset":
		err = s.reset(ctx)
	case "trust":
		err = s.trust()
	case "doctor":
		code, err = s.doctor(ctx)
	case "revoke":
		err = s.revoke(ctx)
	case "backup":
		err = s.backup(ctx)
	case "restore":
		err = s.restore(ctx)
	case "add-department":
		err = s.addDepartment(ctx)
	case "rotate":
		err = s.rotate(ctx)
	case "render":
		err = s.render(ctx)
	case "upgrade":
		err = s.upgrade(ctx)
	default:
		err = s.config(ctx, selected.Command())
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "zhenglian-network: interrupted; running the same command again continues")
		return exitInterrupted
	}
	if err != nil {
		// One line, whatever the libraries below put into their errors.
		fmt.Fprintf(stderr, "zhenglian-network: %s\n", strings.Join(strings.Fields(err.Error()), " "))
		if errors.Is(err, network.ErrUnknown) {
			return exitUnknown
		}
		return exitFailed
	}
	return code
}

// session is one run of the program.
type session struct {
	cli        *commandLine
	consortium *network.Consortium
	stdin      io.Reader
	stdout     io.Writer
}

func (s *session) writeJSON(v any) error {
	enc := json.NewEncoder(s.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (s *session) up(ctx context.Context) error {
	result, err := s.consortium.Up(ctx)
	if err != nil {
		return err
	}
	if s.cli.JSON {
		return s.writeJSON(result)
	}
	if result.Already {
		fmt.Fprintf(s.stdout, "already up, nothing changed (%.1fs)\n", result.Seconds)
	} else {
		fmt.Fprintf(s.stdout, "up in %.1fs\n", result.Seconds)
	}
	for _, g := range result.Gateway {
		if g.Ready {
			fmt.Fprintf(s.stdout, "  %-8s %s  %s\n", g.Department, g.URL, g.NameZh)
		}
	}
	fmt.Fprintf(s.stdout, "  tokens   %s\n  trust    %s\n", result.Tokens, result.Trust)
	return nil
}

func (s *session) build(ctx context.Context) error {
	built, err := s.consortium.Build(ctx)
	if err != nil {
		return err
	}
	if s.cli.JSON {
		return s.writeJSON(map[string]int{"built": built})
	}
	return nil
}

func (s *session) down(ctx context.Context) error {
	stopped, err := s.consortium.Down(ctx)
	if err != nil {
		return err
	}
	if s.cli.JSON {
		return s.writeJSON(map[string]int{"stopped": stopped})
	}
	if stopped == 0 {
		fmt.Fprintln(s.stdout, "nothing was running")
	}
	return nil
}

func (s *session) status(ctx context.Context) (int, error) {
	st, err := s.consortium.Status(ctx)
	if err != nil {
		return exitFailed, err
	}
	code := exitOK
	if st.State != "running" {
		code = exitFailed
	}
	if s.cli.JSON {
		return code, s.writeJSON(st)
	}
	def, err := s.consortium.Definition()
	if err != nil {
		return exitFailed, err
	}
	return code, st.Print(s.stdout, def)
}

func (s *session) reset(ctx context.Context) error {
	if !s.cli.Reset.Yes {
		fmt.Fprintf(s.stdout, "delete all keys, ledgers and logs in %s? Type yes: ", s.consortium.Layout.State)
		answer, err := bufio.NewReader(s.stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the answer: %w", err)
		}
		if strings.TrimSpace(answer) != "yes" {
			return errors.New("not confirmed, nothing was deleted; answer yes or give --yes")
		}
	}
	if err := s.consortium.Reset(ctx); err != nil {
		return err
	}
	if s.cli.JSON {
		return s.writeJSON(map[string]string{"deleted": s.consortium.Layout.State})
	}
	return nil
}

func (s *session) trust() error {
	data, err := s.consortium.TrustFile()
	if err != nil {
		return err
	}
	if s.cli.Trust.Output != "" {
		return os.WriteFile(s.cli.Trust.Output, data, 0o644) //nolint:gosec // trust anchors are for everyone to read
	}
	_, err = s.stdout.Write(append(data, '\n'))
	return err
}

func (s *session) doctor(ctx context.Context) (int, error) {
	findings, err := s.consortium.Doctor(ctx)
	if err != nil {
		return exitFailed, err
	}
	if s.cli.JSON {
		err = s.writeJSON(findings)
	} else {
		network.PrintFindings(s.stdout, findings)
	}
	switch network.Worst(findings) {
	case "fail":
		return exitFailed, err
	case "warn":
		return exitWarned, err
	}
	return exitOK, err
}
