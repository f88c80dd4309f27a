// Package signing writes through a department's gateway with a key that the gateway
// does not have. It sends the request, reads what the gateway wants signed, and signs
// it if it is that request and nothing else.
//
// # Trust
//
// The gateway is not trusted: [proof.Verifier] holds the proposal and the transaction
// against the trust anchors, the signer's certificate and clock, and [Intent] holds the
// argument against the request. What a gateway may choose itself is named in the
// contract, in the extension x-transaction of each write.
//
// A gateway can still do nothing, or say something false of the outcome. What the
// ledger says can be checked with a proof.
package signing

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// retries is how often a write is signed anew that lost a race against another one.
const retries = 4

// Request is one HTTP request to a gateway.
type Request struct {
	Method, Target string // with the query
	Header         http.Header
	Body           []byte // JSON; nil for none
}

// Send sends a request and answers status and body of an answer that stands, and an
// error for a refusal. It may send more than once.
type Send func(ctx context.Context, r Request) (status int, body []byte, err error)

// Signer signs what its certificate's holder asks a gateway for. It is safe for
// concurrent use when its Send is.
type Signer struct {
	send       Send
	verifier   *proof.Verifier
	cert       *x509.Certificate
	key        *ecdsa.PrivateKey
	department domain.DepartmentCode
	role       domain.Role
	clock      func() time.Time
}

// NewSigner returns a signer of the holder of a certificate of a department's Fabric
// CA, with its ECDSA P-256 key, both as PEM.
func NewSigner(send Send, anchors *proof.Anchors, certPEM, keyPEM []byte, clock func() time.Time) (*Signer, error) {
	verifier, err := proof.NewVerifier(anchors)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("the certificate is no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the key is not the certificate's")
	}
	s := &Signer{send: send, verifier: verifier, cert: cert, key: key, clock: clock}
	s.department, s.role, err = holder(cert)
	return s, err
}

// parseKey reads an ECDSA P-256 key from PKCS #8 or SEC 1. Its errors hold nothing of it.
func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the key is no PEM")
	}
	var key any
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		key, err = x509.ParseECPrivateKey(block.Bytes)
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if err != nil || !ok || private.Curve != elliptic.P256() {
		return nil, errors.New("the key is no ECDSA P-256 key in PKCS #8 or SEC 1")
	}
	return private, nil
}

// attributes is the extension in which a Fabric CA writes who a certificate is for.
var attributes = asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1}

func holder(cert *x509.Certificate) (domain.DepartmentCode, domain.Role, error) {
	for _, e := range cert.Extensions {
		if !e.Id.Equal(attributes) {
			continue
		}
		var written struct {
			Attrs map[string]string `json:"attrs"`
		}
		if err := json.Unmarshal(e.Value, &written); err != nil {
			return "", "", fmt.Errorf("read the certificate's attributes: %w", err)
		}
		department, role := written.Attrs["zhenglian.department"], written.Attrs["zhenglian.role"]
		if department != "" && role != "" {
			return domain.DepartmentCode(department), domain.Role(role), nil
		}
	}
	return "", "", errors.New("the certificate names no department and role")
}

// Outcome is what became of a write.
type Outcome struct {
	Operation api.Operation // with a committed or pending one
	Answer    []byte        // in its place, the gateway's answer to a write that was done before
	Told      []byte        // what the gateway said when it was asked: a certificate's link and check code are in it alone
}

// Write has the gateway write what a request asks for, under an Idempotency-Key that
// is the request's own, and answers when the outcome is known, or as pending when the
// gateway does not know it in time. Sent again with the same key it does nothing twice.
func (s *Signer) Write(ctx context.Context, r Request, key string) (Outcome, error) {
	intent, err := IntentOf(r.Method, r.Target, r.Body, r.Header.Get("If-Match"))
	if err != nil {
		return Outcome{}, err
	}
	operation := domain.OperationOf(s.department, s.role, key)
	header := r.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	fingerprint := sha256.Sum256(s.cert.Raw)
	header.Set("Idempotency-Key", key)
	header.Set("Prefer", "sign-offline="+hex.EncodeToString(fingerprint[:]))
	r.Header = header
	for tries := 0; ; tries++ {
		outcome, err := s.attempt(ctx, r, intent, operation)
		refusal := outcome.Operation.Problem
		if err != nil || outcome.Operation.State != api.OperationStateRejected || refusal == nil {
			return outcome, err
		}
		if refusal.Code != api.ProblemCodeConflict || refusal.State != "" || tries == retries {
			return outcome, &RefusedError{*refusal}
		}
	}
}

