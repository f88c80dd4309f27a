//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/zhenglian/zhenglian/domain"
)

// TestRefusedBesideAnother has one block hold a transaction that peers refuse before they
// look at its endorsements, and after it another one that creates the same key. Peers of
// Fabric's own build wait at such a block for ever, all of them, and wait again after
// a restart: see docs/adr/0038. It comes last because of that.
func TestRefusedBesideAnother(t *testing.T) {
	m := newMember(t, "police")
	defer m.close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for range 20 {
		entry := contentOf("police")
		registration := func(id string) *client.Transaction {
			proposed := m.propose(t, "catalog:Register", domain.RegisterCatalogArgs{Content: entry})
			var answer []byte
			var endorsements []*peer.Endorsement
			for _, mspID := range []string{"PoliceMSP", "BigdataMSP", "CivilMSP"} {
				r := m.ask(t, mspID, proposed)
				if status := r.GetResponse().GetStatus(); status != 200 {
					t.Fatalf("%s answers status %d, %q", mspID, status, r.GetResponse().GetMessage())
				}
				answer, endorsements = r.GetPayload(), append(endorsements, r.GetEndorsement())
			}
			if id == "" {
				id = proposed.GetTransactionId()
			}
			return m.assemble(t, proposed, id, answer, endorsements)
		}
		refused, good := registration(strings.Repeat(randomHex(t, 16), 2)), registration("")
		var statuses []*client.Status
		var commits []*client.Commit
		for _, transaction := range []*client.Transaction{refused, good} {
			commit, err := transaction.SubmitWithContext(ctx)
			must(t, err)
			commits = append(commits, commit)
		}
		for _, commit := range commits {
			status, err := commit.StatusWithContext(ctx)
			must(t, err)
			statuses = append(statuses, status)
		}
		if code := statuses[0].Code; code != peer.TxValidationCode_BAD_PROPOSAL_TXID {
			t.Fatalf("under another ID, the peers find %s", code)
		}
		if code := statuses[1].Code; code != peer.TxValidationCode_VALID {
			t.Fatalf("beside it, the peers find %s", code)
		}
		if statuses[0].BlockNumber != statuses[1].BlockNumber {
			continue // ordered one by one
		}
		for _, department := range net.Departments() {
			awaitState(t, department, entry.Code, domain.CatalogRegPending)
		}
		return
	}
	t.Fatal("the two were never in one block")
}
