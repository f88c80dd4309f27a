package proof_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

var update = flag.Bool("update", false, "write the vectors again")

const vectorDir = "testdata/vectors"

// expectations are all that a vector may expect.
var expectations = map[string]proof.Overall{
	"valid":         proof.Valid,
	"not_yet_valid": proof.NotYetValid,
	"suspended":     proof.Suspended,
	"revoked":       proof.Revoked,
	"withdrawn":     proof.Withdrawn,
	"cancelled":     proof.Cancelled,
	"superseded":    proof.Superseded,
	"expired":       proof.Expired,
	"recorded":      proof.Recorded,
	"not_found":     proof.NotFound,
	"bad_proof":     proof.BadProof,
	"cannot_check":  proof.CannotCheck,
}

// vector is a published test vector: what a verifier must answer to the bundle
// in the file of the same name that ends in .zlproof.
type vector struct {
	Comment  string         `json:"comment"`
	Expect   string         `json:"expect"`   // a key of expectations
	Question proof.Question `json:"question"` // the one that fails; "" when none does
	At       string         `json:"at"`       // RFC 3339; "" when freshness is not asked
	StatusAt string         `json:"statusAt"` // RFC 3339; "" when the status at another time is not asked
	Nonce    string         `json:"nonce"`    // "" when the verifier chose none
	Trust    string         `json:"trust"`    // the trust file's name in testdata/trust
	Policy   *vectorPolicy  `json:"policy,omitempty"`
}

// vectorPolicy is a [proof.Policy] as JSON.
type vectorPolicy struct {
	Quorum      int                     `json:"quorum"`
	Departments []domain.DepartmentCode `json:"departments"`
	Issuer      proof.IssuerRule        `json:"issuer"`
}

const trustDir = "testdata/trust"

// recipe says how a vector is made.
type recipe struct {
	name     string
	comment  string
	expect   string
	question proof.Question
	read     func(*prooftest.Consortium) *prooftest.Read  // nil: a valid certificate
	change   func(*prooftest.Consortium, *prooftest.Read) // before signing
	bundle   func(*proof.Bundle)                          // after signing
	file     func([]byte) []byte                          // after encoding
	trust    func(*prooftest.Consortium, *proof.Anchors)  // before encoding
	recorded bool                                         // under the anchors of the recorded network
	at       time.Time
	statusAt time.Time
	nonce    string
	policy   *vectorPolicy
}

// make returns the files of a vector and its trust file.
func (r recipe) make(t *testing.T) (v vector, bundleFile, trustFile []byte) {
	t.Helper()
	c := prooftest.New()
	read := validRead(c)
	if r.read != nil {
		read = r.read(c)
	}
	if r.change != nil {
		r.change(c, read)
	}
	bundle := read.Bundle()
	if r.bundle != nil {
		r.bundle(&bundle)
	}
	file, err := domain.Canonical(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if r.file != nil {
		file = r.file(file)
	}
	anchors := c.Anchors()
	if r.trust != nil {
		r.trust(c, anchors)
	}
	trust, err := domain.Canonical(anchors)
	if err != nil {
		t.Fatal(err)
	}
	v = vector{Comment: r.comment, Expect: r.expect, Question: r.question, Nonce: r.nonce, Trust: "consortium.json", Policy: r.policy}
	if r.trust != nil {
		v.Trust = r.name + ".json"
	}
	if r.recorded {
		v.Trust, trust = "recorded.json", recordedFile("consortium.json")
	}
	if !r.at.IsZero() {
		v.At = r.at.Format(time.RFC3339Nano)
	}
	if !r.statusAt.IsZero() {
		v.StatusAt = r.statusAt.Format(time.RFC3339Nano)
	}
	return v, file, trust
}

func validRead(c *prooftest.Consortium) *prooftest.Read {
	return c.AttestCertificate(c.Certificate(), domain.CertificateValid)
}

// with returns the read of the certificate after a change to it.
func with(status domain.CertificateStatus, change func(*domain.Certificate)) func(*prooftest.Consortium) *prooftest.Read {
	return func(c *prooftest.Consortium) *prooftest.Read {
		cert := c.Certificate()
		change(&cert)
		return c.AttestCertificate(cert, status)
	}
}

// statement returns a change to the statement that is signed, without a change
// to the question.
func statement(change func(*domain.Statement)) func(*prooftest.Consortium, *prooftest.Read) {
	return func(_ *prooftest.Consortium, r *prooftest.Read) {
		var s domain.Statement
		if err := json.Unmarshal(r.Payload, &s); err != nil {
			panic(err)
		}
		change(&s)
		payload, err := domain.Canonical(s)
		if err != nil {
			panic(err)
		}
		r.Payload = payload
	}
}

// signer returns a change that puts another identity in the place of the police
// department's peer, the last signer.
func signer(choose func(*prooftest.Consortium) *prooftest.Identity) func(*prooftest.Consortium, *prooftest.Read) {
	return func(c *prooftest.Consortium, r *prooftest.Read) {
		r.Signers[len(r.Signers)-1] = choose(c)
	}
}

// edit returns a change to the bytes of one protobuf message, made before
// hashes and signatures so that these hold.
func edit(name prooftest.Message, change func([]byte) []byte) func(*prooftest.Consortium, *prooftest.Read) {
	return func(_ *prooftest.Consortium, r *prooftest.Read) {
		r.Edit = map[prooftest.Message]func([]byte) []byte{name: change}
	}
}

func unknownField(data []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(data, 99, protowire.BytesType), []byte("x"))
}

// repeatLast writes the last field of a message twice.
func repeatLast(data []byte) []byte {
	fields := splitFields(data)
	return append(data, fields[len(fields)-1]...)
}

// reverseFields writes the fields of a message in descending order.
func reverseFields(data []byte) []byte {
	fields := splitFields(data)
	slices.Reverse(fields)
	return bytes.Join(fields, nil)
}

// longTag writes the first tag of a message with one byte too many.
func longTag(data []byte) []byte {
	return append([]byte{data[0] | 0x80, 0x00}, data[1:]...)
}

func splitFields(data []byte) [][]byte {
	var out [][]byte
	for len(data) > 0 {
		_, _, n := protowire.ConsumeField(data)
		if n < 0 {
			panic("not a message")
		}
		out = append(out, data[:n])
		data = data[n:]
	}
	return out
}

