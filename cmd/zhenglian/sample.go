package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/qrcode"
	"github.com/zhenglian/zhenglian/proof"
)

// sampleCmd is "zhenglian sample".
type sampleCmd struct {
	State    string        `default:".zhenglian" placeholder:"FOLDER" help:"State folder of the consortium."`
	Print    bool          `help:"Only print again what to try."`
	Patience time.Duration `default:"2m" help:"How long one step may wait for a gateway."`
}

const sampleFormat = "zhenglian-sample/1"

// sampleState is sample.json: what every identifier of the sample follows from,
// written before the first use of it, and what was done.
type sampleState struct {
	Format      string             `json:"format"`
	Seed        string             `json:"seed"` // 64 hexadecimal digits
	CreatedAt   time.Time          `json:"createdAt"`
	Certificate *sampleCertificate `json:"certificate,omitempty"`
	CompletedAt *time.Time         `json:"completedAt,omitempty"`
}

// sampleCertificate is the issued certificate. The link carries the check code,
// which is kept nowhere else.
type sampleCertificate struct {
	Ref  string      `json:"ref"`
	Link string      `json:"link"`
	TxID domain.TxID `json:"txId"`
}

// id derives the identifier name: 32 hexadecimal digits.
func (s *sampleState) id(name string) string {
	return s.digest(name)[:32]
}

// digest derives 64 hexadecimal digits.
func (s *sampleState) digest(name string) string {
	return domain.Digest([]byte(sampleFormat + "\n" + s.Seed + "\n" + name))
}

// sampleDepartment is a department's gateway with the tokens for it.
type sampleDepartment struct {
	proof.Department
	url    string
	tokens string // path
	byRole map[domain.Role]*gatewayClient
}

// sampleRun is one run of the sample.
type sampleRun struct {
	out         io.Writer
	folder      string // state folder
	state       *sampleState
	anchors     *proof.Anchors
	trust       []byte // the trust file's bytes
	departments map[domain.DepartmentCode]*sampleDepartment
	lead        domain.DepartmentCode
	patience    time.Duration
	latest      latestBlock // the departments act on one another's writes
	start       time.Time
}

func (r *sampleRun) path(parts ...string) string {
	return filepath.Join(append([]string{r.folder}, parts...)...)
}

func (r *sampleRun) statePath() string { return r.path("sample", "sample.json") }
func (r *sampleRun) proofPath() string { return r.path("sample", "certificate.zlproof") }
func (r *sampleRun) trustPath() string { return r.path("sample", "consortium.json") }

// Run loads the sample, or says that it is there.
func (c *sampleCmd) Run(e *env) error {
	r := &sampleRun{out: e.stdout, folder: c.State, patience: c.Patience, start: time.Now()}
	if err := r.load(); err != nil {
		return err
	}
	if c.Print {
		if r.state == nil || r.state.CompletedAt == nil {
			return fmt.Errorf("no sample is loaded in %s yet; run the command without --print", c.State)
		}
		return r.ending()
	}
	if r.state != nil && r.state.CompletedAt != nil {
		intact, err := r.intact(e.ctx)
		if err != nil {
			return err
		}
		if intact {
			fmt.Fprintf(r.out, "The sample is loaded already (%s); nothing changed, checked in %s.\n",
				r.state.CompletedAt.Local().Format("2006-01-02 15:04"), time.Since(r.start).Round(time.Millisecond))
			return r.ending()
		}
	}
	if err := r.steps(e.ctx); err != nil {
		var unknown *unknownError
		if errors.As(err, &unknown) {
			return &exitError{exitUnknown, err}
		}
		return err
	}
	return r.ending()
}

// load reads the consortium's files and the state of an earlier run.
func (r *sampleRun) load() error {
	trust, err := os.ReadFile(r.path("trust", "consortium.json"))
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("no consortium in %s (%w); start one with: make up", r.folder, err)}
	}
	r.trust = trust
	if r.anchors, err = proof.ParseAnchors(trust); err != nil {
		return fmt.Errorf("%s: %w", r.path("trust", "consortium.json"), err)
	}
	r.departments = make(map[domain.DepartmentCode]*sampleDepartment)
	for _, d := range r.anchors.Departments {
		found, err := r.department(d)
		if err != nil {
			return err
		}
		r.departments[d.Code] = found
	}
	if err := r.findLead(); err != nil {
		return err
	}
	data, err := os.ReadFile(r.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read sample state: %w", err)
	}
	r.state = new(sampleState)
	if err := json.Unmarshal(data, r.state); err != nil || r.state.Format != sampleFormat || len(r.state.Seed) != 64 {
		return fmt.Errorf("%s is damaged or of another version; start over with: make reset", r.statePath())
	}
	return nil
}

