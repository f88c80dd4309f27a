package fabricledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zhenglian/zhenglian/domain"
)

// failure is what a peer's gateway service answered in place of a result.
type failure struct {
	err         error
	code        codes.Code
	unreachable bool           // no answer: no connection to the called peer
	refusals    []refusal      // by contracts
	failed      []domain.MSPID // departments that did not sign for another reason than a mismatch
	missing     bool           // failed are departments of which the called peer knows no peer
	texts       []string       // the status message and the details' messages
}

// refusal is a contract's answer of status 400 or more on one peer.
type refusal struct {
	mspID domain.MSPID // "" when the peer is not named
	err   error        // a *domain.Error when the text names a kind
}

// A contract's refusal reaches the client as text: "chaincode response 500, " and
// what the contract returned (fabric internal/pkg/gateway/apiutils.go).
const refusalPrefix = "chaincode response "

// mismatch is what the gateway service says of a peer whose answer differs from
// the first one's, for example because it is a block behind.
const mismatch = "ProposalResponsePayloads do not match"

// readFailure takes an error of the gateway service apart. err must not be nil.
func readFailure(err error) *failure {
	st := statusOf(err)
	f := &failure{err: err, code: st.Code(), texts: []string{st.Message()}}
	var unreachable *unreachableError
	f.unreachable = errors.As(err, &unreachable)
	for _, d := range st.Details() {
		detail, ok := d.(*gateway.ErrorDetail)
		if !ok {
			continue
		}
		mspID := domain.MSPID(detail.GetMspId())
		f.texts = append(f.texts, detail.GetMessage())
		if text, ok := refusalText(detail.GetMessage()); ok {
			f.refusals = append(f.refusals, refusal{mspID, contractError(text)})
		} else if mspID != "" && detail.GetMessage() != mismatch {
			f.failed = append(f.failed, mspID)
		}
	}
	if text, ok := refusalText(st.Message()); ok && len(f.refusals) == 0 {
		f.refusals = append(f.refusals, refusal{"", contractError(text)})
	}
	// "failed to find any endorsing peers for org(s): A, B"
	if _, orgs, ok := strings.Cut(st.Message(), "endorsing peers for org(s): "); ok {
		f.missing = true
		for org := range strings.SplitSeq(orgs, ", ") {
			f.failed = append(f.failed, domain.MSPID(org))
		}
	}
	return f
}

// statusOf returns the first gRPC status in err's chain, or one made from a
// context's error. Unlike [status.FromError] it leaves the status's message as
// the peer wrote it.
func statusOf(err error) *status.Status {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if s, ok := e.(interface{ GRPCStatus() *status.Status }); ok {
			if st := s.GRPCStatus(); st != nil {
				return st
			}
		}
	}
	return status.FromContextError(err)
}

// withDetails is err with what its details say in its text.
func withDetails(err error) error {
	if err == nil {
		return nil
	}
	details := ""
	for _, d := range statusOf(err).Details() {
		if d, ok := d.(*gateway.ErrorDetail); ok {
			details += fmt.Sprintf("; %s (%s): %s", d.GetMspId(), d.GetAddress(), d.GetMessage())
		}
	}
	if details == "" {
		return err
	}
	return fmt.Errorf("%w%s", err, details)
}

// refusalText finds a contract's text in a message of the gateway service.
func refusalText(message string) (string, bool) {
	_, rest, ok := strings.Cut(message, refusalPrefix)
	if !ok {
		return "", false
	}
	_, text, ok := strings.Cut(rest, ", ")
	return text, ok
}

// contractError makes a contract's text an error again.
func contractError(text string) error {
	if e, ok := domain.ParseError(text); ok {
		return e
	}
	return fmt.Errorf("contract failed: %s", text)
}

// contains reports whether any text holds one of the parts.
func (f *failure) contains(parts ...string) bool {
	for _, text := range f.texts {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
	}
	return false
}

// refusedBy returns the refusal of the peer that was called. That one is final:
// it has everything this department knows to be committed. Another department's
// peer may refuse only because it is a block behind.
func (f *failure) refusedBy(p *peer) error {
	for _, r := range f.refusals {
		if r.mspID == p.mspID || r.mspID == "" {
			return r.err
		}
	}
	return nil
}

// permanent reports whether the peers, not a contract, refuse the request for
// good.
func (f *failure) permanent() bool {
	if len(f.refusals) > 0 {
		return false // the texts are the contract's
	}
	switch f.code {
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return true
	}
	return f.contains("access denied", "certificate has expired", "identity expired")
}

// gaveUp returns err, or the context's error when that is why it came about.
func gaveUp(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		if err == nil {
			return cause
		}
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}
