package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/domain"
)

// The only transaction whose answer is a statement.
const attestTransaction = "evidence:Attest"

const (
	endorserTransaction   = 3 // common.HeaderType ENDORSER_TRANSACTION
	statusOK              = 200
	maxClockSkew          = 5 * time.Minute // how far the verifier's clock may lag behind the asker's
	bundlePrefix          = "zhenglian-proof/"
	notReached            = "not reached"
	lifecycleNamespace    = "_lifecycle" // read by every peer to find the chaincode's definition
	legacyLifecycleNaming = "lscc"       // likewise, before Fabric 2
)

// questions lists every [Question] in the order in which they are asked.
var questions = []Question{Integrity, Quorum, Scope, Freshness, Status}

// Verify checks a proof file against trust anchors and answers what it proves.
// It trusts anchors and nothing in the bundle; it reads no clock, no file and no
// network, and never panics. It is safe for concurrent use.
//
// Integrity, Quorum and Scope are asked in turn; the first that fails makes the
// overall verdict [BadProof] and leaves the later ones [Unknown]. A nonce other
// than the one in opts is a BadProof too: the answer was made for another asker.
// So are signatures that do not meet opts.Policy. A bundle or a record in a format
// unknown to this release, missing or unusable anchors, a policy that does not fit
// them, and a statement that does not speak for the times in opts are
// [CannotCheck].
//
// Whoever verifies many proofs under the same anchors uses a [Verifier], which
// reads them once.
func Verify(unverifiedBundle []byte, anchors *Anchors, opts Options) Verdict {
	v := unasked()
	if anchors == nil {
		return v.cannotCheck("no trust anchors were given")
	}
	verifier, err := NewVerifier(anchors)
	if err != nil {
		return v.cannotCheck("the trust anchors are unusable: " + reasonOf(err))
	}
	return verifier.Verify(unverifiedBundle, opts)
}

// Verifier checks proofs under anchors that it has read. Create it with
// [NewVerifier]. It is safe for concurrent use.
type Verifier struct {
	channel   string
	chaincode string
	versions  []string
	quorum    int
	members   []member
	peers     peers
}

// NewVerifier checks anchors as [ParseAnchors] does, but for their spelling, and
// keeps a copy of what they say.
//
// Its error is a [domain.Error] of kind [domain.Invalid].
func NewVerifier(anchors *Anchors) (*Verifier, error) {
	members, err := anchors.members()
	if err != nil {
		return nil, err
	}
	return &Verifier{
		channel: anchors.Channel, chaincode: anchors.Chaincode, versions: slices.Clone(anchors.Versions),
		quorum: anchors.Quorum, members: members,
	}, nil
}

// Verify is the function [Verify] under the verifier's anchors.
func (f *Verifier) Verify(unverifiedBundle []byte, opts Options) Verdict {
	v := unasked()
	quorum, err := f.demanded(opts.Policy)
	if err != nil {
		return v.cannotCheck(err.Error())
	}
	_, raw, err := parseBundle(unverifiedBundle)
	if err != nil {
		if hasUnknownFormat(unverifiedBundle) {
			return v.cannotCheck("the proof is in a format that this release does not know")
		}
		return v.refuse(Integrity, reasonOf(err))
	}
	asked, err := parseProposal(raw.proposal)
	if err != nil {
		return v.refuse(Integrity, err.Error())
	}
	answered, err := parseAnswer(raw.response)
	if err != nil {
		return v.refuse(Integrity, err.Error())
	}
	if asked.txID != asked.computedTxID {
		return v.refuse(Integrity, "the transaction ID is not that of this nonce and creator")
	}
	if !bytes.Equal(answered.proposalHash, asked.hash[:]) {
		return v.refuse(Integrity, "the answer belongs to another proposal")
	}
	v.set(Integrity, Pass, "one proposal, its answer, nothing else")

	signers, err := f.checkEndorsements(raw, asked.time)
	if err != nil {
		return v.refuse(Quorum, err.Error())
	}
	if len(signers) < quorum {
		return v.refuse(Quorum, fmt.Sprintf("%d departments signed, %d are required", len(signers), quorum))
	}
	for _, code := range opts.Policy.Departments {
		if !slices.Contains(signers, code) {
			return v.refuse(Quorum, "the policy requires a signature of "+string(code))
		}
	}
	v.Signers = signers
	v.set(Quorum, Pass, fmt.Sprintf("%d of %d departments signed, %d are required", len(signers), len(f.members), quorum))

	args, err := f.checkScope(asked, answered)
	if err != nil {
		return v.refuse(Scope, err.Error())
	}
	statement, err := openStatement(answered.payload, asked, args)
	if err != nil {
		return v.refuse(Scope, reasonOf(err))
	}
	var record domain.Record
	var issuer domain.DepartmentCode
	if statement.Found {
		if !knowsRecord(statement) {
			return v.cannotCheck("the record is in a schema that this release does not know")
		}
		if record, err = checkRecord(statement); err != nil {
			return v.refuse(Scope, reasonOf(err))
		}
		issuer = openingOf(record).Department
	}
	if reason := opts.Policy.Issuer.refuses(signers, issuer, quorum); reason != "" {
		v.Signers = nil
		return v.refuse(Quorum, reason)
	}
	v.Statement = statement
	v.set(Scope, Pass, "a read of "+string(statement.Kind)+" on channel "+statement.Channel+", nothing written")

	return v.judge(opts, record)
}

