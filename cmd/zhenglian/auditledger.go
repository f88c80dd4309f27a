package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/fabricledger"
	"github.com/zhenglian/zhenglian/gateway/ledgeraudit"
	"github.com/zhenglian/zhenglian/proof"
)

// auditLedgerCmd is "zhenglian audit ledger".
type auditLedgerCmd struct {
	Config     string   `xor:"which" required:"" placeholder:"FILE" help:"Configuration of a department's gateway, gateway.json: its peer's copy is audited, the other peers' are compared."`
	Department string   `xor:"which" required:"" placeholder:"CODE" help:"The gateway of this department of the consortium on this machine."`
	Files      []string `xor:"which" required:"" sep:"none" placeholder:"DEPARTMENT=FOLDER" help:"Without any network: a folder with a peer's block files (blockfile_000000 …); the first one is audited, further ones are compared."`
	State      string   `default:".zhenglian" placeholder:"FOLDER" help:"With --department: state folder of the consortium."`

	Trust       string `placeholder:"FILE" help:"Trust file (consortium.json) that you have pinned; the gateway's own if not given. Needed with --files."`
	Genesis     string `xor:"genesis" placeholder:"FILE" help:"The channel's first block (genesis.block) that you have pinned; with --department, that of the state folder if not given."`
	GenesisHash string `xor:"genesis" placeholder:"HEX" help:"Its hash instead."`

	Progress string `default:"ledger-audit.json" placeholder:"FILE" help:"How far the audit has come. Run the command again to go on from there."`
	Confirm  int    `default:"20" placeholder:"N" help:"Have the departments sign the validation codes of so many of the transactions read, those that are not valid first."`
	JSON     bool   `name:"json" help:"Print the result as JSON."`
}

// Help is shown by --help below the flags.
func (*auditLedgerCmd) Help() string {
	return `From the pinned first block on: header links, data hashes, signatures of a quorum of the orderers in force, well-formed transactions,
their creators' and endorsers' signatures, validation codes; then the heights of all departments, and where their copies differ.
Exit codes: 0 the ledger is in order; 3 something was found; 4 the trust file or the first block cannot be used; 1 a peer did not answer.

Example: zhenglian audit ledger --department bigdata
Example: zhenglian audit ledger --files bigdata=blocks --trust consortium.json --genesis genesis.block`
}

// ledgerReport is what the command prints.
type ledgerReport struct {
	Overall   string                `json:"overall"`        // in_order, findings
	Ended     bool                  `json:"ended"`          // a finding ended the audit before the last block
	Audited   domain.DepartmentCode `json:"audited"`        // whose copy
	Height    uint64                `json:"height"`         // of that copy
	Confirmed int                   `json:"confirmed"`      // validation codes that the departments signed
	Heads     []ledgeraudit.Head    `json:"heads"`          // the departments' copies
	Left      string                `json:"left,omitempty"` // what was not done
	State     ledgeraudit.State     `json:"state"`
}

// ledgerRun is one run of the command.
type ledgerRun struct {
	ledgerReport
	anchors *proof.Anchors
	signer  *fabricledger.Ledger // nil without a network
	copies  []ledgeraudit.Copy   // the audited one first
	chain   *ledgeraudit.Chain
	samples map[bool][]ledgeraudit.Sample // by whether the code is valid
	tell    func(...ledgeraudit.Finding)  // tells findings as they are made
}

// maxSamples is how many transactions of a kind are remembered for signed reads.
const maxSamples = 4096

// Run audits.
func (c *auditLedgerCmd) Run(e *env) (err error) {
	r, closing, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing()) }()
	genesis, err := c.genesis()
	if err != nil {
		return &exitError{exitCannotDecide, fmt.Errorf("first block: %w", err)}
	}
	if r.chain, err = c.resume(e.ctx, r, genesis); err != nil {
		return err
	}
	r.tell = func(found ...ledgeraudit.Finding) {
		for _, f := range found {
			fmt.Fprintf(e.stderr, "FINDING %s\n", printable(f.String()))
		}
	}
	failed := c.follow(e, r)
	if failed == nil {
		failed = r.confirm(e.ctx, c.Confirm)
	}
	if failed == nil {
		failed = r.compare(e.ctx)
	}
	r.finish()
	err = errors.Join(failed, saveState(c.Progress, r.State))
	if c.JSON {
		err = errors.Join(err, writeJSON(e.stdout, r.ledgerReport))
	} else {
		r.writeText(e)
	}
	switch {
	case r.State.Found > 0:
		return &exitError{exitProofRefused, errors.Join(fmt.Errorf("%d findings: see above", r.State.Found), err)}
	case err != nil:
		return fmt.Errorf("%w (run the command again to go on from block %d)", err, r.State.Next)
	}
	return nil
}

