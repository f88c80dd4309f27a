package proof

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/zhenglian/zhenglian/domain"
)

// This file is for those who keep their key to themselves and let a gateway do the
// rest: the gateway makes what is to be signed, first the proposal, then the
// transaction. Whoever signs what they have not read signs anything.

// SigningLeeway is how far the time of a proposal may be from the signer's clock. The
// time of a transaction becomes that of the record, from which time limits run.
const SigningLeeway = 5 * time.Minute

// Fields of the messages that a signed read does not have.
var (
	transientPayloadFields = []wireField{
		{number: 1, kind: wireBytes},                   // input: ChaincodeInvocationSpec
		{number: 2, kind: wireMessage, repeated: true}, // TransientMap
	}
	mapEntryFields = []wireField{
		{number: 1, kind: wireText},  // key
		{number: 2, kind: wireBytes}, // value
	}
	envelopePayloadFields = []wireField{
		{number: 1, kind: wireMessage}, // header
		{number: 2, kind: wireBytes},   // data: Transaction
	}
	transactionFields = []wireField{
		{number: 1, kind: wireMessage, repeated: true}, // actions
	}
	transactionActionFields = []wireField{
		{number: 1, kind: wireBytes}, // header: SignatureHeader
		{number: 2, kind: wireBytes}, // payload: ChaincodeActionPayload
	}
	chaincodeActionPayloadFields = []wireField{
		{number: 1, kind: wireBytes},   // chaincode_proposal_payload
		{number: 2, kind: wireMessage}, // action: ChaincodeEndorsedAction
	}
	endorsedActionFields = []wireField{
		{number: 1, kind: wireBytes},                   // proposal_response_payload
		{number: 2, kind: wireMessage, repeated: true}, // endorsements
	}
	endorsementFields = []wireField{
		{number: 1, kind: wireBytes}, // endorser: SerializedIdentity
		{number: 2, kind: wireBytes}, // signature
	}
)

// Intent is a transaction that somebody means to sign.
type Intent struct {
	Certificate *x509.Certificate // whose key signs
	Transaction string            // "contract:Name"
	Operation   string            // see [domain.OperationOf]
	Expect      string            // as [domain.Expectation.String]; "" without a condition
	Now         time.Time         // by the signer's clock

	// Argument answers an error for any argument but the one that is meant.
	Argument func(argument []byte) error
}

// CheckedProposal is a proposal that is what its signer means.
type CheckedProposal struct {
	TxID     domain.TxID
	Time     time.Time // of the transaction and of what it records
	Argument []byte    // whole, also where it travels beside the transaction

	verifier        *Verifier
	hash            [sha256.Size]byte
	channelHeader   []byte
	signatureHeader []byte
	payload         []byte // without what travels beside it
}

// CheckedTransaction is a transaction that holds a checked proposal and what
// departments' peers answered to it.
type CheckedTransaction struct {
	Result    []byte                  // what the transaction answers once it is committed
	Endorsers []domain.DepartmentCode // whose peers signed what it writes, sorted
}

// CheckProposal checks that a peer.Proposal is the one that its signer means: on the
// channel and chaincode of the trust anchors, made for the signer's certificate, now,
// with this transaction, argument, operation and condition and nothing else. It is
// safe to sign once CheckProposal answers without an error: ECDSA over the SHA-256 of
// its bytes.
func (f *Verifier) CheckProposal(unverifiedProposal []byte, intent Intent) (*CheckedProposal, error) {
	p, err := f.checkProposal(unverifiedProposal, intent)
	if err != nil {
		return nil, fmt.Errorf("not the proposal that was meant: %w", err)
	}
	return p, nil
}