// unasked is a verdict before the first question.
func unasked() Verdict {
	v := Verdict{Checks: make([]Check, len(questions))}
	for i, question := range questions {
		v.Checks[i] = Check{Question: question, Outcome: Unknown, Reason: notReached}
	}
	return v
}

// judge answers Freshness and Status for a statement that holds; record is nil
// when nothing was found.
func (v Verdict) judge(opts Options, record domain.Record) Verdict {
	s := v.Statement
	if opts.Nonce != "" && s.Nonce != opts.Nonce {
		return v.refuse(Freshness, "the answer carries another nonce than the one asked with")
	}
	silent := "" // why the statement does not speak for the times asked about
	at := s.AsOf
	switch {
	case opts.At.IsZero():
		v.set(Freshness, Unknown, "not asked; the statement speaks as of "+timeText(s.AsOf))
	case opts.At.After(s.ValidUntil):
		silent = "the statement spoke for the time until " + timeText(s.ValidUntil) + ": ask for a new proof"
	case opts.At.Before(s.AsOf.Add(-maxClockSkew)):
		silent = "the statement was made at " + timeText(s.AsOf) + ", after the time asked about: check the clock"
	default:
		if opts.At.After(at) {
			at = opts.At
		}
		v.set(Freshness, Pass, "made at "+timeText(s.AsOf)+", speaks until "+timeText(s.ValidUntil))
	}
	if silent == "" && !opts.StatusAt.IsZero() {
		at = opts.StatusAt
		switch {
		case at.After(s.ValidUntil):
			silent = "the statement speaks for the time until " + timeText(s.ValidUntil) + ", not for the time whose status is asked"
		case at.Before(s.AsOf) && s.Found && s.Kind != domain.KindCertificate:
			silent = "only a certificate's record tells of an earlier time"
		}
	}
	if silent != "" {
		v.set(Freshness, Fail, silent)
		at = s.AsOf
	}

	overall, reason := NotFound, "the ledger held no such record at "+timeText(s.AsOf)
	if s.Found {
		status := s.Status
		if !at.Equal(s.AsOf) {
			// For the same record, a later time can only mean that a period began or
			// ended; an earlier one, that a change recorded in it was still to come.
			var err error
			if status, err = statusAt(s, record, at); err != nil {
				return v.refuse(Status, reasonOf(err))
			}
		}
		overall, reason = Recorded, "the record is on the ledger"
		if status != "" {
			reason += " with status " + status
		}
		if s.Kind == domain.KindCertificate {
			var known bool
			if overall, known = certificateVerdicts[domain.CertificateStatus(status)]; !known {
				return v.cannotCheck("the certificate has a status that this release does not know")
			}
			verb := "is "
			if at.Before(s.AsOf) {
				verb = "was "
			}
			reason = "the certificate " + verb + strings.ReplaceAll(status, "_", " ")
			if overall == NotFound {
				reason = "no certificate was issued: it is " + status + " only"
			}
		}
	}
	if !at.Equal(s.AsOf) && !opts.StatusAt.IsZero() {
		reason += " at " + timeText(at)
	}
	if silent != "" {
		v.set(Status, Pass, reason+" as of "+timeText(s.AsOf))
		return v.cannotCheck(silent)
	}
	v.set(Status, Pass, reason)
	v.Overall, v.Reason = overall, reason
	return v
}

