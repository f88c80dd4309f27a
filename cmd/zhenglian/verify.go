package main

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// verifyCmd checks a proof file or an evidence folder without network. The verdict goes to standard
// output; why it is not a plain yes goes to standard error as well.
//
// Exit code 0 says that the proof holds, whatever it proves: a revoked
// certificate is proven too. 3 says that the proof, the nonce or the check code
// is refused, 4 that nothing can be decided.
type verifyCmd struct {
	File      string    `arg:"" help:"Proof file (.zlproof), or folder that audit export wrote; - reads standard input."`
	Trust     string    `required:"" placeholder:"FILE" help:"Trust file (consortium.json) that you have pinned."`
	JSON      bool      `name:"json" help:"Print the verdict as JSON."`
	At        time.Time `placeholder:"TIME" help:"Judge as of this time (RFC 3339) instead of now."`
	Nonce     string    `placeholder:"HEX" help:"Require the nonce with which you asked for the proof: 32 lower-case hexadecimal digits."`
	CheckCode string    `placeholder:"CODE" help:"Compare the check code printed on the certificate."`
	StatusAt  time.Time `placeholder:"TIME" help:"Ask for the status at this time (RFC 3339), as the proof's record knows it."`
	CRL       []string  `name:"crl" placeholder:"FILE" help:"Revocation list of a department's authority (PEM, as fabric-ca-client gencrl writes it), beside those in the trust file; repeat for each."`

	Departments int      `placeholder:"N" help:"Require signatures of so many departments; at least as many as the trust file requires."`
	Require     []string `placeholder:"DEPARTMENT" help:"Require the signature of this department; repeat for each."`
	Issuer      string   `enum:"any,included,excluded" default:"any" help:"What the signature of the department counts whose record it is: like any other, required, or not at all (${enum})."`
}

// Help is shown by --help below the flags.
func (*verifyCmd) Help() string {
	return `Exit codes: 0 the proof holds, whatever it proves (read the verdict: a revoked certificate is proven too);
3 the proof, the nonce or the check code is refused; 4 nothing can be decided (stale, unknown format, no usable trust file);
1 the proof file cannot be read; 2 wrong use. Of an evidence folder, 0 says that the log ranges in it are complete and unchanged.

Example: zhenglian verify certificate.zlproof --trust consortium.json --check-code K7QXM2RTWH`
}

// maxTrustBytes is more than any trust file that proof.ParseAnchors accepts.
const maxTrustBytes = 1<<20 + 1

// The answers to a check code.
const (
	checkCodeNotAsked = ""
	checkCodeMatches  = "match"
	checkCodeDiffers  = "mismatch"
	checkCodeUnknown  = "unknown" // there is no proven certificate to compare with
)

var nonceShape = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (c *verifyCmd) Run(e *env) error {
	if c.Nonce != "" && !nonceShape.MatchString(c.Nonce) {
		return &exitError{exitUsage, errors.New("--nonce must be 32 lower-case hexadecimal digits")}
	}
	anchors, err := readAnchors(c.Trust)
	for _, file := range c.CRL {
		if err == nil {
			anchors, err = withCRL(anchors, file)
		}
	}
	if err != nil {
		return &exitError{exitCannotDecide, err}
	}
	if info, err := os.Stat(c.File); err == nil && info.IsDir() {
		return c.verifyFolder(e, anchors)
	}
	unverified, err := readProof(c.File, e.stdin)
	if err != nil {
		return err
	}
	at := c.At
	if at.IsZero() {
		at = time.Now()
	}
	opts := proof.Options{At: at, StatusAt: c.StatusAt, Nonce: c.Nonce, Policy: c.policy()}
	report := newReport(proof.Verify(unverified, anchors, opts), anchors, c.CheckCode)
	report.judgedAt = judgedAt(report.Statement, opts)
	if c.JSON {
		err = report.writeJSON(e.stdout)
	} else {
		err = report.writeText(e.stdout)
	}
	if err != nil {
		return fmt.Errorf("write verdict: %w", err)
	}
	return report.exit()
}

// policy is what the flags demand of the signers.
func (c *verifyCmd) policy() proof.Policy {
	p := proof.Policy{Quorum: c.Departments}
	if c.Issuer != "any" {
		p.Issuer = proof.IssuerRule(c.Issuer)
	}
	for _, code := range c.Require {
		p.Departments = append(p.Departments, domain.DepartmentCode(code))
	}
	return p
}

// withCRL adds a revocation list to the anchors.
func withCRL(anchors *proof.Anchors, path string) (*proof.Anchors, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("revocation list: %w", err)
	}
	more, err := anchors.WithCRL(string(data))
	if err != nil {
		return nil, fmt.Errorf("revocation list %s: %w", path, err)
	}
	return more, nil
}

