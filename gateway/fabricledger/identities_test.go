package fabricledger

import (
	"bytes"
	"context"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// TestSetIdentities replaces the identities while a transaction is under way: it
// is finished under the one that it began with, the next one has the new one, and
// identities that cannot be used change nothing.
func TestSetIdentities(t *testing.T) {
	l, peers := newTestLedger(t)
	ca := newAuthority(t)
	fresh := make(map[domain.Role]Identity)
	for _, role := range []domain.Role{domain.RoleGateway, domain.RoleOperator} {
		certPEM, keyPEM := ca.issue(t, "new "+string(role))
		fresh[role] = Identity{MSPID: "PoliceMSP", CertificatePEM: certPEM, KeyPEM: keyPEM}
	}
	old, err := l.signer(domain.RoleOperator)
	if err != nil {
		t.Fatal(err)
	}
	peers[0].onEndorse = func(n int, _ *gateway.EndorseRequest) error {
		if n == 1 {
			return l.SetIdentities(fresh)
		}
		return nil
	}
	for range 2 {
		if _, err := submit(l, context.Background(), ledger.Request{Role: domain.RoleOperator, Transaction: testTransaction, Argument: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	creator := func(request []byte) string {
		for name, certPEM := range map[string][]byte{"old": old.id.Credentials(), "new": fresh[domain.RoleOperator].CertificatePEM} {
			block, _ := pem.Decode(certPEM)
			if bytes.Contains(request, bytes.TrimSpace(pem.EncodeToMemory(block))) {
				return name
			}
		}
		return "neither"
	}
	var proposed, submitted []string
	for _, r := range peers[0].endorsed {
		proposed = append(proposed, creator(r.GetProposedTransaction().GetProposalBytes()))
	}
	for _, r := range peers[0].submitted {
		submitted = append(submitted, creator(r.GetPreparedTransaction().GetPayload()))
	}
	if want := []string{"old", "new"}; !slices.Equal(proposed, want) || !slices.Equal(submitted, want) {
		t.Errorf("proposed by %v, submitted by %v, want %v", proposed, submitted, want)
	}

	before := l.signers.Load()
	certPEM, _ := ca.issue(t, "one")
	_, keyPEM := ca.issue(t, "another")
	for name, ids := range map[string]map[domain.Role]Identity{
		"none":           {},
		"no gateway":     {domain.RoleOperator: fresh[domain.RoleOperator]},
		"key of another": {domain.RoleGateway: {MSPID: "PoliceMSP", CertificatePEM: certPEM, KeyPEM: keyPEM}},
		"no certificate": {domain.RoleGateway: {MSPID: "PoliceMSP", KeyPEM: keyPEM}},
		"something else": {domain.RoleGateway: {MSPID: "PoliceMSP", CertificatePEM: keyPEM, KeyPEM: certPEM}},
	} {
		if err := l.SetIdentities(ids); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if l.signers.Load() != before {
		t.Error("identities that cannot be used replaced those in force")
	}
}