// replace returns a change to the text of a file that must occur in it.
func replace(old, to string) func([]byte) []byte {
	return func(data []byte) []byte {
		if !bytes.Contains(data, []byte(old)) {
			panic("nothing to replace")
		}
		return bytes.Replace(data, []byte(old), []byte(to), 1)
	}
}

func namespace(change func(*prooftest.Namespace)) func(*prooftest.Consortium, *prooftest.Read) {
	return func(_ *prooftest.Consortium, r *prooftest.Read) { change(&r.Namespaces[1]) }
}

var epoch = prooftest.Epoch

// positive are the bundles that hold.
var positive = []recipe{
	{name: "valid-four-of-four", comment: "a valid certificate, signed by every department", expect: "valid"},
	{
		name: "valid-three-of-four", comment: "one department did not answer; three are enough", expect: "valid",
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Signers = r.Signers[1:] },
	},
	{name: "valid-fresh", comment: "asked with a nonce, judged at the moment of the statement", expect: "valid", at: epoch, nonce: prooftest.Nonce},
	{name: "valid-last-moment", comment: "judged at the end of the statement's life", expect: "valid", at: epoch.Add(domain.StatementLife)},
	{name: "valid-slow-clock", comment: "the verifier's clock lags by five minutes", expect: "valid", at: epoch.Add(-5 * time.Minute)},
	{
		name: "valid-range-query", comment: "a range query among the reads is harmless", expect: "valid",
		change: namespace(func(ns *prooftest.Namespace) {
			ns.RangeQueries = [][]byte{{0x0a, 0x01, 'a', 0x12, 0x01, 'b', 0x18, 0x01, 0x22, 0x05, 0x0a, 0x03, 0x0a, 0x01, 'a'}}
		}),
	},
	{
		name: "valid-genesis-version", comment: "a key written by the first transaction of block 0 has an empty version message", expect: "valid",
		change: namespace(func(ns *prooftest.Namespace) { ns.Reads[0].Block, ns.Reads[0].Tx = 0, 0 }),
	},
	{
		name: "revoked", comment: "a revoked certificate", expect: "revoked",
		read: func(c *prooftest.Consortium) *prooftest.Read {
			return c.AttestCertificate(c.Revoked(), domain.CertificateRevoked)
		},
	},
	{
		name: "revoked-outlasts-expiry", comment: "revoked stays revoked after the validity period", expect: "revoked",
		read: func(c *prooftest.Consortium) *prooftest.Read {
			cert := c.Revoked()
			cert.Content.Validity.To = epoch.Add(-time.Hour)
			return c.AttestCertificate(cert, domain.CertificateRevoked)
		},
	},
	{
		name: "expired", comment: "the validity period is over", expect: "expired",
		read: with(domain.CertificateExpired, func(cert *domain.Certificate) { cert.Content.Validity.To = epoch.Add(-time.Second) }),
	},
	{
		name: "expired-since", comment: "the validity period ended between the statement and the verifier's present", expect: "expired",
		read: with(domain.CertificateValid, func(cert *domain.Certificate) { cert.Content.Validity.To = epoch.Add(time.Hour) }), at: epoch.Add(2 * time.Hour),
	},
	{
		name: "not-yet-valid", comment: "the validity period has not begun", expect: "not_yet_valid",
		read: with(domain.CertificateNotYetValid, func(cert *domain.Certificate) { cert.Content.Validity.From = epoch.Add(48 * time.Hour) }),
	},
	{name: "recorded", comment: "a record without a status", expect: "recorded", read: (*prooftest.Consortium).AttestDepartment},
	{name: "not-found", comment: "the ledger has no such certificate, and departments say so", expect: "not_found", read: (*prooftest.Consortium).AttestNothing},
	{
		name: "old-peer-certificate", comment: "a peer's certificate that ran out after it signed", expect: "valid", at: epoch,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			return c.Department("police").Authority.IssueAs("old peer", func(cert *x509.Certificate) {
				cert.Subject.OrganizationalUnit = []string{"peer"}
				cert.NotAfter = epoch.Truncate(time.Second).Add(time.Second)
			})
		}),
	},
}