func readAnchors(path string) (*proof.Anchors, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(file, maxTrustBytes))
	if err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	return proof.ParseAnchors(data)
}

// readProof reads at most one byte more than a proof may have, so that a longer
// file is refused for its length.
func readProof(path string, stdin io.Reader) ([]byte, error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("proof file: %w", err)
		}
		defer file.Close() //nolint:errcheck // only read
		stdin = file
	}
	data, err := io.ReadAll(io.LimitReader(stdin, proof.MaxBundleBytes+1))
	if err != nil {
		return nil, fmt.Errorf("proof file: %w", err)
	}
	return data, nil
}

// verifyReport is what the command prints.
type verifyReport struct {
	proof.Verdict
	Overall   string          `json:"overall"` // in place of Verdict's, whose zero value has no name
	Record    json.RawMessage `json:"record,omitempty"`
	CheckCode string          `json:"checkCode"`

	anchors     *proof.Anchors
	certificate *domain.Certificate
	judgedAt    time.Time // whose status the verdict tells
}

// judgedAt answers whose time's status a verdict under opts tells.
func judgedAt(s *domain.Statement, opts proof.Options) time.Time {
	switch {
	case !opts.StatusAt.IsZero():
		return opts.StatusAt
	case s != nil && s.AsOf.After(opts.At):
		return s.AsOf
	}
	return opts.At
}

func newReport(v proof.Verdict, anchors *proof.Anchors, checkCode string) *verifyReport {
	r := &verifyReport{Verdict: v, Overall: string(v.Overall), anchors: anchors}
	if v.Overall == proof.CannotCheck {
		r.Overall = "cannot_check"
	}
	if s := v.Statement; s != nil && s.Found {
		r.Record = json.RawMessage(s.Record)
		if s.Kind == domain.KindCertificate {
			r.certificate = new(domain.Certificate)
			if err := domain.ParseCanonical([]byte(s.Record), r.certificate); err != nil {
				r.certificate = nil // cannot be: proof.Verify has read it
			}
		}
	}
	switch {
	case checkCode == "":
		r.CheckCode = checkCodeNotAsked
	case r.certificate == nil:
		r.CheckCode = checkCodeUnknown
	case matches(r.certificate, checkCode):
		r.CheckCode = checkCodeMatches
	default:
		r.CheckCode = checkCodeDiffers
	}
	return r
}

// matches compares a check code as people copy it: without spaces and hyphens,
// in capitals.
func matches(certificate *domain.Certificate, code string) bool {
	code = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(code))
	hash := domain.CheckCodeHash(certificate.Content.Ref, code)
	return subtle.ConstantTimeCompare([]byte(hash), []byte(certificate.Content.CheckCodeHash)) == 1
}

// exit maps the report to an exit code.
func (r *verifyReport) exit() error {
	switch {
	case r.Verdict.Overall == proof.BadProof:
		return &exitError{exitProofRefused, fmt.Errorf("proof refused: %s", printable(r.Reason))}
	case r.CheckCode == checkCodeDiffers:
		return &exitError{exitProofRefused, errors.New("proof refused: the check code is not this certificate's")}
	case r.Verdict.Overall == proof.CannotCheck:
		return &exitError{exitCannotDecide, fmt.Errorf("cannot check: %s", printable(r.Reason))}
	case r.CheckCode == checkCodeUnknown:
		return &exitError{exitCannotDecide, errors.New("cannot check the check code: the proof is not about a certificate on the ledger")}
	}
	return nil
}

func (r *verifyReport) writeJSON(w io.Writer) error {
	return writeJSON(w, r)
}

// headlines are the verdicts in words.
var headlines = map[proof.Overall]struct{ zh, en string }{
	proof.Valid:       {"证明成立：证照有效", "The proof holds: the certificate is valid"},
	proof.NotYetValid: {"证明成立：证照尚未生效", "The proof holds: the certificate is NOT YET VALID"},
	proof.Suspended:   {"证明成立：证照已被暂扣，不可采信", "The proof holds: the certificate is SUSPENDED"},
	proof.Revoked:     {"证明成立：证照已被撤销，不可采信", "The proof holds: the certificate has been REVOKED"},
	proof.Withdrawn:   {"证明成立：证照已被吊销，不可采信", "The proof holds: the certificate has been WITHDRAWN"},
	proof.Cancelled:   {"证明成立：证照已注销，不可采信", "The proof holds: the certificate has been CANCELLED"},
	proof.Superseded:  {"证明成立：证照已被新证照替代", "The proof holds: the certificate has been REPLACED by another"},
	proof.Expired:     {"证明成立：证照已过有效期", "The proof holds: the certificate has EXPIRED"},
	proof.Recorded:    {"证明成立：该记录在账本上", "The proof holds: the record is on the ledger"},
	proof.NotFound:    {"证明成立：账本上没有这条记录", "The proof holds: the ledger has NO such record"},
	proof.BadProof:    {"证明不成立，请勿采信", "The proof does NOT hold; do not rely on it"},
	proof.CannotCheck: {"无法核验", "Cannot check: neither confirmed nor refuted"},
}

