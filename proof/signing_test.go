package proof_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

const (
	signedOperation = "0123456789abcdef0123456789abcdef"
	signedArgument  = `{"code":"307003/000017","decision":"approve","opinion":""}`
)

var signedLong = strings.Repeat("长", domain.InlineArgument)

// writing is a transaction of a client of the police, endorsed by all.
func writing(c *prooftest.Consortium, argument string) *prooftest.Read {
	r := c.Attest(c.Statement(domain.KindCertificate, signedOperation, signedOperation, nil, ""))
	r.Creator = c.Department("police").Client
	r.Args = [][]byte{[]byte("catalog:Review"), []byte(argument), []byte(signedOperation)}
	if len(argument) > domain.InlineArgument {
		r.Args[1] = domain.ArgumentReference([]byte(argument))
		r.Transient = []prooftest.Transient{{Name: domain.TransientArgument, Value: []byte(argument)}}
	}
	r.Payload = []byte(`{"state":"registered"}`)
	r.Events = []byte("an event")
	r.Namespaces[1].Writes = [][]byte{{0x0a, 1, 'k', 0x1a, 1, 'v'}}
	return r
}

func intent(c *prooftest.Consortium, argument string) proof.Intent {
	return proof.Intent{
		Certificate: c.Department("police").Client.Cert, Transaction: "catalog:Review", Operation: signedOperation, Now: prooftest.Epoch.Add(time.Minute),
		Argument: func(got []byte) error {
			if string(got) != argument {
				return errors.New("differs")
			}
			return nil
		},
	}
}