// negative are the bundles that do not hold, or of which nothing can be said.
var negative = []recipe{
	// Quorum: who signed.
	{
		name: "too-few-departments", comment: "two of four", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Signers = r.Signers[:2] },
	},
	{
		name: "same-department-twice", comment: "two peers of one department count once, and are surplus", expect: "bad_proof", question: proof.Quorum,
		change: func(c *prooftest.Consortium, r *prooftest.Read) {
			r.Signers = append(r.Signers, c.Department("police").Authority.Issue("second peer", "peer"))
		},
	},
	{
		name: "same-endorsement-twice", comment: "an endorsement is repeated", expect: "bad_proof", question: proof.Quorum,
		bundle: func(b *proof.Bundle) { b.Read.Endorsements = append(b.Read.Endorsements, b.Read.Endorsements[3]) },
	},
	{
		name: "unsorted-signers", comment: "endorsements in another order", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { slices.Reverse(r.Signers) },
	},
	{
		name: "client-signer", comment: "a client's certificate signs in place of a peer", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity { return c.Department("police").Client }),
	},
	{
		name: "admin-signer", comment: "an administrator's certificate signs", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity { return c.Department("police").Admin }),
	},
	{
		name: "orderer-signer", comment: "an orderer's certificate signs", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity { return c.Department("police").Orderer }),
	},
	{
		name: "two-roles-signer", comment: "a certificate that is peer and client at once", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			return c.Department("police").Authority.Issue("both", "peer", "client")
		}),
	},
	{
		name: "twice-peer-signer", comment: "a certificate with the peer's role twice, which Fabric refuses", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			return c.Department("police").Authority.Issue("twice", "peer", "peer")
		}),
	},
	{
		name: "no-role-signer", comment: "a certificate without a role", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			return c.Department("police").Authority.Issue("none")
		}),
	},
	{
		name: "capital-role-signer", comment: "Peer is not peer", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			return c.Department("police").Authority.Issue("capital", "Peer")
		}),
	},
	{
		name: "authority-signer", comment: "a peer's certificate that is an authority", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			return c.Department("police").Authority.IssueAs("authority", func(cert *x509.Certificate) {
				cert.Subject.OrganizationalUnit = []string{"peer"}
				cert.IsCA, cert.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
			})
		}),
	},
	{
		name: "root-signer", comment: "the department's authority signs itself", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity { return c.Department("police").Authority }),
	},
	{
		name: "stranger-authority", comment: "a peer's certificate by an authority of the same name with another key", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(*prooftest.Consortium) *prooftest.Identity {
			stranger := prooftest.NewAuthority("stranger", "PoliceMSP")
			return stranger.Issue("peer", "peer")
		}),
	},
	{
		name: "other-departments-authority", comment: "another department's peer under this department's MSP ID", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			peer := *c.Department("civil").Peer
			peer.MSPID = "PoliceMSP"
			return &peer
		}),
	},
	{
		name: "unknown-msp", comment: "an MSP that is not among the anchors", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.Signers = append(r.Signers, prooftest.NewAuthority("tax", "TaxMSP").Issue("peer", "peer"))
		},
	},
	{
		name: "intermediate-authority", comment: "a certificate by an authority that the root certified; chains through bundles are not accepted", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			intermediate := c.Department("police").Authority.IssueAs("intermediate", func(cert *x509.Certificate) {
				cert.IsCA, cert.KeyUsage = true, x509.KeyUsageCertSign
			})
			return intermediate.Issue("peer", "peer")
		}),
	},
	{
		name: "expired-signer", comment: "a peer's certificate that had run out when the statement was made", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			return c.Department("police").Authority.IssueAs("expired", func(cert *x509.Certificate) {
				cert.Subject.OrganizationalUnit = []string{"peer"}
				cert.NotAfter = epoch.Truncate(time.Second)
			})
		}),
	},
	{
		name: "future-signer", comment: "a peer's certificate that was not yet in force", expect: "bad_proof", question: proof.Quorum,
		change: signer(func(c *prooftest.Consortium) *prooftest.Identity {
			return c.Department("police").Authority.IssueAs("future", func(cert *x509.Certificate) {
				cert.Subject.OrganizationalUnit = []string{"peer"}
				cert.NotBefore = epoch.Add(time.Second)
			})
		}),
	},
	{
		name: "high-s", comment: "the twin of one signature", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.EditSignature = func(i int, der []byte) []byte {
				if i == 3 {
					return prooftest.HighS(der)
				}
				return der
			}
		},
	},
	{
		name: "signature-trailing-byte", comment: "a byte behind a signature", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.EditSignature = func(_ int, der []byte) []byte { return append(der, 0) }
		},
	},
	{
		name: "signature-long-length", comment: "a signature with its length in two bytes", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.EditSignature = func(_ int, der []byte) []byte {
				return slices.Concat(der[:1], []byte{0x81}, der[1:])
			}
		},
	},
	{
		name: "signature-zero", comment: "r and s are zero", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.EditSignature = func(int, []byte) []byte { return []byte{0x30, 6, 2, 1, 0, 2, 1, 0} }
		},
	},
	{
		name: "signatures-swapped", comment: "two departments' signatures change places", expect: "bad_proof", question: proof.Quorum,
		bundle: func(b *proof.Bundle) {
			e := b.Read.Endorsements
			e[0].Signature, e[1].Signature = e[1].Signature, e[0].Signature
		},
	},
	{
		name: "endorser-unknown-field", comment: "an endorser with a field that Fabric does not know, signed", expect: "bad_proof", question: proof.Quorum,
		change: edit(prooftest.Endorser, unknownField),
	},
	{
		name: "endorser-pem-garbage", comment: "a line before an endorser's PEM block, signed", expect: "bad_proof", question: proof.Quorum,
		change: edit(prooftest.Endorser, func(data []byte) []byte {
			fields := splitFields(data)
			_, _, tag := protowire.ConsumeTag(fields[1])
			pem, _ := protowire.ConsumeBytes(fields[1][tag:])
			return protowire.AppendBytes(append(slices.Clone(fields[0]), fields[1][:tag]...), append([]byte("garbage\n"), pem...))
		}),
	},

	// Scope: what was asked and answered.
	{
		name: "other-channel-proposal", comment: "a proposal for another channel", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Channel = "other" },
	},
	{
		name: "other-channel-anchors", comment: "a whole consortium's proof, judged under the anchors of another channel", expect: "bad_proof", question: proof.Scope,
		trust: func(_ *prooftest.Consortium, a *proof.Anchors) { a.Channel = "other" },
	},
	{
		name: "other-channel-statement", comment: "a statement about another channel", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) { s.Channel = "other" }),
	},
	{
		name: "other-chaincode-header", comment: "the channel header names another chaincode", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.HeaderChaincode = "other" },
	},
	{
		name: "other-chaincode-invoked", comment: "another chaincode is invoked", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Chaincode = "other" },
	},
	{
		name: "other-chaincode-answered", comment: "another chaincode answers", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.AnswerChaincode = "other" },
	},
	{
		name: "other-chaincode-version", comment: "a chaincode version that is not accepted", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Version = "0.9" },
	},
	{
		name: "no-chaincode-version", comment: "an answer without a chaincode version", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Version = "" },
	},
	{
		name: "header-type-config", comment: "not an endorser transaction", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.HeaderType = 1 },
	},
	{
		name: "header-type-overflow", comment: "a header type that a 32-bit reader takes for an endorser transaction", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.HeaderType = 1<<32 + 3 },
	},
	{
		name: "other-function", comment: "another transaction", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Args[0] = []byte("certificate:Get") },
	},
	{
		name: "lower-case-function", comment: "a second spelling that the contract library accepts", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Args[0] = []byte("evidence:attest") },
	},
	{
		name: "two-arguments", comment: "a second argument", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Args = append(r.Args, []byte("x")) },
	},
	{
		name: "no-argument", comment: "no argument", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Args = r.Args[:1] },
	},
	{
		name: "argument-not-canonical", comment: "a space in the argument", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.Args[1] = bytes.Replace(r.Args[1], []byte(","), []byte(", "), 1)
		},
	},
	{
		name: "asked-for-another-record", comment: "the question was about another certificate", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.Args[1] = bytes.Replace(r.Args[1], []byte(prooftest.Ref), []byte(strings.Repeat("0", 32)), 1)
		},
	},
	{
		name: "asked-for-another-kind", comment: "the question was about a grant", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.Args[1] = bytes.Replace(r.Args[1], []byte(`"certificate"`), []byte(`"grant"`), 1)
		},
	},
	{
		name: "nonce-not-echoed", comment: "the statement's nonce is not the argument's", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) { s.Nonce = strings.Repeat("f", 32) }),
	},
	{
		name: "nonce-short", comment: "a nonce of 31 digits", expect: "bad_proof", question: proof.Scope,
		read: func(c *prooftest.Consortium) *prooftest.Read {
			return c.Attest(c.Statement(domain.KindCertificate, prooftest.Ref, prooftest.Nonce[:31], nil, ""))
		},
	},
	{
		name: "status-500", comment: "an error, although signed", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Status = 500 },
	},
	{
		name: "status-201", comment: "not a plain success", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Status = 201 },
	},
	{
		name: "message", comment: "a message beside the payload", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Message = "ok" },
	},
	{
		name: "event", comment: "an event was set", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Events = []byte{0x0a, 0x01, 'x'} },
	},
	{
		name: "write", comment: "the transaction wrote a value", expect: "bad_proof", question: proof.Scope,
		change: namespace(func(ns *prooftest.Namespace) { ns.Writes = [][]byte{{0x0a, 0x01, 'k', 0x1a, 0x01, 'v'}} }),
	},
	{
		name: "metadata-write", comment: "the transaction changed a key's endorsement policy", expect: "bad_proof", question: proof.Scope,
		change: namespace(func(ns *prooftest.Namespace) { ns.MetadataWrites = [][]byte{{0x0a, 0x01, 'k'}} }),
	},
	{
		name: "write-elsewhere", comment: "a write in the lifecycle's namespace", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.Namespaces[0].Writes = [][]byte{{0x0a, 0x01, 'k', 0x1a, 0x01, 'v'}}
		},
	},
	{
		name: "private-data", comment: "the transaction touched a private data collection", expect: "bad_proof", question: proof.Scope,
		change: namespace(func(ns *prooftest.Namespace) { ns.Collections = [][]byte{{0x0a, 0x01, 'c'}} }),
	},
	{
		name: "foreign-namespace", comment: "the transaction read another chaincode's state", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.Namespaces = append(r.Namespaces, prooftest.Namespace{Name: "other", Reads: []prooftest.KeyRead{{Key: "k"}}})
		},
	},
	{
		name: "statement-not-canonical", comment: "a statement with the status twice, the first time in capitals", expect: "bad_proof", question: proof.Scope,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			r.Payload = bytes.Replace(r.Payload, []byte(`"status":"valid"`), []byte(`"STATUS":"revoked","status":"valid"`), 1)
		},
	},
	{
		name: "statement-other-schema", comment: "a statement in another schema", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) { s.Schema = "zhenglian/statement/2" }),
	},
	{
		name: "statement-early", comment: "a statement that claims an earlier time than the transaction's", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) { s.AsOf = s.AsOf.Add(-time.Millisecond) }),
	},
	{
		name: "statement-other-zone", comment: "the same instant in another time zone", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) { s.AsOf = s.AsOf.In(time.FixedZone("", 8*3600)) }),
	},
	{
		name: "statement-long-life", comment: "a statement that speaks for a year", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) { s.ValidUntil = s.ValidUntil.AddDate(1, 0, 0) }),
	},
	{
		name: "not-found-with-record", comment: "not found, and yet a record", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) { s.Found = false }),
	},
	{
		name: "other-record", comment: "the record of another certificate", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) {
			var cert domain.Certificate
			if err := json.Unmarshal([]byte(s.Record), &cert); err != nil {
				panic(err)
			}
			cert.Content.Ref = strings.Repeat("0", 32)
			s.Record = string(prooftest.Seal(&cert, &cert.Meta))
		}),
	},
	{
		name: "record-digest", comment: "a record that does not match its digest", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) { s.Record = strings.Replace(s.Record, "Sample permit", "Sample licence", 1) }),
	},
	{
		name: "status-not-from-record", comment: "valid is stated of a revoked certificate", expect: "bad_proof", question: proof.Scope,
		read: func(c *prooftest.Consortium) *prooftest.Read {
			return c.AttestCertificate(c.Revoked(), domain.CertificateValid)
		},
	},
	{
		name: "status-not-from-period", comment: "valid is stated of an expired certificate", expect: "bad_proof", question: proof.Scope,
		read: with(domain.CertificateValid, func(cert *domain.Certificate) { cert.Content.Validity.To = epoch.Add(-time.Second) }),
	},

	{
		name: "record-other-zone", comment: "a record that spells a time in another time zone", expect: "bad_proof", question: proof.Scope,
		read: with(domain.CertificateValid, func(cert *domain.Certificate) {
			cert.Content.IssuedAt = cert.Content.IssuedAt.In(time.FixedZone("", 8*3600))
		}),
	},
	{
		name: "record-of-another-kind", comment: "a department's record under the name of a certificate", expect: "cannot_check",
		change: statement(func(s *domain.Statement) {
			var other domain.Statement
			if err := json.Unmarshal(prooftest.New().AttestDepartment().Payload, &other); err != nil {
				panic(err)
			}
			s.Record, s.Status = other.Record, ""
		}),
	},
	{
		name: "suspended-as-valid", comment: "valid is stated of a suspended certificate", expect: "bad_proof", question: proof.Scope,
		read: changed(domain.CertificateSuspended, domain.CertificateValid),
	},
	{
		name: "withdrawn-as-revoked", comment: "吊销 is not 撤销", expect: "bad_proof", question: proof.Scope,
		read: changed(domain.CertificateWithdrawn, domain.CertificateRevoked),
	},
	{
		name: "proposed-as-valid", comment: "valid is stated of a certificate that nobody approved", expect: "bad_proof", question: proof.Scope,
		read: func(c *prooftest.Consortium) *prooftest.Read {
			return c.AttestCertificate(c.Proposed(), domain.CertificateValid)
		},
	},
	{
		name: "status-beside-changes", comment: "a record whose status is not that of its changes", expect: "bad_proof", question: proof.Scope,
		read: func(c *prooftest.Consortium) *prooftest.Read {
			cert := c.Revoked()
			cert.Status = domain.CertificateValid
			return c.AttestCertificate(cert, domain.CertificateValid)
		},
	},
	{
		name: "unknown-status", comment: "a status that no release has", expect: "cannot_check",
		read: changed("archived", "archived"),
	},
	{
		name: "empty-successor", comment: "a field that is left out when empty, spelled out", expect: "bad_proof", question: proof.Scope,
		change: statement(func(s *domain.Statement) {
			s.Record = strings.Replace(s.Record, `"opinion":`, `"successor":"","opinion":`, 1)
			digest := regexp.MustCompile(`"digest":"[0-9a-f]{64}"`)
			s.Record = digest.ReplaceAllString(s.Record, `"digest":""`)
			s.Record = strings.Replace(s.Record, `"digest":""`, `"digest":"`+domain.Digest([]byte(s.Record))+`"`, 1)
		}),
	},
	{
		name: "request-not-overdue", comment: "accepted is stated of a request whose time limit has passed", expect: "bad_proof", question: proof.Scope,
		read: request(domain.RequestAccepted, epoch.Add(-time.Hour), domain.RequestAccepted),
	},
	{
		name: "grant-revoked-as-active", comment: "active is stated of a revoked grant", expect: "bad_proof", question: proof.Scope,
		read: grant(domain.GrantRevoked, domain.GrantActive),
	},

	// Quorum: who has revoked whom, and what the verifier demands.
	{
		name: "revoked-signer", comment: "a signer that its authority had revoked a second before", expect: "bad_proof", question: proof.Quorum,
		trust: crl("police", func(d *prooftest.Department) string {
			return d.Authority.CRL(map[*prooftest.Identity]time.Time{d.Peer: epoch.Add(-time.Second)}, nil)
		}),
	},
	{
		name: "revoked-signer-one-of-two-lists", comment: "the second of two lists has the signer", expect: "bad_proof", question: proof.Quorum,
		trust: func(c *prooftest.Consortium, a *proof.Anchors) {
			d := c.Department("police")
			a.Departments[3].CRLs = []string{
				d.Authority.CRL(map[*prooftest.Identity]time.Time{d.Peer: epoch.Add(time.Hour)}, nil),
				d.Authority.CRL(map[*prooftest.Identity]time.Time{d.Client: epoch, d.Peer: epoch.Add(-time.Hour)}, nil),
			}
		},
	},
	{
		name: "policy-quorum", comment: "the verifier demands four signatures, there are three", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Signers = r.Signers[1:] }, policy: &vectorPolicy{Quorum: 4},
	},
	{
		name: "policy-cannot-lower", comment: "a policy of one does not lower the quorum of the anchors", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Signers = r.Signers[2:] }, policy: &vectorPolicy{Quorum: 1},
	},
	{
		name: "policy-department", comment: "the verifier demands a department that did not sign", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Signers = r.Signers[1:] },
		policy: &vectorPolicy{Departments: []domain.DepartmentCode{"civil", "bigdata"}},
	},
	{
		name: "policy-issuer-included", comment: "the verifier demands the issuer's signature, the others signed", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Signers = r.Signers[:3] }, policy: &vectorPolicy{Issuer: proof.IssuerIncluded},
	},
	{
		name: "policy-issuer-excluded", comment: "the issuer's signature does not count, two others signed", expect: "bad_proof", question: proof.Quorum,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Signers = r.Signers[1:] }, policy: &vectorPolicy{Issuer: proof.IssuerExcluded},
	},
	{
		name: "policy-issuer-of-nothing", comment: "the verifier demands the issuer's signature on the answer that there is no record", expect: "bad_proof", question: proof.Quorum,
		read: (*prooftest.Consortium).AttestNothing, policy: &vectorPolicy{Issuer: proof.IssuerIncluded},
	},
	{name: "policy-stranger", comment: "the verifier demands a department that there is not", expect: "cannot_check", policy: &vectorPolicy{Departments: []domain.DepartmentCode{"tax"}}},
	{name: "policy-too-many", comment: "the verifier demands more departments than there are", expect: "cannot_check", policy: &vectorPolicy{Quorum: 5}},
	{name: "policy-unknown-rule", comment: "the verifier has a rule for the issuer that there is not", expect: "cannot_check", policy: &vectorPolicy{Issuer: "excludes"}},

	// Integrity: form and hashes.
	{
		name: "other-proposal-hash", comment: "the answer belongs to another proposal", expect: "bad_proof", question: proof.Integrity,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.ProposalHash = make([]byte, 32) },
	},
	{
		name: "other-transaction-id", comment: "the transaction ID is not that of nonce and creator", expect: "bad_proof", question: proof.Integrity,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.TxID = strings.Repeat("0", 64) },
	},
	{
		name: "proposal-swapped", comment: "the proposal of another question", expect: "bad_proof", question: proof.Integrity,
		bundle: func(b *proof.Bundle) {
			b.Read.Proposal = prooftest.New().AttestDepartment().Bundle().Read.Proposal
		},
	},
	{
		name: "no-nonce", comment: "a signature header without a nonce", expect: "bad_proof", question: proof.Integrity,
		change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Nonce = nil },
	},
	{
		name: "transient-data", comment: "a proposal with a transient map, which its hash does not cover", expect: "bad_proof", question: proof.Integrity,
		change: edit(prooftest.ChaincodeProposalPayload, func(data []byte) []byte {
			return protowire.AppendBytes(protowire.AppendTag(data, 2, protowire.BytesType), []byte{0x0a, 0x01, 'k', 0x12, 0x01, 'v'})
		}),
	},
	{name: "capital-key", comment: "a key in capitals", expect: "bad_proof", question: proof.Integrity, file: replace(`"proposal"`, `"Proposal"`)},
	{name: "unknown-key", comment: "a key that the format does not have", expect: "bad_proof", question: proof.Integrity, file: replace(`{"format"`, `{"a":1,"format"`)},
	{
		name: "repeated-key", comment: "the format twice", expect: "bad_proof", question: proof.Integrity,
		file: replace(`"read":`, `"format":"zhenglian-proof/1","read":`),
	},
	{name: "trailing-newline", comment: "a newline behind the file", expect: "bad_proof", question: proof.Integrity, file: func(b []byte) []byte { return append(b, '\n') }},
	{name: "leading-space", comment: "a space before the file", expect: "bad_proof", question: proof.Integrity, file: func(b []byte) []byte { return append([]byte(" "), b...) }},
	{
		name: "byte-order-mark", comment: "a byte order mark before the file", expect: "bad_proof", question: proof.Integrity,
		file: func(b []byte) []byte { return append([]byte("\xef\xbb\xbf"), b...) },
	},
	{name: "escaped-letter", comment: "a letter spelled as an escape", expect: "bad_proof", question: proof.Integrity, file: replace(`"proposal":"C`, `"proposal":"\u0043`)},
	{
		name: "padding-bits", comment: "unused bits of a base64 digit are set", expect: "bad_proof", question: proof.Integrity,
		bundle: func(b *proof.Bundle) { b.Read.Response = unusedBits(b.Read.Response) },
		change: func(_ *prooftest.Consortium, r *prooftest.Read) {
			for len(r.ResponseBytes())%3 == 0 {
				r.Namespaces[1].Reads = append(r.Namespaces[1].Reads, prooftest.KeyRead{Key: "k"})
			}
		},
	},
	{
		name: "padding-character", comment: "base64 with padding", expect: "bad_proof", question: proof.Integrity,
		bundle: func(b *proof.Bundle) { b.Read.Proposal += "=" },
	},
	{
		name: "base64-newline", comment: "a line break inside base64", expect: "bad_proof", question: proof.Integrity,
		bundle: func(b *proof.Bundle) { b.Read.Proposal = b.Read.Proposal[:4] + "\n" + b.Read.Proposal[4:] },
	},
	{name: "empty", comment: "an empty file", expect: "bad_proof", question: proof.Integrity, file: func([]byte) []byte { return nil }},
	{name: "null", comment: "null", expect: "bad_proof", question: proof.Integrity, file: func([]byte) []byte { return []byte("null") }},
	{
		name: "no-endorsements", comment: "no endorsements", expect: "bad_proof", question: proof.Integrity,
		bundle: func(b *proof.Bundle) { b.Read.Endorsements = []proof.Endorsement{} },
	},
	{
		name: "many-endorsements", comment: "33 endorsements", expect: "bad_proof", question: proof.Integrity,
		bundle: func(b *proof.Bundle) {
			e := b.Read.Endorsements
			for len(e) < 33 {
				e = append(e, e[0])
			}
			b.Read.Endorsements = e
		},
	},

	// Freshness.
	{name: "stale", comment: "a millisecond after the statement's life", expect: "cannot_check", question: proof.Freshness, at: epoch.Add(domain.StatementLife + time.Millisecond)},
	{name: "from-the-future", comment: "the verifier's clock lags by more than five minutes", expect: "cannot_check", question: proof.Freshness, at: epoch.Add(-5*time.Minute - time.Millisecond)},
	{name: "wrong-nonce", comment: "the answer to another asker", expect: "bad_proof", question: proof.Freshness, nonce: strings.Repeat("f", 32)},

	{
		name: "status-later-than-life", comment: "the status is asked of a time that the statement does not speak for", expect: "cannot_check", question: proof.Freshness,
		statusAt: epoch.Add(domain.StatementLife + time.Millisecond),
	},
	{
		name: "status-earlier-of-a-grant", comment: "only a certificate's record tells of earlier times", expect: "cannot_check", question: proof.Freshness,
		read: grant(domain.GrantActive, domain.GrantActive), statusAt: epoch.AddDate(0, 0, -3),
	},
	{
		name: "stale-of-an-earlier-time", comment: "an old proof, asked about the past: an act decided since may reach back", expect: "cannot_check", question: proof.Freshness,
		at: epoch.AddDate(1, 0, 0), statusAt: epoch.AddDate(0, 0, -3),
	},

	// Nothing can be said.
	{name: "unknown-format", comment: "a format of a later release", expect: "cannot_check", file: replace("zhenglian-proof/1", "zhenglian-proof/2")},
	{
		name: "unknown-record-schema", comment: "a record of a later release", expect: "cannot_check",
		change: statement(func(s *domain.Statement) {
			s.Record = strings.Replace(s.Record, "zhenglian/certificate/1", "zhenglian/certificate/2", 1)
		}),
	},
	{
		name: "anchors-minority", comment: "anchors whose quorum is no majority", expect: "cannot_check",
		trust: func(_ *prooftest.Consortium, a *proof.Anchors) { a.Quorum = 2 },
	},
	{
		name: "anchors-list-of-a-stranger", comment: "anchors with a revocation list that no authority of the department signed", expect: "cannot_check",
		trust: crl("police", func(d *prooftest.Department) string {
			return prooftest.NewAuthority("stranger", "PoliceMSP").CRL(map[*prooftest.Identity]time.Time{d.Client: epoch}, nil)
		}),
	},
	{
		name: "anchors-list-of-a-namesake", comment: "anchors with a revocation list by an authority of the same name with another key", expect: "cannot_check",
		trust: crl("police", func(d *prooftest.Department) string {
			namesake := *d.Authority
			namesake.Key = d.Client.Key
			return namesake.CRL(map[*prooftest.Identity]time.Time{d.Client: epoch}, nil)
		}),
	},
	{
		name: "anchors-list-elsewhere", comment: "anchors with a revocation list under another department", expect: "cannot_check",
		trust: func(c *prooftest.Consortium, a *proof.Anchors) {
			a.Departments[0].CRLs = []string{c.Department("police").Authority.CRL(nil, nil)}
		},
	},
	{
		name: "anchors-partial-list", comment: "anchors with a revocation list that is critically less than the whole", expect: "cannot_check",
		trust: crl("police", func(d *prooftest.Department) string {
			return d.Authority.CRL(nil, func(list *x509.RevocationList) {
				list.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0x03, 0x81, 0x01, 0xff}}}
			})
		}),
	},
	{
		name: "anchors-list-with-text", comment: "anchors with a revocation list that has a line before it", expect: "cannot_check",
		trust: crl("police", func(d *prooftest.Department) string { return "x\n" + d.Authority.CRL(nil, nil) }),
	},
	{
		name: "anchors-shared-authority", comment: "anchors in which one authority stands for two departments", expect: "cannot_check",
		trust: func(_ *prooftest.Consortium, a *proof.Anchors) { a.Departments[1].CARoots = a.Departments[0].CARoots },
	},
}