func (r *verifyReport) writeText(w io.Writer) error {
	var b strings.Builder
	headline := headlines[r.Verdict.Overall]
	fmt.Fprintf(&b, "%s\n%s\n", headline.zh, headline.en)
	switch r.CheckCode {
	case checkCodeMatches:
		b.WriteString("查验码相符 The check code matches\n")
	case checkCodeDiffers:
		b.WriteString("查验码不符，并非同一证照 The check code is NOT this certificate's\n")
	case checkCodeUnknown:
		b.WriteString("查验码无从比对 The check code has nothing to be compared with\n")
	}
	b.WriteString("\n")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	if r.Verdict.Overall == proof.BadProof || r.Verdict.Overall == proof.CannotCheck {
		line("reason", "%s", r.Reason)
	}
	if s := r.Statement; s != nil && r.Verdict.Overall != proof.BadProof {
		r.writeStatement(line, s)
	}
	b.WriteString("\n")
	for _, check := range r.Checks {
		outcome := string(check.Outcome)
		if check.Outcome == proof.Unknown {
			outcome = "-"
		}
		line(string(check.Question), "%-4s  %s", outcome, check.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeStatement says what the departments signed.
func (r *verifyReport) writeStatement(line func(name, format string, args ...any), s *domain.Statement) {
	switch c := r.certificate; {
	case c != nil:
		line("type", "%s %s", c.Content.TypeNameZh, c.Content.TypeNameEn)
		line("number", "%s", c.Content.CertID)
		line("reference", "%s", s.ID)
		line("issuer", "%s, %s", r.department(c.Issuer), c.Content.IssuerUSCC)
		line("period", "%s to %s", timeText(c.Content.Validity.From), timeText(c.Content.Validity.To))
		r.writeStatus(line, c)
	default:
		line("record", "%s %s", s.Kind, s.ID)
		if s.Status != "" {
			line("status", "%s", s.Status)
		}
	}
	line("as of", "%s, speaks until %s", timeText(s.AsOf), timeText(s.ValidUntil))
	var signers []string
	for _, code := range r.Signers {
		signers = append(signers, r.department(code))
	}
	line("signed by", "%d of %d departments, %d required: %s", len(signers), len(r.anchors.Departments), r.anchors.Quorum, strings.Join(signers, "; "))
}

// writeStatus says what status the certificate has, since when and by which act.
// When there is no verdict it says what the statement says, and of which time.
func (r *verifyReport) writeStatus(line func(name, format string, args ...any), c *domain.Certificate) {
	change, changed := c.ChangeAt(r.judgedAt)
	switch {
	case r.Verdict.Overall == proof.CannotCheck:
		line("status", "was %s at %s, unknown since", strings.ReplaceAll(r.Statement.Status, "_", " "), timeText(r.Statement.AsOf))
		return
	case r.Verdict.Overall == proof.Expired:
		line("status", "expired since %s", timeText(c.Content.Validity.To))
		return
	case r.Verdict.Overall == proof.NotYetValid:
		from := c.Content.Validity.From
		if len(c.Changes) > 0 && c.Changes[0].Since.After(from) {
			from = c.Changes[0].Since
		}
		line("status", "not valid before %s", timeText(from))
		return
	case r.Verdict.Overall == proof.NotFound || !changed:
		line("status", "%s; nothing was issued", c.Status)
		return
	}
	line("status", "%s since %s", change.Status, timeText(change.Since))
	if act := change.Act; act != nil {
		line("act", "%s, %s, in effect from %s", act.DocumentNo, act.LegalBasis, timeText(act.EffectiveAt))
	}
	if change.Successor != "" {
		line("replaced by", "%s", change.Successor)
	}
}

// department names a department in both languages.
func (r *verifyReport) department(code domain.DepartmentCode) string {
	i := slices.IndexFunc(r.anchors.Departments, func(d proof.Department) bool { return d.Code == code })
	if i < 0 {
		return string(code)
	}
	d := r.anchors.Departments[i]
	return fmt.Sprintf("%s %s (%s)", d.NameZh, d.NameEn, code)
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// printable keeps what a terminal shows as it is: records come from others, and
// control characters in them could rewrite the verdict on the screen.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