func verifier(t testing.TB, c *prooftest.Consortium) *proof.Verifier {
	t.Helper()
	f, err := proof.NewVerifier(c.Anchors())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCheckProposalAndTransaction(t *testing.T) {
	c := prooftest.New()
	f := verifier(t, c)
	for _, argument := range []string{signedArgument, signedLong} {
		r := writing(c, argument)
		p, err := f.CheckProposal(r.ProposalBytes(), intent(c, argument))
		if err != nil {
			t.Fatal(err)
		}
		if string(p.Argument) != argument || !p.Time.Equal(r.Time) || len(p.TxID) != 64 {
			t.Errorf("checked %+v", p)
		}
		got, err := p.CheckTransaction(r.TransactionBytes())
		if err != nil {
			t.Fatal(err)
		}
		want := proof.CheckedTransaction{Result: r.Payload, Endorsers: []domain.DepartmentCode{"bigdata", "civil", "market", "police"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	r := writing(c, signedArgument)
	conditional := intent(c, signedArgument)
	conditional.Expect = "cat~307003/000017=" + strings.Repeat("a", 64)
	r.Args = append(r.Args, []byte(conditional.Expect))
	if _, err := f.CheckProposal(r.ProposalBytes(), conditional); err != nil {
		t.Error(err)
	}
	if _, err := f.CheckProposal(r.ProposalBytes(), intent(c, signedArgument)); err == nil {
		t.Error("a condition that was not meant is signed")
	}
}

// TestForeignProposal has a gateway ask for a signature under what was not meant.
func TestForeignProposal(t *testing.T) {
	c := prooftest.New()
	f := verifier(t, c)
	for _, tt := range []struct {
		name, want string
		change     func(*prooftest.Read)
	}{
		{"channel", "another channel", func(r *prooftest.Read) { r.Channel = "other" }},
		{"chaincode", "another chaincode", func(r *prooftest.Read) { r.Chaincode = "other" }},
		{"chaincode of the header", "another chaincode", func(r *prooftest.Read) { r.HeaderChaincode = "other" }},
		{"type", "not an endorser transaction", func(r *prooftest.Read) { r.HeaderType = 1 }},
		{"creator of the same department", "another certificate", func(r *prooftest.Read) { r.Creator = c.Department("police").Admin }},
		{"creator of another department", "another certificate", func(r *prooftest.Read) { r.Creator = c.Department("civil").Client }},
		{"MSP of another department", "not one of civil", func(r *prooftest.Read) {
			police := *c.Department("police").Client
			police.MSPID = "CivilMSP"
			r.Creator = &police
		}},
		{"MSP of nobody", "not among the trust anchors", func(r *prooftest.Read) {
			police := *c.Department("police").Client
			police.MSPID = "OtherMSP"
			r.Creator = &police
		}},
		{"transaction ID", "transaction ID", func(r *prooftest.Read) { r.TxID = strings.Repeat("0", 64) }},
		{"no nonce", "no nonce", func(r *prooftest.Read) { r.Nonce = nil }},
		{"function", "argument 0", func(r *prooftest.Read) { r.Args[0] = []byte("governance:RegisterDepartment") }},
		{"function in other letters", "argument 0", func(r *prooftest.Read) { r.Args[0] = []byte("catalog:review") }},
		{"argument", "its argument", func(r *prooftest.Read) {
			r.Args[1] = bytes.Replace(r.Args[1], []byte("approve"), []byte("refuse"), 1)
		}},
		{"argument beside", "not what it names", func(r *prooftest.Read) {
			r.Transient = []prooftest.Transient{{Name: domain.TransientArgument, Value: []byte(signedArgument)}}
		}},
		{"reference without argument", "its argument", func(r *prooftest.Read) { r.Args[1] = domain.ArgumentReference([]byte(signedArgument)) }},
		{"other transient data", "more than the argument", func(r *prooftest.Read) {
			r.Transient = []prooftest.Transient{{Name: "other", Value: []byte("x")}}
		}},
		{"operation", "argument 2", func(r *prooftest.Read) { r.Args[2] = []byte(strings.Repeat("f", 32)) }},
		{"no operation", "2 arguments", func(r *prooftest.Read) { r.Args = r.Args[:2] }},
		{"a fourth argument", "4 arguments", func(r *prooftest.Read) { r.Args = append(r.Args, []byte("x")) }},
		{"too early", "away from this clock", func(r *prooftest.Read) { r.Time = r.Time.Add(-time.Hour) }},
		{"too late", "away from this clock", func(r *prooftest.Read) { r.Time = r.Time.Add(time.Hour) }},
		{"unknown field", "not allowed", func(r *prooftest.Read) {
			r.Edit = map[prooftest.Message]func([]byte) []byte{prooftest.ChannelHeader: func(b []byte) []byte { return append(b, 0x7a, 1, 'x') }}
		}},
		{"bytes behind", "proposal", func(r *prooftest.Read) {
			r.Edit = map[prooftest.Message]func([]byte) []byte{prooftest.Proposal: func(b []byte) []byte { return append(b, 0) }}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := writing(c, signedArgument)
			tt.change(r)
			_, err := f.CheckProposal(r.ProposalBytes(), intent(c, signedArgument))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	t.Run("certificate out of force", func(t *testing.T) {
		r, late := writing(c, signedArgument), intent(c, signedArgument)
		late.Now = prooftest.NotAfter.Add(time.Hour)
		r.Time = late.Now
		if _, err := f.CheckProposal(r.ProposalBytes(), late); err == nil || !strings.Contains(err.Error(), "not one of police") {
			t.Errorf("got %v", err)
		}
	})
}

// TestForeignTransaction has a gateway ask for a signature under a transaction that is
// not what departments answered to the proposal.
func TestForeignTransaction(t *testing.T) {
	c := prooftest.New()
	edit := func(m prooftest.Message, change func([]byte) []byte) func(*prooftest.Read) {
		return func(r *prooftest.Read) { r.Edit = map[prooftest.Message]func([]byte) []byte{m: change} }
	}
	appended := func(tail ...byte) func([]byte) []byte { return func(b []byte) []byte { return append(b, tail...) } }
	for _, tt := range []struct {
		name, want string
		change     func(*prooftest.Read)
	}{
		{"other arguments", "something else", func(r *prooftest.Read) { r.Args[1] = []byte(`{}`) }},
		{"another proposal's header", "headers", func(r *prooftest.Read) { r.Nonce = []byte("another nonce of a proposal.") }},
		{"another time", "headers", func(r *prooftest.Read) { r.Time = r.Time.Add(time.Second) }},
		{"an answer to another proposal", "another proposal", func(r *prooftest.Read) { r.ProposalHash = bytes.Repeat([]byte{1}, 32) }},
		{"another chaincode's answer", "another chaincode", func(r *prooftest.Read) { r.AnswerChaincode = "other" }},
		{"a refusal", "a refusal", func(r *prooftest.Read) { r.Status = 500 }},
		{"writes of another chaincode", "not this chaincode's", func(r *prooftest.Read) { r.Namespaces[0].Writes = r.Namespaces[1].Writes }},
		{"private data", "not this chaincode's", func(r *prooftest.Read) { r.Namespaces[1].Collections = [][]byte{{0x0a, 1, 'c'}} }},
		{"nobody's answer", "no department signed", func(r *prooftest.Read) { r.Signers = nil }},
		{"one department's answer twice", "each department once", func(r *prooftest.Read) { r.Signers = append(r.Signers, r.Signers[0]) }},
		{"signed by no peer", "not a peer's", func(r *prooftest.Read) { r.Signers[0] = c.Department("bigdata").Client }},
		{"signed by a stranger", "not among the trust anchors", func(r *prooftest.Read) {
			r.Signers[0] = prooftest.NewDepartment("other", "OtherMSP", "甲", "A", "11990000000000001").Peer
		}},
		{"another answer signed", "does not hold", func(r *prooftest.Read) {
			r.EditSignature = func(int, []byte) []byte { return r.Signers[0].Sign([]byte("another answer")) }
		}},
		{"two actions", "2 actions", edit(prooftest.Transaction, func(b []byte) []byte { return slices.Concat(b, b) })},
		{"no action", "0 actions", edit(prooftest.Transaction, func([]byte) []byte { return nil })},
		{"unknown field of the payload", "not allowed", edit(prooftest.EnvelopePayload, appended(0x1a, 1, 'x'))},
		{"unknown field of the action", "not allowed", edit(prooftest.ChaincodeActionPayload, appended(0x1a, 1, 'x'))},
		{"bytes behind", "endorsed action", edit(prooftest.ChaincodeEndorsedAction, appended(0))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := verifier(t, c).CheckProposal(writing(c, signedArgument).ProposalBytes(), intent(c, signedArgument))
			if err != nil {
				t.Fatal(err)
			}
			r := writing(c, signedArgument)
			tt.change(r)
			if _, err := p.CheckTransaction(r.TransactionBytes()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestEveryByteSigned changes every byte of what is to be signed. A proposal's nonce is
// the gateway's to choose, and with it the transaction ID: changed together they make
// another good proposal, one of them alone does not.
func TestEveryByteSigned(t *testing.T) {
	c := prooftest.New()
	f, r := verifier(t, c), writing(c, signedArgument)
	p, err := f.CheckProposal(r.ProposalBytes(), intent(c, signedArgument))
	if err != nil {
		t.Fatal(err)
	}
	transaction := r.TransactionBytes()
	for i := range transaction {
		changed := slices.Clone(transaction)
		changed[i] ^= 1
		if _, err := p.CheckTransaction(changed); err == nil {
			t.Errorf("byte %d of %d of the transaction may be another", i, len(transaction))
		}
	}
	// Times within the leeway are the gateway's to choose.
	timestamp := bytes.Index(r.ProposalBytes(), []byte{0x1a, 0x0b, 0x08})
	for i := range r.ProposalBytes() {
		if i >= timestamp && i < timestamp+13 {
			continue
		}
		changed := r.ProposalBytes()
		changed[i] ^= 1
		if _, err := f.CheckProposal(changed, intent(c, signedArgument)); err == nil {
			t.Errorf("byte %d of %d of the proposal may be another", i, len(changed))
		}
	}
}

func TestCheckSignature(t *testing.T) {
	c := prooftest.New()
	client, message := c.Department("police").Client, []byte("what is signed")
	good := client.Sign(message)
	if err := proof.CheckSignature(client.Cert, message, good); err != nil {
		t.Fatal(err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(good, &rs); err != nil {
		t.Fatal(err)
	}
	rs.S.Sub(elliptic.P256().Params().N, rs.S)
	high, err := asn1.Marshal(rs)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(message)
	if key := client.Cert.PublicKey.(*ecdsa.PublicKey); !ecdsa.VerifyASN1(key, sum[:], high) {
		t.Fatal("the other signature does not hold: the case tests nothing")
	}
	for _, tt := range []struct {
		name      string
		cert      *x509.Certificate
		message   []byte
		signature []byte
	}{
		{"high S", client.Cert, message, high},
		{"another message", client.Cert, []byte("another"), good},
		{"another key", c.Department("police").Admin.Cert, message, good},
		{"bytes behind", client.Cert, message, append(slices.Clone(good), 0)},
		{"none", client.Cert, message, nil},
		{"R and S alone", client.Cert, message, append(rs.R.Bytes(), rs.S.Bytes()...)},
	} {
		if err := proof.CheckSignature(tt.cert, tt.message, tt.signature); err == nil {
			t.Errorf("%s: holds", tt.name)
		}
	}
}