// wireRecipes break each protobuf message in each way, and sign the result.
func wireRecipes() []recipe {
	var out []recipe
	for _, message := range prooftest.Messages {
		question := proof.Integrity
		if message == prooftest.Endorser {
			question = proof.Quorum
		}
		name := strings.ToLower(strings.ReplaceAll(string(message), " ", "-"))
		for _, way := range []struct {
			name, comment string
			change        func([]byte) []byte
		}{
			{"unknown-field", "an unknown field in", unknownField},
			{"repeated-field", "the last field twice in", repeatLast},
			{"reversed-fields", "descending fields in", reverseFields},
			{"long-tag", "a tag of two bytes in", longTag},
		} {
			if way.name == "repeated-field" && repeatable[message] {
				continue // a legitimate list
			}
			if way.name == "reversed-fields" && singleField[message] {
				continue // nothing to reverse
			}
			out = append(out, recipe{
				name: "wire-" + way.name + "-" + name, comment: way.comment + " " + string(message) + ", signed",
				expect: "bad_proof", question: question, change: edit(message, way.change),
				bundle: func(b *proof.Bundle) { b.Read.Endorsements = b.Read.Endorsements[1:] }, // enough, and smaller
			})
		}
	}
	return out
}

// repeatable are the messages whose last field is a list.
var repeatable = map[prooftest.Message]bool{
	prooftest.ChaincodeInput: true, prooftest.TxReadWriteSet: true, prooftest.KVRWSet: true,
}

