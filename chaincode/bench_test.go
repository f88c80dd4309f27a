package chaincode_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
)

// BenchmarkTransactions measures the chaincode alone, without peer or network.
func BenchmarkTransactions(b *testing.B) {
	w := founded(b)
	w.published()
	w.issued()
	certificates := certificateContents(b, 200+domain.MaxBatchRows)
	single, issued := certificates[0], certificates[domain.MaxBatchRows:]
	w.must("police operator", "certificate:IssueBatch", domain.IssueBatchArgs{Contents: issued})
	unissued := slices.Clone(issued)
	for i := range unissued {
		unissued[i].Ref, unissued[i].CertID, unissued[i].StatusIndex = fmt.Sprintf("%012x%020x", 1000+i/domain.MaxBatchRows, i), composed(b, strconv.Itoa(30_000_000+i), "001"), 5000+i
	}
	wide := content()
	wide.Code, wide.Name = "307003/000018", "水情信息宽表"
	for i := range 98 {
		wide.Items = append(wide.Items, domain.CatalogItem{Name: "信息项" + strconv.Itoa(i), Type: "C", Level: 1, ShareType: domain.Conditional})
	}
	for _, bc := range []struct {
		name, who, function string
		arg                 any
	}{
		{"register 100 items", "police operator", "catalog:Register", domain.RegisterCatalogArgs{Content: wide}},
		{"register 1", "police operator", "catalog:RegisterBatch", domain.RegisterBatchArgs{Contents: several(1)}},
		{"register 200", "police operator", "catalog:RegisterBatch", domain.RegisterBatchArgs{Contents: several(200)}},
		{"register 1000", "police operator", "catalog:RegisterBatch", domain.RegisterBatchArgs{Contents: several(domain.MaxBatch)}},
		{"issue 1", "police operator", "certificate:Issue", domain.IssueArgs{Content: single}},
		{"issue 200", "police operator", "certificate:IssueBatch", domain.IssueBatchArgs{Contents: unissued}},
		{"decide 200", "police reviewer", "certificate:DecideBatch", domain.DecideBatchArgs{Refs: refsOf(issued), Decision: domain.ApproveCertificate}},
		{"request", "civil operator", "sharing:Request", request()},
		{"attest", "civil gateway", "evidence:Attest", domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: otherID}},
	} {
		p := chaincodetest.Proposal{
			Creator: w.people[bc.who], TxID: strings.Repeat("0", 64), Time: noon.Add(time.Hour), Function: bc.function, Args: []string{canonical(b, bc.arg)},
		}
		b.Run(bc.name, func(b *testing.B) {
			for b.Loop() {
				if r := w.ledger.Simulate(w.chaincode, p); !r.OK() {
					b.Fatal(r.Message)
				}
			}
		})
	}
}