// findLead reads from the definition which department leads.
func (r *sampleRun) findLead() error {
	path := r.path("consortium.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("definition of the consortium: %w", err)
	}
	var definition struct {
		Lead domain.DepartmentCode `yaml:"lead"`
	}
	if err := yaml.Unmarshal(data, &definition); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if r.departments[definition.Lead] == nil {
		return fmt.Errorf("%s: lead %q is none of the departments in the trust file", path, definition.Lead)
	}
	r.lead = definition.Lead
	return nil
}

// department reads where a department's gateway is, and its tokens.
func (r *sampleRun) department(d proof.Department) (*sampleDepartment, error) {
	path := r.path("departments", string(d.Code), "gateway", "gateway.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("gateway of %s: %w", d.Code, err)
	}
	var config struct {
		PublicURL string `json:"publicUrl"`
	}
	if err := json.Unmarshal(data, &config); err != nil || config.PublicURL == "" {
		return nil, fmt.Errorf("%s names no publicUrl", path)
	}
	out := &sampleDepartment{
		Department: d, url: config.PublicURL,
		tokens: r.path("tokens", string(d.Code)+".json"),
		byRole: make(map[domain.Role]*gatewayClient),
	}
	for _, role := range []domain.Role{domain.RoleAdmin, domain.RoleOperator, domain.RoleReviewer, domain.RoleAuditor} {
		token, err := readToken(out.tokens, string(role))
		if err != nil {
			return nil, err
		}
		if out.byRole[role], err = newGatewayClient(config.PublicURL, token, r.patience); err != nil {
			return nil, err
		}
		out.byRole[role].latest = &r.latest
	}
	return out, nil
}

// save writes the state. It is readable to its owner alone, because the link
// carries the check code.
func (r *sampleRun) save() error {
	data, err := json.MarshalIndent(r.state, "", "  ")
	if err != nil {
		return fmt.Errorf("write sample state: %w", err)
	}
	return replaceFile(r.statePath(), append(data, '\n'), 0o600)
}

// begin makes the state of a first run.
func (r *sampleRun) begin() error {
	if r.state != nil {
		return nil
	}
	if err := os.MkdirAll(r.path("sample"), 0o755); err != nil { //nolint:gosec // for others to read
		return fmt.Errorf("make sample folder: %w", err)
	}
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return fmt.Errorf("draw random bits: %w", err)
	}
	r.state = &sampleState{
		Format: sampleFormat, Seed: hex.EncodeToString(seed[:]),
		CreatedAt: time.Now().UTC().Truncate(time.Second),
	}
	return r.save()
}

// intact reports whether the ledger still holds the loaded sample. A certificate
// that somebody revoked since is there all the same. It renews a proof file that
// is about to run out.
func (r *sampleRun) intact(ctx context.Context) (bool, error) {
	v, err := r.verification(ctx)
	if err != nil {
		return false, err
	}
	if v.Verdict == api.Verdict("not_found") {
		fmt.Fprintln(r.out, "The ledger does not hold the sample certificate; loading the sample again.")
		return false, nil
	}
	return true, r.fetchProof(ctx)
}

// verification asks the issuer's gateway, as anyone may, until it can tell.
func (r *sampleRun) verification(ctx context.Context) (api.Verification, error) {
	client, ref := r.issuer().byRole[domain.RoleOperator], r.state.Certificate.Ref
	var v api.Verification
	err := r.await(ctx, "the gateway can check the certificate", func() (bool, error) {
		err := client.read(ctx, func(ctx context.Context) (*http.Response, error) { return client.VerifyCertificate(ctx, ref, nil) }, &v)
		return v.Verdict != api.Verdict("cannot_check"), err
	})
	return v, err
}

// await polls until done, for as long as the command is patient.
func (r *sampleRun) await(ctx context.Context, what string, done func() (bool, error)) error {
	deadline := time.Now().Add(r.patience)
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s until %s; see what is wrong with: bin/zhenglian-network status", r.patience, what)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// ending prints what to try.
func (r *sampleRun) ending() error {
	fmt.Fprintln(r.out, "\nGateways")
	codes := make([]domain.DepartmentCode, 0, len(r.departments))
	for code := range r.departments {
		codes = append(codes, code)
	}
	slices.SortFunc(codes, func(a, b domain.DepartmentCode) int {
		return slices.Compare([]byte(r.departments[a].url), []byte(r.departments[b].url))
	})
	for _, code := range codes {
		d := r.departments[code]
		fmt.Fprintf(r.out, "  %-10s %s  %s  tokens: %s\n", code, d.url, d.NameZh, d.tokens)
	}
	link := r.state.Certificate.Link
	fmt.Fprintf(r.out, "\nCertificate, to open in a browser or to scan\n  %s\n\n", link)
	if err := qrcode.Terminal(r.out, link); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "\nProof file  %s\nTrust file  %s\nVerify it without any of these programs running:\n  bin/zhenglian verify %s --trust %s\n",
		r.proofPath(), r.trustPath(), r.proofPath(), r.trustPath())
	return nil
}
