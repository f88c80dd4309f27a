package chaincode_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
)

func TestBatchAnswers(t *testing.T) {
	w := founded(t)
	contents := several(3)
	contents[0].RelatedCodes = []string{contents[2].Code} // recorded with the same batch
	r := w.must("police operator", "catalog:RegisterBatch", domain.RegisterBatchArgs{Contents: contents})
	var digests []string
	for _, c := range contents {
		e := w.entry(c.Code)
		if diff := cmp.Diff(c, e.Content); diff != "" {
			t.Errorf("%s: content (-given +recorded):\n%s", c.Code, diff)
		}
		digests = append(digests, e.Digest)
	}
	want := domain.BatchResult{Codes: codesOf(contents), State: domain.CatalogRegPending, Digest: domain.Digest([]byte(strings.Join(digests, "\n")))}
	if diff := cmp.Diff(want, decode[domain.BatchResult](t, r.Payload)); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}

	// A batch over entries in different states has no state of its own: a
	// publication is approved for one, a registration for the others.
	w.must("bigdata reviewer", "catalog:Review", domain.ReviewCatalogArgs{Code: contents[1].Code, Decision: domain.Approve})
	w.must("police operator", "catalog:Publish", domain.CodeArgs{Code: contents[1].Code})
	r = w.must("bigdata reviewer", "catalog:ReviewBatch", domain.ReviewBatchArgs{Codes: codesOf(contents), Decision: domain.Approve})
	if got := decode[domain.BatchResult](t, r.Payload); got.State != "" || !slices.Equal(got.Codes, codesOf(contents)) {
		t.Errorf("result %+v", got)
	}
	// A batch may review changes.
	after := contents[1]
	after.Abstract = "另一摘要"
	w.must("police operator", "catalog:Change", domain.ChangeCatalogArgs{Content: after})
	w.must("bigdata reviewer", "catalog:ReviewBatch", domain.ReviewBatchArgs{Codes: []string{after.Code}, Decision: domain.Approve})
	if e := w.entry(after.Code); e.Version != 2 || e.Content.Abstract != after.Abstract {
		t.Errorf("entry %+v", e)
	}
}

// TestBatchIsAtomic checks that one bad entry keeps the whole batch out and that
// all findings are told.
func TestBatchIsAtomic(t *testing.T) {
	w := founded(t)
	w.submitted()
	before := w.ledger.Keys()
	contents := several(5)
	contents[1].ShareCondition = ""
	contents[1].SystemRef = ""
	contents[2].Name = content().Name + "。" // taken
	contents[3].RelatedCodes = []string{"307003/999999"}
	r := w.run(w.proposal("police operator", "catalog:RegisterBatch", domain.RegisterBatchArgs{Contents: contents}))
	if domain.KindOf(parseError(t, r.Message)) != domain.Invalid {
		t.Errorf("%q", r.Message)
	}
	for _, field := range []string{"contents[1].shareCondition: ", "contents[1].systemRef: ", "contents[2].name: ", "contents[3].relatedCodes[0]: "} {
		if !strings.Contains(r.Message, field) {
			t.Errorf("%q does not name %s", r.Message, field)
		}
	}

	good := several(4)
	w.must("police operator", "catalog:RegisterBatch", domain.RegisterBatchArgs{Contents: good[:3]})
	before = append(before, w.ledger.Keys()...)
	slices.Sort(before)
	before = slices.Compact(before)
	approved := w.must("bigdata reviewer", "catalog:Review", domain.ReviewCatalogArgs{Code: good[0].Code, Decision: domain.Approve})
	r = w.run(w.proposal("bigdata reviewer", "catalog:ReviewBatch", domain.ReviewBatchArgs{Codes: codesOf(good), Decision: domain.Approve}))
	err := parseError(t, r.Message)
	if domain.KindOf(err) != domain.WrongState || domain.StateOf(err) != string(domain.CatalogRegistered) ||
		!strings.Contains(r.Message, "codes[0]: catalog entry "+good[0].Code) || !strings.Contains(r.Message, "codes[3]: catalog entry "+good[3].Code+" is not recorded") {
		t.Errorf("%q", r.Message)
	}
	r = w.run(w.proposal("police operator", "catalog:PublishBatch", domain.CodesArgs{Codes: codesOf(good[:3])}))
	if domain.KindOf(parseError(t, r.Message)) != domain.WrongState || !strings.Contains(r.Message, "codes[1]: ") || !strings.Contains(r.Message, "codes[2]: ") || strings.Contains(r.Message, "codes[0]: ") {
		t.Errorf("%q", r.Message)
	}
	event := domain.KeyOf(domain.KindCatalogEvent, domain.CatalogEventID(decode[domain.CatalogEntry](t, approved.Payload).TxID, "police"))
	after := slices.DeleteFunc(w.ledger.Keys(), func(k string) bool { return k == event })
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("refused batches changed the state:\n%s", diff)
	}
}

func TestFullBatch(t *testing.T) {
	w := founded(t)
	contents := several(domain.MaxBatch + 1)
	for _, bad := range []domain.RegisterBatchArgs{{Contents: contents}, {Contents: []domain.CatalogContent{}}} {
		r := w.run(w.proposal("police operator", "catalog:RegisterBatch", bad))
		if domain.KindOf(parseError(t, r.Message)) != domain.Invalid || !strings.Contains(r.Message, "contents: ") {
			t.Errorf("%d entries: %q", len(bad.Contents), r.Message)
		}
	}
	contents = contents[:domain.MaxBatch]
	args := canonical(t, domain.RegisterBatchArgs{Contents: contents})
	r := w.must("police operator", "catalog:RegisterBatch", args)
	// An entry with its policy and a name each, and one event, at a thousand in a
	// message: one to read what every transaction reads, two for the rest, four to
	// write.
	if len(r.Writes) != 2*domain.MaxBatch+1 || len(r.Policies) != domain.MaxBatch+1 || r.Messages != 1+2+4 {
		t.Errorf("%d writes, %d policies, %d messages", len(r.Writes), len(r.Policies), r.Messages)
	}
	w.must("bigdata reviewer", "catalog:ReviewBatch", domain.ReviewBatchArgs{Codes: codesOf(contents), Decision: domain.Approve})
	w.must("police operator", "catalog:PublishBatch", domain.CodesArgs{Codes: codesOf(contents)})

	// A refusal of all names the first findings and counts the rest.
	r = w.run(w.proposal("police operator", "catalog:PublishBatch", domain.CodesArgs{Codes: codesOf(contents)}))
	if !strings.HasSuffix(r.Message, fmt.Sprintf("; %d more findings", domain.MaxBatch-domain.MaxFindings)) || len(r.Message) > maxMessage {
		t.Errorf("a message of %d bytes ends in %q", len(r.Message), r.Message[len(r.Message)-40:])
	}
	repeated := append(codesOf(contents[:2]), contents[0].Code)
	w.refused("police operator", "catalog:PublishBatch", domain.CodesArgs{Codes: repeated}, domain.Invalid, "codes")
}