// certificateVerdicts maps what a certificate's status means to a verdict.
var certificateVerdicts = map[domain.CertificateStatus]Overall{
	domain.CertificateValid:       Valid,
	domain.CertificateNotYetValid: NotYetValid,
	domain.CertificateSuspended:   Suspended,
	domain.CertificateRevoked:     Revoked,
	domain.CertificateWithdrawn:   Withdrawn,
	domain.CertificateCancelled:   Cancelled,
	domain.CertificateSuperseded:  Superseded,
	domain.CertificateExpired:     Expired,
	// What was not approved was never issued, whatever the ledger holds of it.
	domain.CertificateProposed: NotFound,
	domain.CertificateRejected: NotFound,
}

// checkEndorsements checks every endorsement and answers the departments that
// made them, sorted. One endorsement that does not hold, or a second one of the
// same department, refuses them all, so that each byte of a bundle matters.
func (f *Verifier) checkEndorsements(raw rawRead, at time.Time) ([]domain.DepartmentCode, error) {
	var signers []domain.DepartmentCode
	var last domain.MSPID
	for i, e := range raw.endorsements {
		id, known := f.peers.read(e.Endorser)
		if !known {
			var err error
			if id, err = parseIdentity(e.Endorser); err != nil {
				return nil, fmt.Errorf("endorsement %d: %w", i, err)
			}
		}
		if i > 0 && id.mspID <= last {
			return nil, fmt.Errorf("endorsement %d: not sorted by MSP ID, each department once", i)
		}
		last = id.mspID
		index := slices.IndexFunc(f.members, func(m member) bool { return m.mspID == id.mspID })
		if index < 0 {
			return nil, fmt.Errorf("endorsement %d: the signer's MSP is not among the trust anchors", i)
		}
		m := &f.members[index]
		key, err := publicKey(id.cert)
		if err != nil {
			return nil, fmt.Errorf("endorsement of %s: %w", m.code, err)
		}
		digest := sha256.New()
		digest.Write(raw.response)
		digest.Write(e.Endorser)
		if err := checkSignature(key, [sha256.Size]byte(digest.Sum(nil)), e.Signature); err != nil {
			return nil, fmt.Errorf("endorsement of %s: %w", m.code, err)
		}
		if err := m.checkPeer(id.cert, at); err != nil {
			return nil, fmt.Errorf("endorsement of %s: %w", m.code, err)
		}
		if !known {
			f.peers.keep(e.Endorser, id)
		}
		signers = append(signers, m.code)
	}
	slices.Sort(signers)
	return signers, nil
}

// checkScope checks that the proposal asks the evidence contract of the right
// channel and chaincode one question, and that the answer is a successful one
// that changed nothing. It answers the question's argument.
func (f *Verifier) checkScope(asked *proposal, answered *answer) (*domain.AttestArgs, error) {
	switch {
	case asked.headerType != endorserTransaction:
		return nil, errors.New("the proposal is not an endorser transaction")
	case asked.channel != f.channel:
		return nil, errors.New("the proposal is for another channel")
	case asked.headerChaincode != f.chaincode || asked.chaincode != f.chaincode || answered.chaincode != f.chaincode:
		return nil, errors.New("the proposal is for another chaincode")
	case asked.chaincodeVersioned:
		return nil, errors.New("the proposal names a chaincode version")
	case !slices.Contains(f.versions, answered.version):
		return nil, errors.New("the chaincode version is not an accepted one")
	case len(asked.args) != 2 || string(asked.args[0]) != attestTransaction:
		return nil, errors.New("the transaction is not " + attestTransaction + " with one argument")
	case answered.status != statusOK || answered.message != "":
		return nil, errors.New("the answer is not a plain success")
	case len(answered.events) > 0:
		return nil, errors.New("the transaction set an event")
	}
	for _, ns := range answered.namespaces {
		switch {
		case ns.writes > 0:
			return nil, errors.New("the transaction wrote")
		case ns.collections > 0:
			return nil, errors.New("the transaction touched private data")
		case ns.name != f.chaincode && ns.name != lifecycleNamespace && ns.name != legacyLifecycleNaming:
			return nil, errors.New("the transaction read the state of another chaincode")
		}
	}
	var args domain.AttestArgs
	if err := domain.ParseCanonical(asked.args[1], &args); err != nil {
		return nil, errors.New("the argument: " + reasonOf(err))
	}
	if err := args.Validate(); err != nil {
		return nil, errors.New("the argument: " + reasonOf(err))
	}
	return &args, nil
}

