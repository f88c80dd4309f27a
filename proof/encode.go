package proof

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// The bounds of a bundle, checked before anything is parsed.
const (
	MaxBundleBytes  = 256 << 10
	maxEndorsements = 32
)

// RawEndorsement is one department's endorsement as it left the peer.
type RawEndorsement struct {
	Endorser  []byte // msp.SerializedIdentity
	Signature []byte // ASN.1 ECDSA over response ‖ Endorser
}

// NewBundle writes a bundle from the bytes that asker and peers exchanged:
// a peer.Proposal, the peer.ProposalResponsePayload that every endorser signed,
// and the endorsements, in any order. It checks nothing: see [Verify].
func NewBundle(proposal, response []byte, endorsements []RawEndorsement) Bundle {
	sorted := slices.Clone(endorsements)
	slices.SortStableFunc(sorted, func(a, b RawEndorsement) int {
		return strings.Compare(mspIDOf(a.Endorser), mspIDOf(b.Endorser))
	})
	bundle := Bundle{
		Format: BundleFormat,
		Read: Read{
			Proposal:     base64.RawURLEncoding.EncodeToString(proposal),
			Response:     base64.RawURLEncoding.EncodeToString(response),
			Endorsements: make([]Endorsement, len(sorted)),
		},
	}
	for i, e := range sorted {
		bundle.Read.Endorsements[i] = Endorsement{
			Endorser:  base64.RawURLEncoding.EncodeToString(e.Endorser),
			Signature: base64.RawURLEncoding.EncodeToString(e.Signature),
		}
	}
	return bundle
}

// mspIDOf answers the MSP ID of a serialized identity, "" if it has none.
func mspIDOf(endorser []byte) string {
	fields, err := parseWire("identity", endorser, serializedIdentityFields)
	if err != nil {
		return ""
	}
	return fields.text(1)
}

// Encode writes a bundle as a proof file. It fails for a bundle that is larger
// than [MaxBundleBytes].
func Encode(bundle Bundle) ([]byte, error) {
	data, err := domain.Canonical(bundle)
	if err != nil {
		return nil, fmt.Errorf("encode proof bundle: %w", err)
	}
	if len(data) > MaxBundleBytes {
		return nil, invalidf("proof bundle: %d bytes, at most %d are allowed", len(data), MaxBundleBytes)
	}
	return data, nil
}

// ParseBundle reads a proof file in its canonical form. It checks the form only:
// see [Verify]. For every data that it accepts, [Encode] of its answer is data.
//
// Its error is a [domain.Error] of kind [domain.Invalid].
func ParseBundle(unverifiedBundle []byte) (Bundle, error) {
	bundle, _, err := parseBundle(unverifiedBundle)
	return bundle, err
}

// rawRead is a signed read with its base64 undone.
type rawRead struct {
	proposal, response []byte
	endorsements       []RawEndorsement
}

// parseBundle reads a bundle along its canonical form, in which nothing but the
// base64url differs between bundles: no JSON reader is asked what it tolerates.
func parseBundle(data []byte) (Bundle, rawRead, error) {
	if len(data) > MaxBundleBytes {
		return Bundle{}, rawRead{}, invalidf("proof bundle: %d bytes, at most %d are allowed", len(data), MaxBundleBytes)
	}
	r := bundleReader{rest: string(data)}
	bundle := Bundle{Format: BundleFormat}
	var raw rawRead
	r.expect(`{"format":"` + BundleFormat + `","read":{"proposal":"`)
	bundle.Read.Proposal, raw.proposal = r.bytes("proposal")
	r.expect(`,"response":"`)
	bundle.Read.Response, raw.response = r.bytes("response")
	r.expect(`,"endorsements":[`)
	for r.err == nil {
		var e Endorsement
		var raws RawEndorsement
		r.expect(`{"endorser":"`)
		e.Endorser, raws.Endorser = r.bytes("endorser")
		r.expect(`,"signature":"`)
		e.Signature, raws.Signature = r.bytes("signature")
		r.expect("}")
		bundle.Read.Endorsements = append(bundle.Read.Endorsements, e)
		if raw.endorsements = append(raw.endorsements, raws); len(raw.endorsements) > maxEndorsements {
			return Bundle{}, rawRead{}, invalidf("proof bundle: more than %d endorsements", maxEndorsements)
		}
		if !r.take(",") {
			break
		}
	}
	r.expect("]}}")
	if r.err == nil && r.rest != "" {
		r.err = invalidf("proof bundle: bytes follow it")
	}
	if r.err != nil {
		return Bundle{}, rawRead{}, r.err
	}
	return bundle, raw, nil
}

// bundleReader reads the text of a bundle from its beginning. After the first
// error it reads nothing.
type bundleReader struct {
	rest string
	at   int
	err  error
}

// expect reads what must come next.
func (r *bundleReader) expect(next string) {
	if !r.take(next) && r.err == nil {
		r.err = invalidf("proof bundle: not in canonical form behind byte %d", r.at)
	}
}

// take reads next if it comes next.
func (r *bundleReader) take(next string) bool {
	rest, found := strings.CutPrefix(r.rest, next)
	if r.err != nil || !found {
		return false
	}
	r.rest, r.at = rest, r.at+len(next)
	return true
}

// strict refuses unused bits that are set. Go's decoder skips line breaks even
// so, which the canonical form does not have.
var strict = base64.RawURLEncoding.Strict()

func hasLineBreak(text string) bool {
	return strings.IndexByte(text, '\n') >= 0 || strings.IndexByte(text, '\r') >= 0
}

// bytes reads base64url up to the closing quotation mark.
func (r *bundleReader) bytes(name string) (text string, value []byte) {
	if r.err != nil {
		return "", nil
	}
	text, _, closed := strings.Cut(r.rest, `"`)
	value, err := strict.DecodeString(text)
	if !closed || err != nil || len(value) == 0 || hasLineBreak(text) {
		r.err = invalidf("proof bundle: %s is not base64url without padding", name)
		return "", nil
	}
	r.rest, r.at = r.rest[len(text)+1:], r.at+len(text)+1
	return text, value
}