// open opens the copies of the ledger.
func (c *auditLedgerCmd) open() (*ledgerRun, func() error, error) {
	r := &ledgerRun{ledgerReport: ledgerReport{Heads: []ledgeraudit.Head{}}, samples: map[bool][]ledgeraudit.Sample{}}
	nothing := func() error { return nil }
	if len(c.Files) > 0 {
		if c.Trust == "" {
			return nil, nil, &exitError{exitUsage, errors.New("--files needs --trust")}
		}
		var err error
		if r.anchors, err = readAnchors(c.Trust); err != nil {
			return nil, nil, &exitError{exitCannotDecide, err}
		}
		for _, text := range c.Files {
			department, folder, ok := strings.Cut(text, "=")
			if !ok {
				return nil, nil, &exitError{exitUsage, fmt.Errorf("--files %s: must be DEPARTMENT=FOLDER", text)}
			}
			files, err := ledgeraudit.OpenFiles(os.DirFS(folder))
			if err != nil {
				return nil, nil, fmt.Errorf("--files %s: %w", department, err)
			}
			r.copies = append(r.copies, ledgeraudit.Copy{Department: domain.DepartmentCode(department), Source: files})
		}
		r.Audited = r.copies[0].Department
		return r, nothing, nil
	}
	file, err := gatewayFile(c.Config, c.Department, c.State)
	if err != nil {
		return nil, nil, err
	}
	setup, err := loadGateway(file, "")
	if err != nil {
		return nil, nil, &exitError{exitUsage, err}
	}
	r.anchors = setup.anchors
	if c.Trust != "" {
		if r.anchors, err = readAnchors(c.Trust); err != nil {
			return nil, nil, &exitError{exitCannotDecide, err}
		}
	}
	if r.signer, err = fabricledger.New(setup.fabric, slog.New(slog.DiscardHandler)); err != nil {
		return nil, nil, &exitError{exitUsage, fmt.Errorf("%s: %w", file, err)}
	}
	r.copies = r.signer.Copies()
	r.Audited = r.copies[0].Department
	return r, r.signer.Close, nil
}

// genesis answers the pinned hash of the first block.
func (c *auditLedgerCmd) genesis() ([]byte, error) {
	text := c.GenesisHash
	if text == "" {
		file := c.Genesis
		if file == "" && c.Department != "" {
			file = filepath.Join(c.State, "channel", "genesis.block")
		}
		if file == "" {
			return nil, errors.New("give --genesis or --genesis-hash")
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if text, err = ledgeraudit.GenesisHash(data); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	hash, err := hex.DecodeString(text)
	if err != nil || len(hash) != 32 {
		return nil, errors.New("the hash must be 64 hexadecimal digits")
	}
	return hash, nil
}

// resume begins an audit, or goes on with the one that the progress file is of.
func (c *auditLedgerCmd) resume(ctx context.Context, r *ledgerRun, genesis []byte) (*ledgeraudit.Chain, error) {
	data, err := os.ReadFile(c.Progress)
	if errors.Is(err, fs.ErrNotExist) {
		return ledgeraudit.New(r.anchors.Channel, genesis), nil
	}
	if err != nil {
		return nil, err
	}
	var state ledgeraudit.State
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("progress file %s: %w", c.Progress, err)}
	}
	if state.Channel != r.anchors.Channel || state.Genesis != hex.EncodeToString(genesis) {
		return nil, &exitError{exitUsage, fmt.Errorf("progress file %s: it is of another ledger; name another with --progress", c.Progress)}
	}
	var config *common.Block
	if state.Next > 0 {
		if config, err = r.copies[0].Source.Block(ctx, state.Config); err != nil {
			return nil, err
		}
	}
	chain, err := ledgeraudit.Resume(state, config)
	if err != nil {
		return nil, &exitError{exitProofRefused, fmt.Errorf("progress file %s does not fit this copy: %w", c.Progress, err)}
	}
	return chain, nil
}

// follow checks every block from where the audit stands.
func (c *auditLedgerCmd) follow(e *env, r *ledgerRun) error {
	source := r.copies[0].Source
	height, err := source.Height(e.ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Audited, err)
	}
	r.Height = height
	start, from := time.Now(), r.chain.State().Next
	told := start
	err = source.Blocks(e.ctx, from, height, func(b *common.Block) error {
		before := r.chain.Configuration()
		found, err := r.chain.Check(b)
		if err != nil {
			return err
		}
		if after := r.chain.Configuration(); after != before && after != nil {
			other := after.CheckTrust(r.anchors)
			r.chain.Add(other...)
			found = append(found, other...)
		}
		r.tell(found...)
		if r.chain.Ended() {
			return ledgeraudit.ErrEnded
		}
		r.sample(b)
		if now := time.Now(); now.Sub(told) >= pullEvery {
			told = now
			s := r.chain.State()
			fmt.Fprintf(e.stderr, "%s: block %d of %d (%d %%), %.0f blocks/s\n", r.Audited, s.Next, height, 100*s.Next/height, float64(s.Next-from)/now.Sub(start).Seconds())
			return saveState(c.Progress, s)
		}
		return nil
	})
	if errors.Is(err, ledgeraudit.ErrEnded) {
		return nil // the findings say why
	}
	return err
}