// singleField are the messages that hold one kind of field here.
var singleField = map[prooftest.Message]bool{
	prooftest.ChaincodeHeaderExtension: true, prooftest.ChaincodeProposalPayload: true, prooftest.ChaincodeInvocationSpec: true,
	prooftest.ChaincodeInput: true, prooftest.TxReadWriteSet: true, prooftest.KVRWSet: true,
}

// changed returns the read of the certificate after a change of its status, with
// what is stated of it.
func changed(status, stated domain.CertificateStatus) func(*prooftest.Consortium) *prooftest.Read {
	return func(c *prooftest.Consortium) *prooftest.Read {
		return c.AttestCertificate(c.Changed(c.Certificate(), status, epoch.AddDate(0, 0, -1)), stated)
	}
}

// request returns the read of a share request whose answer is due at a time.
func request(state domain.RequestState, due time.Time, stated domain.RequestState) func(*prooftest.Consortium) *prooftest.Read {
	return func(c *prooftest.Consortium) *prooftest.Read { return c.AttestRequest(state, due, stated) }
}

// grant returns the read of a grant that runs for a month around the epoch.
func grant(state, stated domain.GrantState) func(*prooftest.Consortium) *prooftest.Read {
	return func(c *prooftest.Consortium) *prooftest.Read { return c.AttestGrant(state, stated) }
}

