package chaincode

import (
	"fmt"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
)

// endorsedBy is the policy of a key whose changes need the peer of at least one
// of the named departments and, with it, a majority of all departments: the
// majority alone, without them, must not be able to rewrite their record. It is
// set once, when the key is new.
func (t *transaction) endorsedBy(departments ...domain.DepartmentCode) ([]byte, error) {
	slices.Sort(departments)
	departments = slices.Compact(departments)
	name := fmt.Sprint(departments)
	if policy, known := t.policies[name]; known {
		return policy, nil
	}
	policy, err := keyPolicy(t.members.Departments, departments)
	if err != nil {
		return nil, err
	}
	if t.policies == nil {
		t.policies = make(map[string][]byte)
	}
	t.policies[name] = policy
	return policy, nil
}

// keyPolicy builds the policy that [transaction.endorsedBy] describes. Peers use
// one signature for one place of a policy only, so "A or B, and a majority" has
// to be spelled as "A and enough of the others, or B and enough of the others":
// otherwise the signature spent on the first half would be missing from the
// majority.
func keyPolicy(members []domain.Member, departments []domain.DepartmentCode) ([]byte, error) {
	envelope := &common.SignaturePolicyEnvelope{}
	for _, m := range members {
		role, err := proto.Marshal(&msp.MSPRole{MspIdentifier: string(m.MSPID), Role: msp.MSPRole_PEER})
		if err != nil {
			return nil, fmt.Errorf("internal: encode an endorsement policy: %w", err)
		}
		envelope.Identities = append(envelope.Identities, &msp.MSPPrincipal{PrincipalClassification: msp.MSPPrincipal_ROLE, Principal: role})
	}
	majority := len(members)/2 + 1
	var alternatives []*common.SignaturePolicy
	for _, d := range departments {
		at := slices.IndexFunc(members, func(m domain.Member) bool { return m.Code == d })
		if at < 0 {
			return nil, fmt.Errorf("internal: department %s is no member", d)
		}
		var others []*common.SignaturePolicy
		for i := range members {
			if i != at {
				others = append(others, signedBy(i))
			}
		}
		rule := signedBy(at)
		if majority > 1 {
			rule = outOf(2, rule, outOf(majority-1, others...))
		}
		alternatives = append(alternatives, rule)
	}
	envelope.Rule = outOf(1, alternatives...)
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(envelope)
	if err != nil {
		return nil, fmt.Errorf("internal: encode an endorsement policy: %w", err)
	}
	return data, nil
}

// signedBy asks for a signature of the member at a place of the list.
func signedBy(member int) *common.SignaturePolicy {
	return &common.SignaturePolicy{Type: &common.SignaturePolicy_SignedBy{SignedBy: int32(member)}}
}

// outOf asks for n of the rules.
func outOf(n int, rules ...*common.SignaturePolicy) *common.SignaturePolicy {
	return &common.SignaturePolicy{Type: &common.SignaturePolicy_NOutOf_{
		NOutOf: &common.SignaturePolicy_NOutOf{N: int32(n), Rules: rules},
	}}
}
