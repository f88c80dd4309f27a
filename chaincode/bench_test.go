package chaincode_test

import (
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
	w.must("police operator", "certificate:Issue", domain.IssueArgs{Content: certificateContent(b)})
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