// crl returns a change that gives a department of the anchors a revocation list.
func crl(code domain.DepartmentCode, list func(*prooftest.Department) string) func(*prooftest.Consortium, *proof.Anchors) {
	return func(c *prooftest.Consortium, a *proof.Anchors) {
		i := slices.IndexFunc(a.Departments, func(d proof.Department) bool { return d.Code == code })
		a.Departments[i].CRLs = []string{list(c.Department(code))}
	}
}

// statuses are the certificates and other records of each status, and certificates
// at another time than the statement's.
func statuses() []recipe {
	var out []recipe
	for _, s := range []domain.CertificateStatus{
		domain.CertificateSuspended, domain.CertificateWithdrawn, domain.CertificateCancelled, domain.CertificateSuperseded,
	} {
		out = append(out, recipe{name: string(s), comment: "a certificate that is " + string(s), expect: string(s), read: changed(s, s)})
	}
	restored := func(c *prooftest.Consortium) *prooftest.Read {
		cert := c.Changed(c.Certificate(), domain.CertificateSuspended, epoch.AddDate(0, 0, -3))
		cert = c.Changed(cert, domain.CertificateValid, epoch.AddDate(0, 0, -1))
		return c.AttestCertificate(cert, domain.CertificateValid)
	}
	suspended := func(c *prooftest.Consortium) *prooftest.Read {
		cert := c.Certificate()
		cert.Content.Validity.To = epoch.AddDate(0, 0, -1)
		return c.AttestCertificate(c.Changed(cert, domain.CertificateSuspended, epoch.AddDate(0, 0, -2)), domain.CertificateSuspended)
	}
	return append(out,
		recipe{
			name: "proposed", comment: "a certificate that nobody has approved was never issued", expect: "not_found",
			read: func(c *prooftest.Consortium) *prooftest.Read {
				return c.AttestCertificate(c.Proposed(), domain.CertificateProposed)
			},
		},
		recipe{
			name: "rejected", comment: "a certificate that was refused was never issued", expect: "not_found",
			read: func(c *prooftest.Consortium) *prooftest.Read {
				return c.AttestCertificate(c.Changed(c.Proposed(), domain.CertificateRejected, epoch.AddDate(0, 0, -1)), domain.CertificateRejected)
			},
		},
		recipe{name: "restored", comment: "a certificate that was suspended and given back", expect: "valid", read: restored},
		recipe{name: "restored-while-suspended", comment: "asked about the day between", expect: "suspended", read: restored, statusAt: epoch.AddDate(0, 0, -2)},
		recipe{name: "restored-at-suspension", comment: "asked about the second in which the suspension takes effect", expect: "suspended", read: restored, statusAt: epoch.AddDate(0, 0, -3).Truncate(time.Second)},
		recipe{name: "restored-before-suspension", comment: "asked about the nanosecond before it", expect: "valid", read: restored, statusAt: epoch.AddDate(0, 0, -3).Truncate(time.Second).Add(-time.Nanosecond)},
		recipe{name: "suspended-outlasts-expiry", comment: "suspended does not become expired", expect: "suspended", read: suspended},
		recipe{name: "revoked-later", comment: "revoked now, asked about the day before", expect: "valid", read: changed(domain.CertificateRevoked, domain.CertificateRevoked), statusAt: epoch.AddDate(0, 0, -2), at: epoch},
		recipe{name: "before-issue", comment: "asked about a day before the issue", expect: "not_yet_valid", statusAt: epoch.AddDate(0, 0, -11)},
		recipe{name: "not-found-before", comment: "records are never deleted: what is not there was not there before", expect: "not_found", read: (*prooftest.Consortium).AttestNothing, statusAt: epoch.AddDate(0, 0, -11)},
		recipe{
			name: "expires-soon", comment: "asked about a time later than the present, within the statement's life", expect: "expired",
			read: with(domain.CertificateValid, func(cert *domain.Certificate) { cert.Content.Validity.To = epoch.Add(time.Hour) }), at: epoch, statusAt: epoch.Add(time.Hour),
		},
		recipe{name: "request-overdue", comment: "a request whose time limit has passed", expect: "recorded", read: request(domain.RequestAccepted, epoch.Add(-time.Hour), domain.RequestOverdue)},
		recipe{name: "request-overdue-since", comment: "its time limit passed between the statement and the verifier's present", expect: "recorded", read: request(domain.RequestAccepted, epoch.Add(time.Hour), domain.RequestAccepted), at: epoch.Add(2 * time.Hour)},
		recipe{name: "grant-suspended", comment: "a suspended grant", expect: "recorded", read: grant(domain.GrantSuspended, domain.GrantSuspended)},
		recipe{name: "grant-revoked", comment: "a revoked grant", expect: "recorded", read: grant(domain.GrantRevoked, domain.GrantRevoked)},
		recipe{
			name: "signer-revoked-since", comment: "a signer that its authority revoked a second after the statement", expect: "valid",
			trust: crl("police", func(d *prooftest.Department) string {
				return d.Authority.CRL(map[*prooftest.Identity]time.Time{d.Peer: epoch.Add(time.Second)}, nil)
			}),
		},
		recipe{
			name: "others-revoked", comment: "a revocation list with other certificates of the department", expect: "valid",
			trust: crl("police", func(d *prooftest.Department) string {
				return d.Authority.CRL(map[*prooftest.Identity]time.Time{d.Client: epoch.Add(-time.Hour), d.Admin: epoch.Add(-time.Hour)}, nil)
			}),
		},
		recipe{name: "policy-met", comment: "four departments, two of them by name, and the issuer among them", expect: "valid", policy: &vectorPolicy{
			Quorum: 4, Departments: []domain.DepartmentCode{"civil", "bigdata"}, Issuer: proof.IssuerIncluded,
		}},
		recipe{name: "policy-without-issuer", comment: "three departments beside the issuer", expect: "valid", policy: &vectorPolicy{Issuer: proof.IssuerExcluded}},
		recipe{
			name: "policy-issuer-silent", comment: "the issuer's signature does not count, and it did not sign", expect: "valid", policy: &vectorPolicy{Issuer: proof.IssuerExcluded},
			change: func(_ *prooftest.Consortium, r *prooftest.Read) { r.Signers = r.Signers[:3] },
		},
		recipe{name: "policy-nothing-issued", comment: "of what is not there nobody is the issuer", expect: "not_found", read: (*prooftest.Consortium).AttestNothing, policy: &vectorPolicy{Issuer: proof.IssuerExcluded}},
	)
}

