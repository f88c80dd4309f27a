package ledgeraudit

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// withUnknown adds a field that Fabric does not know.
func withUnknown(b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, 99, protowire.BytesType), []byte("x"))
}

// TestRules makes ledgers that break one rule each.
func TestRules(t *testing.T) {
	one := func(change func(*draft)) func(*world) {
		return func(w *world) { w.add(nil, w.transaction(change)) }
	}
	signed := func(s signing) func(*world) {
		return func(w *world) { w.add(&s, w.transaction(nil)) }
	}
	for _, test := range []struct {
		name string
		make func(*world)
		want []Rule // in order; none: in order
	}{
		{"in order", one(nil), nil},
		{"several transactions", func(w *world) { w.add(nil, w.transaction(nil), w.transaction(nil), w.transaction(nil)) }, nil},
		{"one orderer silent", func(w *world) { w.add(&signing{signers: w.orderers[1:]}, w.transaction(nil)) }, nil},

		{"two orderers silent", func(w *world) { w.add(&signing{signers: w.orderers[2:]}, w.transaction(nil)) }, []Rule{RuleQuorum}},
		{"nobody signed", func(w *world) { w.add(&signing{signers: []*prooftest.Identity{}}, w.transaction(nil)) }, []Rule{RuleQuorum}},
		{"one orderer thrice", func(w *world) {
			o := w.orderers
			w.add(&signing{signers: []*prooftest.Identity{o[0], o[0], o[0], o[1]}}, w.transaction(nil))
		}, []Rule{RuleSignature, RuleSignature, RuleQuorum}},
		{"under each other's number", signed(signing{numbers: []uint32{2, 1, 3, 4}}), []Rule{RuleSignature, RuleSignature, RuleQuorum}},
		{"a fifth orderer", func(w *world) {
			w.add(&signing{signers: append(slices.Clone(w.orderers), w.Departments[0].Peer), numbers: []uint32{1, 2, 3, 4, 5}}, w.transaction(nil))
		}, []Rule{RuleSignature}},
		{"a peer's key for an orderer's", func(w *world) {
			s := slices.Clone(w.orderers)
			s[0] = w.Departments[0].Peer
			w.add(&signing{signers: s, numbers: []uint32{1, 2, 3, 4}}, w.transaction(nil))
		}, []Rule{RuleSignature}},
		{"another configuration", signed(signing{lastConfig: 7}), []Rule{RuleMetadata}},
		{"signatures with an unknown field", func(w *world) {
			b := w.add(nil, w.transaction(nil))
			b.Metadata.Metadata[common.BlockMetadataIndex_SIGNATURES] = withUnknown(b.Metadata.Metadata[common.BlockMetadataIndex_SIGNATURES])
		}, []Rule{RuleQuorum}},
		{"no metadata", func(w *world) { w.add(nil, w.transaction(nil)).Metadata = nil }, []Rule{RuleValidationCode, RuleQuorum}},
		{"a high S", func(w *world) {
			b := w.add(nil, w.transaction(nil))
			md := &common.Metadata{}
			must(readAny("", b.Metadata.Metadata[0], md))
			md.Signatures[1].Signature = prooftest.HighS(md.Signatures[1].Signature)
			b.Metadata.Metadata[0] = marshal(md)
		}, []Rule{RuleSignature}},

		{"no transactions", func(w *world) { w.add(nil) }, []Rule{RuleData}},
		{"other data", func(w *world) { w.add(nil, w.transaction(nil)).Data.Data[0] = w.transaction(nil) }, []Rule{RuleData}},
		{"cross-linked", func(w *world) {
			// The bytes of two transactions, cut elsewhere: the data hash stays (CVE-2023-46132).
			b := w.add(nil, w.transaction(nil), w.transaction(nil))
			all := bytes.Join(b.Data.Data, nil)
			cut := len(b.Data.Data[0]) + 1
			b.Data.Data = [][]byte{all[:cut], all[cut:]}
		}, []Rule{RuleEnvelope, RuleEnvelope}},
		{"two transactions as one", func(w *world) {
			b := w.add(nil, w.transaction(nil), w.transaction(nil))
			b.Data.Data = [][]byte{bytes.Join(b.Data.Data, nil)}
			b.Metadata.Metadata[common.BlockMetadataIndex_TRANSACTIONS_FILTER] = []byte{0}
		}, []Rule{RuleEnvelope}},
		{"an envelope's unknown field", one(func(d *draft) { d.envelope = withUnknown }), []Rule{RuleEnvelope}},
		{"an envelope's field twice", one(func(d *draft) { d.envelope = func(b []byte) []byte { return slices.Concat(b, b) } }), []Rule{RuleEnvelope}},
		{"an envelope without signature", one(func(d *draft) {
			d.envelope = func(b []byte) []byte {
				var e common.Envelope
				must(readAny("", b, &e))
				e.Signature = nil
				return marshal(&e)
			}
		}), []Rule{RuleEnvelope}},
		{"an envelope of rubbish", one(func(d *draft) { d.envelope = func([]byte) []byte { return []byte("rubbish") } }), []Rule{RuleEnvelope}},
		{"a payload's unknown field, signed", one(func(d *draft) { d.payload = withUnknown }), []Rule{RuleEnvelope}},
		{"a response's unknown field, signed", one(func(d *draft) { d.response = withUnknown }), []Rule{RuleEnvelope}},

		{"another channel", one(func(d *draft) { d.channel = "other" }), []Rule{RuleTransaction}},
		{"another identifier", one(func(d *draft) { d.txID = strings.Repeat("0", 64) }), []Rule{RuleTransaction}},
		{"another proposal", one(func(d *draft) { d.hash = make([]byte, 32) }), []Rule{RuleTransaction}},
		{"another chaincode invoked", one(func(d *draft) { d.chaincode = "other" }), []Rule{RuleTransaction}},
		{"another chaincode answered", one(func(d *draft) { d.answered = "other" }), []Rule{RuleTransaction}},
		{"an error, endorsed", one(func(d *draft) { d.status = 500 }), []Rule{RuleTransaction}},

		{"another's signature", one(func(d *draft) { d.signer = prooftest.New().Departments[1].Client }), []Rule{RuleCreator}},
		{"a stranger", one(func(d *draft) { d.creator = prooftest.NewAuthority("tax", "TaxMSP").Issue("client", "client") }), []Rule{RuleCreator}},
		{"a stranger's certificate", one(func(d *draft) { d.creator = prooftest.NewAuthority("tax", "PoliceMSP").Issue("client", "client") }), []Rule{RuleCreator}},
		{"before the certificate", one(func(d *draft) { d.at = prooftest.NotBefore.Add(-time.Hour) }), []Rule{RuleCreator}},

		{"two endorsers", one(func(d *draft) { d.endorsers = d.endorsers[:2] }), []Rule{RuleEndorsement}},
		{"no endorser", one(func(d *draft) { d.endorsers = nil }), []Rule{RuleEndorsement}},
		{"one department thrice", one(func(d *draft) { d.endorsers = slices.Repeat(d.endorsers[:1], 3) }), []Rule{RuleEndorsement}},
		{"a client endorses", func(w *world) {
			w.add(nil, w.transaction(func(d *draft) { d.endorsers[0] = w.Departments[1].Client }))
		}, []Rule{RuleEndorsement}},
		{"an orderer endorses", func(w *world) {
			w.add(nil, w.transaction(func(d *draft) { d.endorsers[0] = w.Departments[1].Orderer }))
		}, []Rule{RuleEndorsement}},
		{"writes nothing, one endorser", one(func(d *draft) { d.results, d.endorsers = &rwset.TxReadWriteSet{}, d.endorsers[:1] }), []Rule{RuleEndorsement}},
		{"own approval, own endorsement", one(func(d *draft) {
			d.results, d.endorsers = writesPrivately("_implicit_org_CivilMSP"), d.endorsers[:1]
		}), nil},
		{"own approval, another's endorsement", one(func(d *draft) {
			d.results, d.endorsers = writesPrivately("_implicit_org_PoliceMSP"), d.endorsers[:1]
		}), []Rule{RuleEndorsement}},
		{"a shared collection, one endorsement", one(func(d *draft) {
			d.results, d.endorsers = writesPrivately("shared"), d.endorsers[:1]
		}), []Rule{RuleEndorsement}},

		{"recorded as not endorsed", func(w *world) {
			w.add(&signing{codes: []byte{byte(pb.TxValidationCode_ENDORSEMENT_POLICY_FAILURE)}}, w.transaction(func(d *draft) { d.endorsers = d.endorsers[:1] }))
		}, nil},
		{"recorded as in conflict", func(w *world) {
			w.add(&signing{codes: []byte{byte(pb.TxValidationCode_MVCC_READ_CONFLICT)}}, w.transaction(nil))
		}, nil},
		{"recorded as badly signed", func(w *world) {
			w.add(&signing{codes: []byte{byte(pb.TxValidationCode_BAD_CREATOR_SIGNATURE)}}, w.transaction(nil))
		}, []Rule{RuleValidationCode}},
		{"too few codes", func(w *world) {
			w.add(&signing{codes: []byte{0}}, w.transaction(nil), w.transaction(nil))
		}, []Rule{RuleValidationCode, RuleValidationCode}},

		{"a new configuration", func(w *world) {
			update := w.update(w.Departments[0].Admin, w.Departments[1].Admin)
			old := w.orderers
			w.orderers = w.orderers[:3]
			config := w.configuration(1, update)
			w.orderers = old
			w.add(&signing{lastConfig: 1}, config)
			w.orderers = w.orderers[:3]
			w.add(&signing{lastConfig: 1}, w.transaction(nil))
		}, nil},
		{"orderers that were dismissed", func(w *world) {
			update := w.update(w.Departments[0].Admin)
			old := slices.Clone(w.orderers)
			w.orderers = []*prooftest.Identity{old[0], w.Departments[1].Authority.Issue("new orderer", "orderer"), w.Departments[2].Authority.Issue("new orderer", "orderer"), w.Departments[3].Authority.Issue("new orderer", "orderer")}
			config := w.configuration(1, update)
			w.orderers = old
			w.add(&signing{lastConfig: 1}, config)
			w.add(&signing{lastConfig: 1}, w.transaction(nil))
		}, []Rule{RuleSignature, RuleSignature, RuleSignature, RuleQuorum}},
		{"a configuration that nobody asked for", func(w *world) { w.add(&signing{lastConfig: 1}, w.configuration(1, w.update())) }, []Rule{RuleConfiguration}},
		{"a configuration that a client asked for", func(w *world) {
			w.add(&signing{lastConfig: 1}, w.configuration(1, w.update(w.Departments[0].Client)))
		}, []Rule{RuleConfiguration}},
		{"a configuration without a request", func(w *world) { w.add(&signing{lastConfig: 1}, w.configuration(1, nil)) }, []Rule{RuleConfiguration}},
		{"a configuration that skips one", func(w *world) {
			w.add(&signing{lastConfig: 1}, w.configuration(2, w.update(w.Departments[0].Admin)))
		}, []Rule{RuleConfiguration}},
		{"a configuration among others", func(w *world) {
			w.add(&signing{lastConfig: 1}, w.configuration(1, w.update(w.Departments[0].Admin)), w.transaction(nil))
		}, []Rule{RuleConfiguration}},
		{"the present configuration forgotten", func(w *world) {
			w.add(&signing{lastConfig: 1}, w.configuration(1, w.update(w.Departments[0].Admin)))
			w.add(&signing{lastConfig: 0}, w.transaction(nil))
		}, []Rule{RuleMetadata}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			test.make(w)
			c := checkAll(t, w.genesis(), w.blocks...)
			var got []Rule
			for _, f := range c.State().Findings {
				got = append(got, f.Rule)
				if f.Text == "" || strings.ContainsAny(f.Text, "\r\n") {
					t.Errorf("text %q is not one line", f.Text)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v", c.State().Findings)
			}
			if c.Ended() != slices.ContainsFunc(test.want, func(r Rule) bool { return ends[r] }) {
				t.Errorf("ended: %v", c.Ended())
			}
		})
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func TestCompare(t *testing.T) {
	grow := func(w *world, n int) *world {
		for range n {
			w.add(nil, w.transaction(nil))
		}
		return w
	}
	audited := grow(newWorld(), 12)
	shorter := blocksSource(audited.blocks[:9])
	longer := grow(&world{Consortium: audited.Consortium, orderers: audited.orderers, blocks: slices.Clone(audited.blocks), nonce: 1000}, 3)

	// The orderers sign another block 5, and the ledger goes on from there.
	forked := &world{Consortium: audited.Consortium, orderers: audited.orderers, blocks: slices.Clone(audited.blocks[:5]), nonce: 2000}
	forked.add(&signing{signers: audited.orderers[1:]}, forked.transaction(nil))
	grow(forked, 6)
	// A peer makes up a block 5 that one orderer signed.
	forged := &world{Consortium: audited.Consortium, orderers: audited.orderers, blocks: slices.Clone(audited.blocks[:5]), nonce: 3000}
	forged.add(&signing{signers: audited.orderers[:1]}, forged.transaction(nil))
	grow(forged, 6)
	// A peer that has the same blocks and took one transaction for invalid.
	other := slices.Clone(audited.blocks)
	for i := 7; i < len(other); i++ {
		other[i] = clone(other[i])
		other[i].Metadata.Metadata[common.BlockMetadataIndex_COMMIT_HASH] = []byte("another")
	}
	other[7].Metadata.Metadata[common.BlockMetadataIndex_TRANSACTIONS_FILTER] = []byte{byte(pb.TxValidationCode_MVCC_READ_CONFLICT)}

	for _, test := range []struct {
		name  string
		other Source
		rule  Rule
		block uint64
		text  string
	}{
		{name: "same", other: blocksSource(audited.blocks)},
		{name: "shorter", other: shorter},
		{name: "longer", other: blocksSource(longer.blocks)},
		{name: "forked", other: blocksSource(forked.blocks), rule: RuleFork, block: 5, text: "orderers that signed both: CivilMSP, MarketMSP, PoliceMSP"},
		{name: "forged", other: blocksSource(forged.blocks), rule: RuleFork, block: 5, text: "only 1 orderers signed the second, 3 are required"},
		{name: "other results", other: blocksSource(other), rule: RuleState, block: 7, text: "validation codes VALID and MVCC_READ_CONFLICT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := checkAll(t, audited.genesis(), audited.blocks...)
			heads, found, err := c.Compare(t.Context(), Copy{"bigdata", blocksSource(audited.blocks)}, []Copy{{"police", test.other}, {"civil", silent{}}})
			if err != nil || len(heads) != 3 {
				t.Fatal(heads, err)
			}
			height, err := test.other.Height(t.Context())
			if err != nil || heads[0].Height != 13 || heads[1].Height != height || heads[2].Error == "" {
				t.Errorf("heads %+v, %v", heads, err)
			}
			if test.rule == "" {
				if len(found) > 0 {
					t.Errorf("found %v", found)
				}
				return
			}
			if len(found) != 1 || found[0].Rule != test.rule || found[0].Block != test.block || !strings.Contains(found[0].Text, test.text) {
				t.Errorf("found %v", found)
			}
		})
	}
}

// silent is a department that does not answer.
type silent struct{ blocksSource }

func (silent) Height(context.Context) (uint64, error) { return 0, errors.New("no answer") }

func TestCheckTrust(t *testing.T) {
	w := newWorld()
	c := checkAll(t, w.genesis(), w.blocks...)
	if found := c.Configuration().CheckTrust(w.Anchors()); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	less := w.Anchors()
	less.Departments = less.Departments[1:]
	other := w.Anchors()
	other.Departments[2].CARoots = other.Departments[1].CARoots
	elsewhere := w.Anchors()
	elsewhere.Channel = "other"
	strange := w.Anchors()
	strange.Departments[0].MSPID = "TaxMSP"
	for name, test := range map[string]struct {
		found int
		got   []Finding
	}{
		"a department less":  {1, c.Configuration().CheckTrust(less)},
		"another authority":  {1, c.Configuration().CheckTrust(other)},
		"another channel":    {1, c.Configuration().CheckTrust(elsewhere)},
		"another department": {2, c.Configuration().CheckTrust(strange)},
	} {
		if len(test.got) != test.found {
			t.Errorf("%s: found %v", name, test.got)
		}
	}
}

func TestGenesisHash(t *testing.T) {
	w := newWorld()
	first := clone(w.blocks[0])
	hash, err := GenesisHash(marshal(first))
	if err != nil || len(hash) != 64 {
		t.Fatal(hash, err)
	}
	w.add(nil, w.transaction(nil))
	for name, file := range map[string][]byte{"empty": nil, "rubbish": []byte("rubbish"), "a later block": marshal(w.blocks[1]), "unknown field": withUnknown(marshal(first))} {
		if _, err := GenesisHash(file); err == nil {
			t.Errorf("%s: taken for a first block", name)
		}
	}
}

func TestFiles(t *testing.T) {
	for name, data := range map[string][]byte{"empty": {}, "a length alone": {0x05}, "zero": {0}, "long": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, "rubbish": []byte("\x03abc")} {
		files, err := OpenFiles(folder(data))
		if err == nil {
			_, err = files.Block(t.Context(), 0)
		}
		if err == nil {
			t.Errorf("%s: a block was read", name)
		}
	}
	if _, err := recorded().Block(t.Context(), recordedHeight(t)); err == nil {
		t.Error("a block behind the last was read")
	}
}
