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

func parseBundle(data []byte) (Bundle, rawRead, error) {
	if len(data) > MaxBundleBytes {
		return Bundle{}, rawRead{}, invalidf("proof bundle: %d bytes, at most %d are allowed", len(data), MaxBundleBytes)
	}
	var bundle Bundle
	if err := domain.ParseCanonical(data, &bundle); err != nil {
		return Bundle{}, rawRead{}, fmt.Errorf("proof bundle: %w", err)
	}
	if bundle.Format != BundleFormat {
		return Bundle{}, rawRead{}, invalidf("proof bundle: the format is not %q", BundleFormat)
	}
	if n := len(bundle.Read.Endorsements); n == 0 || n > maxEndorsements {
		return Bundle{}, rawRead{}, invalidf("proof bundle: %d endorsements, 1 to %d are allowed", n, maxEndorsements)
	}
	var raw rawRead
	var err error
	decode := func(name, text string) []byte {
		value, failed := base64.RawURLEncoding.DecodeString(text)
		// Go's decoder skips line breaks and ignores the unused bits of the last digit.
		if err == nil && (failed != nil || len(value) == 0 || base64.RawURLEncoding.EncodeToString(value) != text) {
			err = invalidf("proof bundle: %s is not base64url without padding", name)
		}
		return value
	}
	raw.proposal = decode("proposal", bundle.Read.Proposal)
	raw.response = decode("response", bundle.Read.Response)
	for _, e := range bundle.Read.Endorsements {
		raw.endorsements = append(raw.endorsements, RawEndorsement{
			Endorser:  decode("endorser", e.Endorser),
			Signature: decode("signature", e.Signature),
		})
	}
	if err != nil {
		return Bundle{}, rawRead{}, err
	}
	return bundle, raw, nil
}