func (f *Verifier) checkProposal(data []byte, intent Intent) (*CheckedProposal, error) {
	outer, err := parseWire("proposal", data, proposalFields)
	if err != nil {
		return nil, err
	}
	header, err := parseWire("header", outer.bytes(1), headerFields)
	if err != nil {
		return nil, err
	}
	out := &CheckedProposal{verifier: f, channelHeader: header.bytes(1), signatureHeader: header.bytes(2)}
	asked := &proposal{}
	if err := asked.parseChannelHeader(out.channelHeader); err != nil {
		return nil, err
	}
	if err := f.checkCreator(asked, out.signatureHeader, intent); err != nil {
		return nil, err
	}
	payload, err := asked.parsePayload(outer.bytes(2), transientPayloadFields)
	if err != nil {
		return nil, err
	}
	switch {
	case asked.headerType != endorserTransaction:
		return nil, errors.New("it is not an endorser transaction")
	case asked.channel != f.channel:
		return nil, errors.New("it is for another channel")
	case asked.headerChaincode != f.chaincode || asked.chaincode != f.chaincode || asked.chaincodeVersioned:
		return nil, errors.New("it is for another chaincode")
	case asked.time.Sub(intent.Now).Abs() > SigningLeeway:
		return nil, fmt.Errorf("its time is %s, %s away from this clock", timeText(asked.time), asked.time.Sub(intent.Now).Abs().Round(time.Second))
	}
	if out.Argument, err = intent.check(asked.args, payload); err != nil {
		return nil, err
	}
	out.payload = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), payload.bytes(1))
	out.hash = sha256.Sum256(slices.Concat(out.channelHeader, out.signatureHeader, out.payload))
	out.TxID, out.Time = domain.TxID(asked.txID), asked.time
	return out, nil
}

