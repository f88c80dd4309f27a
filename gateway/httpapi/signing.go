package httpapi

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"regexp"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/telemetry"
)

// signOffline is the preference of a caller who signs with a key of its own. Unlike
// others it is never passed over: what cannot be signed so is refused.
const signOffline = "sign-offline"

var fingerprintShape = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Signer answers the certificate under which a caller of a role signs: the one with
// this fingerprint, "" for the one there is; presented is that of the connection, nil
// without one. Its refusals are for the caller.
type Signer func(role domain.Role, fingerprint string, presented *x509.Certificate) (*x509.Certificate, error)

// Signing goes on with operations that wait for their callers' signatures.
type Signing interface {
	Sign(ctx context.Context, caller service.Caller, operation string, step ledger.Step, signature []byte) (ledger.Operation, error)
}

// signsItself has what the request writes wait for the caller's signatures.
func (s *server) signsItself(c *gin.Context, fingerprint string) {
	way := passageOf(c)
	refuse := func(field string, r rule) {
		f := finding("header "+field, r)
		s.fail(c, &refusal{code: api.ProblemCodeInvalid, detail: f.Field + ": " + f.En, fields: []api.FieldFinding{f}})
	}
	switch {
	case way.caller.Operation == "":
		refuse(idempotencyKey, ruleKeyToSign)
		return
	case fingerprint != "" && !fingerprintShape.MatchString(fingerprint):
		refuse("Prefer", ruleFingerprint)
		return
	case s.Signer == nil:
		s.fail(c, &domain.Error{Kind: domain.Forbidden, Msg: "this gateway knows no certificates to sign with"})
		return
	}
	var presented *x509.Certificate
	if way.via == viaCertificate {
		presented = c.Request.TLS.PeerCertificates[0]
	}
	cert, err := s.Signer(way.caller.Role, fingerprint, presented)
	if err != nil {
		s.fail(c, err)
		return
	}
	way.caller.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	c.Header("Preference-Applied", signOffline)
}

// SignOperation takes a signature and answers how far the operation is then.
func (s *server) SignOperation(ctx context.Context, r api.SignOperationRequestObject) (api.SignOperationResponseObject, error) {
	c := ctx.(*gin.Context)
	ctx, caller := inbound(ctx)
	if s.Signing == nil {
		return nil, &domain.Error{Kind: domain.NotFound, Msg: "nothing waits for a signature at this gateway"}
	}
	o, err := s.Signing.Sign(ctx, caller, r.ID, ledger.Step(r.Body.Step), r.Body.Signature)
	if err != nil {
		return nil, err
	}
	telemetry.Note(ctx, o.TxID)
	return api.SignOperation200JSONResponse(operationTold(c, caller, o)), nil
}

// signingOf answers what is to be signed, nil for nothing.
func signingOf(next *ledger.Signing) *api.Signing {
	if next == nil {
		return nil
	}
	return &api.Signing{
		Step: api.SigningStep(next.Step), Message: next.Message, Proposal: next.Proposal, Digest: domain.Digest(next.Message), Certificate: next.Certificate, ExpiresAt: next.Expires,
	}
}