// RefusedError says that the ledger refused a write. Nothing was changed.
type RefusedError struct{ Problem api.Problem }

func (e *RefusedError) Error() string { return fmt.Sprintf("%s: %s", e.Problem.Code, e.Problem.Detail) }

// attempt sends the request and signs for as long as there is something to sign.
func (s *Signer) attempt(ctx context.Context, r Request, intent *Intent, operation string) (Outcome, error) {
	status, body, err := s.send(ctx, r)
	if err != nil {
		return Outcome{}, err
	}
	if status != http.StatusAccepted {
		return Outcome{Answer: body}, nil
	}
	out := Outcome{Told: body}
	var asked api.OutcomeUnknown
	if err := json.Unmarshal(body, &asked); err != nil {
		return out, fmt.Errorf("read the gateway's answer: %w", err)
	}
	out.Operation = api.Operation{ID: operation, State: api.OperationStatePending, Signing: asked.Signing}
	for out.Operation.Signing != nil {
		signature, err := s.sign(out.Operation.Signing, intent, operation)
		if err != nil {
			return out, err
		}
		step := out.Operation.Signing.Step
		if out.Operation, err = s.post(ctx, operation, api.SignOperation{Step: step, Signature: signature}); err != nil {
			return out, err
		}
		if next := out.Operation.Signing; next != nil && next.Step == step {
			return out, errors.New("the gateway asks for the same signature again")
		}
	}
	return out, nil
}

func (s *Signer) post(ctx context.Context, operation string, signed api.SignOperation) (api.Operation, error) {
	var now api.Operation
	body, err := json.Marshal(signed)
	if err != nil {
		return now, err
	}
	_, answer, err := s.send(ctx, Request{Method: http.MethodPost, Target: "/v1/operations/" + operation + "/signature", Body: body})
	if err != nil {
		return now, err
	}
	if err := json.Unmarshal(answer, &now); err != nil {
		return now, fmt.Errorf("read the gateway's answer: %w", err)
	}
	return now, nil
}

// sign checks what is to be signed and signs it.
func (s *Signer) sign(asked *api.Signing, intent *Intent, operation string) ([]byte, error) {
	proposal := asked.Message
	if asked.Step == api.SigningStepTransaction {
		proposal = asked.Proposal
	}
	checked, err := s.verifier.CheckProposal(proposal, proof.Intent{
		Certificate: s.cert, Transaction: intent.Transaction, Operation: operation, Expect: intent.Expect, Now: s.clock(), Argument: intent.CheckArgument,
	})
	if err != nil {
		return nil, &ForeignError{err}
	}
	if asked.Step == api.SigningStepTransaction {
		if _, err := checked.CheckTransaction(asked.Message); err != nil {
			return nil, &ForeignError{err}
		}
	}
	return s.signature(asked.Message)
}

// ForeignError says that the gateway wanted something signed that was not asked for.
// Nothing was signed.
type ForeignError struct{ Err error }

func (e *ForeignError) Error() string { return "nothing was signed: " + e.Err.Error() }

// Unwrap returns what was found.
func (e *ForeignError) Unwrap() error { return e.Err }

// signature signs a message: deterministic (RFC 6979), in DER, with the lower S of the
// two, which is the only one that Fabric takes.
func (s *Signer) signature(message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	der, err := s.key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if order := s.key.Params().N; pair.S.Cmp(new(big.Int).Rsh(order, 1)) > 0 {
		pair.S.Sub(order, pair.S)
	}
	return asn1.Marshal(pair)
}