// sample remembers transactions for signed reads of their codes.
func (r *ledgerRun) sample(b *common.Block) {
	if r.signer == nil {
		return
	}
	for _, s := range ledgeraudit.Samples(b) {
		ok := s.Code == "VALID"
		kept := append(r.samples[ok], s)
		if len(kept) > maxSamples { // every second one stands for the rest
			half := kept[:0]
			for i := 0; i < len(kept); i += 2 {
				half = append(half, kept[i])
			}
			kept = half
		}
		r.samples[ok] = kept
	}
}

// confirm has the departments sign the codes of at most n transactions.
func (r *ledgerRun) confirm(ctx context.Context, n int) error {
	if r.signer == nil {
		r.Left = "no validation code was confirmed by signed reads: block files alone cannot"
		return nil
	}
	invalid := spread(r.samples[false], n)
	for _, s := range slices.Concat(invalid, spread(r.samples[true], n-len(invalid))) {
		id, err := ledgeraudit.TransactionID(s.Envelope)
		if err != nil {
			continue // cannot be read; if it counted, that is a finding already
		}
		signed, err := r.signer.SignedCode(ctx, id, r.anchors.Quorum)
		if err != nil {
			return err
		}
		if f := r.chain.Configuration().Judge(s, signed, r.anchors.Quorum); f != nil {
			r.chain.Add(*f)
			r.tell(*f)
		}
		r.Confirmed++
	}
	return nil
}

// spread picks n of all, evenly, the last one among them.
func spread[T any](all []T, n int) []T {
	if n <= 0 || len(all) <= n {
		return all[:min(len(all), max(0, n))]
	}
	out := make([]T, n)
	for i := range out {
		out[i] = all[(i+1)*len(all)/n-1]
	}
	return out
}

// compare compares the departments' copies.
func (r *ledgerRun) compare(ctx context.Context) error {
	heads, found, err := r.chain.Compare(ctx, r.copies[0], r.copies[1:])
	r.Heads = heads
	r.chain.Add(found...)
	r.tell(found...)
	return err
}

func (r *ledgerRun) finish() {
	r.State, r.Ended = r.chain.State(), r.chain.Ended()
	r.Overall = "in_order"
	if r.State.Found > 0 {
		r.Overall = "findings"
	}
}

func (r *ledgerRun) writeText(e *env) {
	s := r.State
	line := func(name, format string, args ...any) {
		fmt.Fprintf(e.stdout, "%-14s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	if s.Found > 0 {
		fmt.Fprintf(e.stdout, "账本核查发现问题\nThe ledger is NOT in order\n\n")
	} else {
		fmt.Fprintf(e.stdout, "账本核查未发现问题\nThe ledger is in order, as far as it was read\n\n")
	}
	line("audited", "the copy of %s, blocks 0 to %d of %d", r.Audited, int64(s.Next)-1, r.Height)
	var codes []string
	for _, code := range slices.Sorted(maps.Keys(s.Codes)) {
		codes = append(codes, fmt.Sprintf("%s %d", code, s.Codes[code]))
	}
	line("transactions", "%d: %s", s.Transactions, strings.Join(codes, ", "))
	line("confirmed", "%d validation codes, signed by at least %d departments each", r.Confirmed, r.anchors.Quorum)
	for _, change := range s.Changes {
		line("configuration", "block %d sets number %d, signed by administrators of %v", change.Block, change.Sequence, change.SignedBy)
	}
	for _, head := range r.Heads {
		if head.Error != "" {
			line(string(head.Department), "did not answer: %s", head.Error)
		} else {
			line(string(head.Department), "height %d", head.Height)
		}
	}
	if r.Left != "" {
		line("left out", "%s", r.Left)
	}
	for _, f := range s.Findings {
		line("FINDING", "%s", f)
	}
	if n := s.Found - len(s.Findings); n > 0 {
		line("FINDING", "and %d more", n)
	}
	if r.Ended {
		line("ended", "nothing after block %d could be checked", int64(s.Next)-1)
	}
}

// saveState replaces the progress file as a whole.
func saveState(path string, state ledgeraudit.State) error {
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(data, '\n'), 0o644)
}
