package indextest

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
)

// Batch makes the two records of an issuing batch of certificates that share
// everything but what is given: references, of which they share the first digits,
// places in the status lists and what became of them. tx is the transaction that wrote the status; certificates that
// bear another TxID were changed by an earlier one.
func Batch(tx domain.TxID, issuer domain.DepartmentCode, certificates ...domain.Certificate) (id string, issued domain.IssuingBatch, status domain.BatchStatus) {
	call := domain.Call{Tx: domain.Tx{ID: tx}}
	var changes []domain.CertificateChange
	lives := make(map[string]domain.Certificate)
	for _, c := range certificates {
		c.Issuer = issuer
		changes = append(changes, domain.CertificateChange{Certificate: c})
		lives[c.Content.Ref] = c
	}
	batches, err := domain.NewBatches(changes, call)
	if err == nil && len(batches) != 1 {
		err = fmt.Errorf("%d batches", len(batches))
	}
	if err == nil {
		status, err = batches[0].Changed(lives, call)
	}
	if err != nil {
		panic(err) // certificates of this program that make no batch
	}
	return batches[0].Issued.ID(), batches[0].Issued, status
}

// Certificate is one for [Batch], with one change of status, which tx made.
func Certificate(tx domain.TxID, ref string, status domain.CertificateStatus, place int) domain.Certificate {
	return domain.Certificate{
		Meta:    domain.Meta{TxID: tx},
		Content: domain.CertificateContent{Ref: ref, StatusIndex: place},
		Changes: []domain.StatusChange{{Status: status, Since: Epoch, RecordedAt: Epoch}}, Seq: 2,
	}
}

// PutBatch is [Put] of the records of a batch, in the order in which the ledger
// has them.
func PutBatch(tx domain.TxID, issuer domain.DepartmentCode, certificates ...domain.Certificate) domain.Transaction {
	id, issued, status := Batch(tx, issuer, certificates...)
	return Put("certb~"+id, issued, "certs~"+id, status)
}

// certificates are the writes of a batch of one to three certificates of which the
// first has the reference of record: new, changed, or some of them.
func (g generator) certificates(issuer domain.DepartmentCode, record, i int) []any {
	ref := digest("certificate %d", record)[:32]
	tx := domain.TxID(digest("status %d", i))
	var list []domain.Certificate
	for row := range 1 + g.IntN(3) {
		by := tx
		if g.IntN(4) == 0 {
			by = "earlier"
		}
		c := Certificate(by, ref, pick(g, domain.CertificateValid, domain.CertificateSuspended, domain.CertificateRevoked), 4*i+row)
		if row > 0 {
			c.Content.Ref = domain.BatchOf(ref) + digest("certificate %d of %d", row, record)[:20]
		}
		switch g.IntN(4) {
		case 0: // waits to be issued
			c.Changes, c.Seq = []domain.StatusChange{}, 1
		case 1:
			c.Pending = &domain.StatusProposal{Event: domain.RevokeCertificate}
		}
		list = append(list, c)
	}
	id, issued, status := Batch(tx, issuer, list...)
	switch g.IntN(8) {
	case 0: // without the batch, which may be recorded
		return []any{"certs~" + id, status}
	case 1: // does not fit
		status.Of = append(status.Of, 7)
	}
	return []any{"certb~" + id, issued, "certs~" + id, status}
}

// written are the kinds of records that have writes of their own.
func written() []domain.RecordKind {
	return slices.DeleteFunc(slices.Clone(domain.RecordKinds), isTold)
}

// testCertificates checks that a certificate is told from its batch, changes with
// what changed it and with nothing else, and that no other write tells one.
func testCertificates(t *testing.T, x index.Index) {
	var c Chain
	const id = "aaaaaaaaaaaa"
	waits := func(tx domain.TxID, ref string) domain.Certificate {
		w := Certificate(tx, ref, "", 0)
		w.Changes, w.Seq = []domain.StatusChange{}, 1
		return w
	}
	valid := func(tx domain.TxID, ref string) domain.Certificate {
		return Certificate(tx, ref, domain.CertificateValid, 0)
	}
	first, second := id+"2", id+"1"
	revoked := Certificate("3", second, domain.CertificateRevoked, 0)
	blocks := []domain.Block{
		c.Add(PutBatch("1", "police", waits("1", first), waits("1", second))),
		c.Add(PutBatch("2", "police", valid("2", first), valid("2", second))),
		c.Add(PutBatch("3", "police", valid("2", first), revoked)),
		c.Add(
			Put("cert~"+second, valid("4", second), "cert~"+id+"3", valid("4", id+"3"), "cert~"+first, nil),
			Put("certs~"+id, []byte(`{}`)), Put("certs~z", []byte(`x`)), Put("certb~"+id, []byte(`x`)),
		),
	}
	apply(t, x, blocks...)
	for _, test := range []struct {
		ref    string
		status domain.CertificateStatus
		blocks []uint64
	}{{first, domain.CertificateValid, []uint64{0, 1}}, {second, domain.CertificateRevoked, []uint64{0, 1, 2}}} {
		got, err := x.Get(t.Context(), domain.KindCertificate, test.ref)
		var now domain.Certificate
		if err == nil {
			err = json.Unmarshal(got.Value, &now)
		}
		last := test.blocks[len(test.blocks)-1]
		if err != nil || got.Block != last || got.TxID != blocks[last].Transactions[0].ID || now.Status != test.status || now.Content.Ref != test.ref || !domain.DigestHolds(&now) {
			t.Errorf("Get(%s) = %s in block %d, %v", test.ref, got.Value, got.Block, err)
		}
		for _, limit := range []int{1, 200} {
			var of []uint64
			for _, r := range history(t, x, domain.KindCertificate, test.ref, limit) {
				of = append(of, r.Block)
			}
			if !slices.Equal(of, test.blocks) {
				t.Errorf("History(%s), %d at a time, is of blocks %v, want %v", test.ref, limit, of, test.blocks)
			}
		}
	}
	for _, ref := range []string{id + "3", id, "z", ""} {
		_, err := x.Get(t.Context(), domain.KindCertificate, ref)
		wantKind(t, "Get of a certificate that no batch has", err, domain.NotFound)
	}
	for _, limit := range []int{1, 200} {
		if got := ids(list(t, x, domain.KindCertificate, index.Filter{Department: "police"}, limit)); got != second+" "+first {
			t.Errorf("List = %q, want both in order of reference", got)
		}
	}
	apply(t, x, c.Add(Put("certs~"+id, nil)))
	_, err := x.Get(t.Context(), domain.KindCertificate, first)
	wantKind(t, "Get of a certificate whose status was deleted", err, domain.NotFound)
}