// openStatement reads the answer's payload and checks that it answers args.
func openStatement(payload []byte, asked *proposal, args *domain.AttestArgs) (*domain.Statement, error) {
	asOf := asked.time.Truncate(time.Millisecond)
	expected := domain.Statement{
		Schema: domain.SchemaStatement, Channel: asked.channel, Kind: args.Kind, ID: args.ID, Nonce: args.Nonce,
		Found: true, AsOf: asOf, ValidUntil: asOf.Add(domain.StatementLife),
	}
	if foreseen(payload, &expected) {
		return &expected, nil
	}
	var s domain.Statement
	if err := domain.ParseCanonical(payload, &s); err != nil {
		return nil, fmt.Errorf("the statement: %w", err)
	}
	switch {
	case s.Schema != domain.SchemaStatement:
		return nil, invalidf("the statement is in another schema")
	case s.Channel != asked.channel:
		return nil, invalidf("the statement is about another channel")
	case s.Kind != args.Kind || s.ID != args.ID:
		return nil, invalidf("the statement is about another record")
	case s.Nonce != args.Nonce:
		return nil, invalidf("the statement's nonce is not the one asked with")
	case !sameInstant(s.AsOf, asOf):
		return nil, invalidf("the statement's time is not the transaction's")
	case !sameInstant(s.ValidUntil, asOf.Add(domain.StatementLife)):
		return nil, invalidf("the statement's life is not %v", domain.StatementLife)
	case !s.Found && (s.Record != "" || s.Status != ""):
		return nil, invalidf("the statement describes a record that was not found")
	}
	return &s, nil
}

// foreseen reports whether payload is, byte for byte, the canonical form of s with
// some status and record, and fills these in: all the rest of a statement follows
// from its question. It knows plain text alone. Of a payload that it does not
// foresee the general way finds out what is wrong, if anything is.
func foreseen(payload []byte, s *domain.Statement) bool {
	empty, err := domain.Canonical(s)
	if err != nil {
		return false
	}
	const status, end = `"status":"`, `"}`
	before, after, _ := bytes.Cut(empty, []byte(status))
	rest, begins := bytes.CutPrefix(payload, empty[:min(len(before)+len(status), len(empty))])
	rest, ends := bytes.CutSuffix(rest, []byte(end))
	word, record, between := bytes.Cut(rest, bytes.TrimSuffix(after, []byte(end)))
	if !begins || !ends || !between {
		return false
	}
	var plain [2]bool
	s.Status, plain[0] = unquote(word)
	s.Record, plain[1] = unquote(record)
	return plain[0] && plain[1]
}

// unquote answers what is written between the quotation marks of a JSON string in
// canonical form, if nothing in it but quotation marks is escaped.
func unquote(quoted []byte) (string, bool) {
	text := make([]byte, 0, len(quoted))
	for i := 0; i < len(quoted); i++ {
		c := quoted[i]
		switch {
		case c == '\\':
			if i++; i == len(quoted) || quoted[i] != '"' {
				return "", false
			}
			c = '"'
		case c == '"' || c < ' ':
			return "", false
		}
		text = append(text, c)
	}
	// JSON in canonical form escapes the two separators that end lines in scripts.
	plain := utf8.Valid(text) && !bytes.Contains(text, []byte("\u2028")) && !bytes.Contains(text, []byte("\u2029"))
	return string(text), plain
}

// sameInstant compares the written forms: a zone other than UTC is a difference.
func sameInstant(a, b time.Time) bool {
	return a.Format(time.RFC3339Nano) == b.Format(time.RFC3339Nano)
}

// hasUnknownFormat reports whether data, which could not be read as a bundle, is
// one in the format of another release.
func hasUnknownFormat(data []byte) bool {
	if len(data) > MaxBundleBytes {
		return false
	}
	var named struct {
		Format string `json:"format"`
	}
	err := json.Unmarshal(data, &named)
	return err == nil && strings.HasPrefix(named.Format, bundlePrefix) && named.Format != BundleFormat
}

func (v *Verdict) set(question Question, outcome Outcome, reason string) {
	i := slices.Index(questions, question)
	v.Checks[i].Outcome, v.Checks[i].Reason = outcome, reason
}

// refuse ends a verdict with a question that failed.
func (v Verdict) refuse(question Question, reason string) Verdict {
	v.set(question, Fail, reason)
	v.Overall, v.Reason = BadProof, reason
	return v
}

// cannotCheck ends a verdict with no decision.
func (v Verdict) cannotCheck(reason string) Verdict {
	v.Overall, v.Reason = CannotCheck, reason
	return v
}

// reasonOf is the text of an error of this package without the kind, which is
// always the same.
func reasonOf(err error) string {
	return strings.Replace(err.Error(), string(domain.Invalid)+": ", "", 1)
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