// checkCreator checks that a proposal is made for the signer's certificate, which one
// of the departments issued.
func (f *Verifier) checkCreator(asked *proposal, signatureHeader []byte, intent Intent) error {
	fields, err := parseWire("signature header", signatureHeader, signatureHeaderFields)
	if err != nil {
		return err
	}
	creator, nonce := fields.bytes(1), fields.bytes(2)
	if len(nonce) == 0 {
		return errors.New("it has no nonce")
	}
	id, err := parseIdentity(creator)
	if err != nil {
		return fmt.Errorf("its creator: %w", err)
	}
	if !bytes.Equal(id.cert.Raw, intent.Certificate.Raw) {
		return errors.New("it is made for another certificate")
	}
	i := slices.IndexFunc(f.members, func(m member) bool { return m.mspID == id.mspID })
	if i < 0 {
		return errors.New("it is made for an MSP that is not among the trust anchors")
	}
	if _, err := id.cert.Verify(x509.VerifyOptions{
		Roots: f.members[i].pool, Intermediates: x509.NewCertPool(), CurrentTime: intent.Now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return fmt.Errorf("the certificate is not one of %s: %w", f.members[i].code, err)
	}
	if sum := sha256.Sum256(slices.Concat(nonce, creator)); hex.EncodeToString(sum[:]) != asked.txID {
		return errors.New("its transaction ID is not that of nonce and creator")
	}
	return nil
}

// check compares what a proposal asks the chaincode with what is meant, and answers
// the argument.
func (i Intent) check(args [][]byte, payload wireFields) ([]byte, error) {
	want := []string{i.Transaction, "", i.Operation, i.Expect}
	for len(want) > 2 && want[len(want)-1] == "" {
		want = want[:len(want)-1]
	}
	if len(args) != len(want) {
		return nil, fmt.Errorf("it has %d arguments, not %d", len(args), len(want))
	}
	for n, text := range want {
		if n != 1 && string(args[n]) != text {
			return nil, fmt.Errorf("argument %d is %q, not %q", n, clipped(args[n]), text)
		}
	}
	argument, err := besideTransaction(payload)
	switch {
	case err != nil:
		return nil, err
	case argument == nil:
		argument = args[1]
	case !bytes.Equal(args[1], domain.ArgumentReference(argument)):
		return nil, errors.New("what travels beside it is not what it names")
	}
	if err := i.Argument(argument); err != nil {
		return nil, fmt.Errorf("its argument: %w", err)
	}
	return argument, nil
}

// besideTransaction answers the argument in the transient data, nil without one.
func besideTransaction(payload wireFields) ([]byte, error) {
	entries := payload.all(2)
	if len(entries) == 0 {
		return nil, nil
	}
	entry, err := parseWire("transient data", entries[0], mapEntryFields)
	switch {
	case err != nil:
		return nil, err
	case len(entries) > 1 || entry.text(1) != domain.TransientArgument || !entry.has(2):
		return nil, errors.New("more than the argument travels beside it")
	}
	return entry.bytes(2), nil
}

// clipped keeps a stranger's text short.
func clipped(text []byte) []byte { return text[:min(len(text), 64)] }

// CheckTransaction checks that a common.Payload is the transaction that the proposal
// led to: the same headers and arguments, and one answer that departments' peers
// signed to this very proposal. It is safe to sign once CheckTransaction answers
// without an error. Whether enough departments signed is for the ledger to say, which
// takes it for invalid otherwise.
func (p *CheckedProposal) CheckTransaction(unverifiedTransaction []byte) (CheckedTransaction, error) {
	t, err := p.checkTransaction(unverifiedTransaction)
	if err != nil {
		return CheckedTransaction{}, fmt.Errorf("not the transaction of the proposal: %w", err)
	}
	return t, nil
}

func (p *CheckedProposal) checkTransaction(data []byte) (CheckedTransaction, error) {
	var none CheckedTransaction
	endorsed, err := p.endorsedAction(data)
	if err != nil {
		return none, err
	}
	raw := rawRead{response: endorsed.bytes(1)}
	answered, err := parseAnswer(raw.response)
	if err != nil {
		return none, err
	}
	switch {
	case !bytes.Equal(answered.proposalHash, p.hash[:]):
		return none, errors.New("the answer is one to another proposal")
	case answered.chaincode != p.verifier.chaincode:
		return none, errors.New("another chaincode answered")
	case answered.status != statusOK:
		return none, errors.New("the answer is a refusal")
	}
	for _, ns := range answered.namespaces {
		if ns.collections > 0 || ns.name != p.verifier.chaincode && ns.writes > 0 {
			return none, errors.New("it writes to what is not this chaincode's")
		}
	}
	for _, item := range endorsed.all(2) {
		e, err := parseWire("endorsement", item, endorsementFields)
		if err != nil {
			return none, err
		}
		raw.endorsements = append(raw.endorsements, RawEndorsement{Endorser: e.bytes(1), Signature: e.bytes(2)})
	}
	if len(raw.endorsements) == 0 {
		return none, errors.New("no department signed the answer")
	}
	slices.SortStableFunc(raw.endorsements, func(a, b RawEndorsement) int {
		return bytes.Compare([]byte(mspIDOf(a.Endorser)), []byte(mspIDOf(b.Endorser)))
	})
	signers, err := p.verifier.checkEndorsements(raw, p.Time)
	if err != nil {
		return none, err
	}
	return CheckedTransaction{Result: answered.payload, Endorsers: signers}, nil
}

// endorsedAction answers the ChaincodeEndorsedAction of a transaction whose other
// parts are those of the proposal.
func (p *CheckedProposal) endorsedAction(data []byte) (wireFields, error) {
	outer, err := parseWire("transaction payload", data, envelopePayloadFields)
	if err != nil {
		return nil, err
	}
	header, err := parseWire("header", outer.bytes(1), headerFields)
	if err != nil {
		return nil, err
	}
	transaction, err := parseWire("transaction", outer.bytes(2), transactionFields)
	if err != nil {
		return nil, err
	}
	actions := transaction.all(1)
	if len(actions) != 1 {
		return nil, fmt.Errorf("it has %d actions, not one", len(actions))
	}
	action, err := parseWire("transaction action", actions[0], transactionActionFields)
	if err != nil {
		return nil, err
	}
	payload, err := parseWire("chaincode action payload", action.bytes(2), chaincodeActionPayloadFields)
	if err != nil {
		return nil, err
	}
	switch {
	case !bytes.Equal(header.bytes(1), p.channelHeader) || !bytes.Equal(header.bytes(2), p.signatureHeader) || !bytes.Equal(action.bytes(1), p.signatureHeader):
		return nil, errors.New("its headers are not those of the proposal")
	case !bytes.Equal(payload.bytes(1), p.payload):
		return nil, errors.New("it asks for something else than the proposal")
	}
	return parseWire("endorsed action", payload.bytes(2), endorsedActionFields)
}

// CheckSignature checks that the key of a certificate signed message: ECDSA P-256 over
// its SHA-256, in strict DER, with the lower S of the two.
func CheckSignature(cert *x509.Certificate, message, signature []byte) error {
	key, err := publicKey(cert)
	if err != nil {
		return err
	}
	return checkSignature(key, sha256.Sum256(message), signature)
}