// unusedBits sets the unused bits of the last digit of unpadded base64url.
func unusedBits(s string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(digits, s[len(s)-1])
	return s[:len(s)-1] + string(digits[last|1])
}

func recipes() []recipe {
	return slices.Concat(positive, statuses(), negative, wireRecipes(), recordedPositive(), recordedNegative)
}

// TestVectorsCurrent checks that the published vectors are those that the
// recipes make, and writes them with -update.
func TestVectorsCurrent(t *testing.T) {
	want := map[string][]byte{}
	for _, r := range recipes() {
		v, bundle, trust := r.make(t)
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(vectorDir, r.name)
		if want[file+".json"] != nil {
			t.Fatalf("two recipes are named %s", r.name)
		}
		want[file+".json"] = append(data, '\n')
		want[file+".zlproof"] = bundle
		want[filepath.Join(trustDir, v.Trust)] = trust
	}
	dirs := []string{vectorDir, trustDir}
	if *update {
		for _, dir := range dirs {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for file, data := range want {
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, dir := range dirs {
		found, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range found {
			if _, ok := want[filepath.Join(dir, entry.Name())]; !ok {
				t.Errorf("%s: no recipe makes it", entry.Name())
			}
		}
	}
	for file, data := range want {
		got, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%s: not what its recipe makes; run the test with -update and review the change", file)
		}
	}
}

// TestVectors verifies the published vectors, and nothing else: another
// implementation can do the same.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectorDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	positives, negatives := 0, 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			v, opts, anchors, bundle := readVector(t, file)
			want, known := expectations[v.Expect]
			if !known {
				t.Fatalf("expects %q, which is not on the list", v.Expect)
			}
			got := proof.Verify(bundle, anchors, opts)
			if got.Overall != want {
				t.Errorf("got %q, want %q: %s", got.Overall, want, got.Reason)
			}
			if got.Reason == "" || strings.ContainsAny(got.Reason, "\r\n") {
				t.Errorf("reason %q is not one line", got.Reason)
			}
			failed := proof.Question("")
			for _, check := range got.Checks {
				if check.Outcome == proof.Fail {
					failed = check.Question
				}
			}
			if failed != v.Question {
				t.Errorf("question %q fails, want %q: %s", failed, v.Question, got.Reason)
			}
			if want == proof.BadProof || want == proof.CannotCheck {
				negatives++
			} else {
				positives++
				if got.Statement == nil || len(got.Signers) < anchors.Quorum {
					t.Error("no statement or too few signers in a verdict that holds")
				}
			}
			if v.Question == proof.Integrity || v.Question == proof.Quorum || v.Question == proof.Scope {
				if got.Statement != nil {
					t.Error("a statement is shown although it was not shown to be signed")
				}
			}
		})
	}
	if positives < 25 || negatives < 60 {
		t.Errorf("found %d positive and %d negative vectors, expected at least 25 and 60", positives, negatives)
	}
	t.Logf("%d positive, %d negative", positives, negatives)
}

func readVector(t *testing.T, file string) (vector, proof.Options, *proof.Anchors, []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	opts := proof.Options{Nonce: v.Nonce}
	if v.At != "" {
		if opts.At, err = time.Parse(time.RFC3339Nano, v.At); err != nil {
			t.Fatal(err)
		}
	}
	if v.StatusAt != "" {
		if opts.StatusAt, err = time.Parse(time.RFC3339Nano, v.StatusAt); err != nil {
			t.Fatal(err)
		}
	}
	if v.Policy != nil {
		opts.Policy = proof.Policy{Quorum: v.Policy.Quorum, Departments: v.Policy.Departments, Issuer: v.Policy.Issuer}
	}
	trust, err := os.ReadFile(filepath.Join(trustDir, v.Trust))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(strings.TrimSuffix(file, ".json") + ".zlproof")
	if err != nil {
		t.Fatal(err)
	}
	// Not ParseAnchors: some vectors are about anchors that it refuses.
	anchors := new(proof.Anchors)
	if err := json.Unmarshal(trust, anchors); err != nil {
		t.Fatal(fmt.Errorf("trust: %w", err))
	}
	return v, opts, anchors, bundle
}
