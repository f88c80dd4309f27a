package chaincode

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
)

// consortium is the members d0, d1, … of a consortium of n.
func consortium(n int) []domain.Member {
	var members []domain.Member
	for i := range n {
		members = append(members, domain.Member{Code: domain.DepartmentCode(fmt.Sprintf("d%d", i)), MSPID: domain.MSPID(fmt.Sprintf("D%dMSP", i))})
	}
	return members
}

// satisfied evaluates a policy as peers do (Fabric, common/cauthdsl): every rule
// of an "n out of" is evaluated, in order; a rule that holds uses up the
// signatures it took; one that does not hold gives them back.
func satisfied(t *testing.T, policy []byte, signers []string) bool {
	t.Helper()
	var envelope common.SignaturePolicyEnvelope
	if err := proto.Unmarshal(policy, &envelope); err != nil {
		t.Fatal(err)
	}
	var holds func(rule *common.SignaturePolicy, used []bool) bool
	holds = func(rule *common.SignaturePolicy, used []bool) bool {
		if n := rule.GetNOutOf(); n != nil {
			verified := int32(0)
			for _, each := range n.GetRules() {
				trial := slices.Clone(used)
				if holds(each, trial) {
					verified++
					copy(used, trial)
				}
			}
			return verified >= n.GetN()
		}
		principal := envelope.GetIdentities()[rule.GetSignedBy()]
		var role msp.MSPRole
		if err := proto.Unmarshal(principal.GetPrincipal(), &role); err != nil {
			t.Fatal(err)
		}
		if principal.GetPrincipalClassification() != msp.MSPPrincipal_ROLE || role.GetRole() != msp.MSPRole_PEER {
			t.Fatalf("principal %v, want a peer", &role)
		}
		for i, signer := range signers {
			if !used[i] && signer == role.GetMspIdentifier() {
				used[i] = true
				return true
			}
		}
		return false
	}
	return holds(envelope.GetRule(), make([]bool, len(signers)))
}

// TestKeyPolicies evaluates the policies for every set of departments that may
// have signed: exactly the majorities with one of the named departments count.
func TestKeyPolicies(t *testing.T) {
	for n := 1; n <= 7; n++ {
		members := consortium(n)
		for a := range n {
			for b := a; b < n; b++ {
				t.Run(fmt.Sprintf("d%d or d%d of %d", a, b, n), func(t *testing.T) {
					named := []domain.DepartmentCode{members[a].Code, members[b].Code}
					policy, err := keyPolicy(members, slices.Compact(named))
					if err != nil {
						t.Fatal(err)
					}
					for set := range 1 << n {
						var signers []string
						for i, m := range members {
							if set&(1<<i) != 0 {
								signers = append(signers, string(m.MSPID))
							}
						}
						want := bits.OnesCount(uint(set)) > n/2 && set&(1<<a|1<<b) != 0
						if got := satisfied(t, policy, signers); got != want {
							t.Errorf("signed by %v: %t, want %t", signers, got, want)
						}
						// One department's second peer is no second department.
						if doubled := append(signers, signers...); satisfied(t, policy, doubled) != want {
							t.Errorf("signed twice each by %v: not %t", signers, want)
						}
					}
				})
			}
		}
	}
}

// TestSpelledPolicyWouldAskTooMuch checks the reason for the spelling of
// keyPolicy with the semantics above: "(a or b) and a majority" spends the
// signatures of a and b on its first half.
func TestSpelledPolicyWouldAskTooMuch(t *testing.T) {
	members := consortium(4)
	policy, err := keyPolicy(members, []domain.DepartmentCode{"d0", "d1"})
	if err != nil {
		t.Fatal(err)
	}
	var envelope common.SignaturePolicyEnvelope
	if err := proto.Unmarshal(policy, &envelope); err != nil {
		t.Fatal(err)
	}
	envelope.Rule = outOf(2, outOf(1, signedBy(0), signedBy(1)), outOf(3, signedBy(0), signedBy(1), signedBy(2), signedBy(3)))
	naive, err := proto.Marshal(&envelope)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"D0MSP", "D1MSP", "D2MSP", "D3MSP"}
	if !satisfied(t, policy, all) {
		t.Error("our spelling is not satisfied by all")
	}
	for _, signers := range [][]string{all, all[1:], all[:3], {"D0MSP", "D2MSP", "D3MSP"}} {
		if satisfied(t, naive, signers) {
			t.Errorf("the plain spelling would do for %v", signers)
		}
	}
	t.Logf("a policy of 4 members takes %d bytes", len(policy))
}

func TestEndorsedBy(t *testing.T) {
	tx := &transaction{members: &domain.Members{Lead: "d0", Departments: consortium(4)}}
	first, err := tx.endorsedBy("d2", "d0")
	if err != nil {
		t.Fatal(err)
	}
	other, err := tx.endorsedBy("d0", "d2", "d0")
	if err != nil || !bytes.Equal(first, other) {
		t.Errorf("the order of departments shows: %v", err)
	}
	alone, err := tx.endorsedBy("d2")
	if err != nil || bytes.Equal(first, alone) || len(tx.policies) != 2 {
		t.Errorf("%d policies, %v", len(tx.policies), err)
	}
	if _, err := tx.endorsedBy("d9"); err == nil || !strings.HasPrefix(err.Error(), "internal: department d9 is no member") {
		t.Errorf("got %v", err)
	}
}
