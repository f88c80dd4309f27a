//go:build e2e

package fabricledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/outbox"
	"github.com/zhenglian/zhenglian/proof"
)

// network reads the state folder of a running network.
type network struct {
	t       *testing.T
	state   string
	anchors *proof.Anchors
}

func openNetwork(t *testing.T) *network {
	t.Helper()
	state := os.Getenv("ZHENGLIAN_STATE")
	if state == "" {
		t.Skip("ZHENGLIAN_STATE does not name the state folder of a running network")
	}
	n := &network{t: t, state: state}
	trust, err := os.ReadFile(filepath.Join(state, "trust", "consortium.json"))
	if err != nil {
		t.Fatal(err)
	}
	if n.anchors, err = proof.ParseAnchors(trust); err != nil {
		t.Fatal(err)
	}
	return n
}

// ledger returns the ledger as a department's gateway sees it.
func (n *network) ledger(code domain.DepartmentCode) *Ledger {
	n.t.Helper()
	dir := filepath.Join(n.state, "departments", string(code), "gateway")
	var file struct {
		Channel, Chaincode string
		Peers              []struct{ Department, MSPID, Endpoint, TLSRoots, ServerName string }
		Service            struct{ MSPID, Certificate, Key string }
		Users              []struct{ Role, Certificate, Key string }
	}
	if err := json.Unmarshal(n.read(filepath.Join(dir, "gateway.json")), &file); err != nil {
		n.t.Fatal(err)
	}
	cfg := Config{Channel: file.Channel, Chaincode: file.Chaincode, Identities: make(map[domain.Role]Identity)}
	for _, p := range file.Peers {
		cfg.Peers = append(cfg.Peers, Peer{
			Department: domain.DepartmentCode(p.Department), MSPID: domain.MSPID(p.MSPID),
			Endpoint: p.Endpoint, TLSRoots: n.read(filepath.Join(dir, p.TLSRoots)), ServerName: p.ServerName,
		})
	}
	identity := func(certificate, key string) Identity {
		return Identity{
			MSPID:          domain.MSPID(file.Service.MSPID),
			CertificatePEM: n.read(filepath.Join(dir, certificate)),
			KeyPEM:         n.read(filepath.Join(dir, key)),
		}
	}
	cfg.Identities[domain.RoleGateway] = identity(file.Service.Certificate, file.Service.Key)
	for _, u := range file.Users {
		cfg.Identities[domain.Role(u.Role)] = identity(u.Certificate, u.Key)
	}
	l, err := New(cfg, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := l.Close(); err != nil {
			n.t.Errorf("Close: %v", err)
		}
	})
	return l
}

func (n *network) read(path string) []byte {
	n.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	return data
}

// register puts the departments on the ledger, the lead first. It must be the
// one the network was defined with; on a network that is in use it is there.
func (n *network) register(lead domain.DepartmentCode) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*time.Minute)
	defer cancel()
	l := n.ledger(lead)
	add := func(d proof.Department) {
		argument := canonical(n.t, domain.RegisterDepartmentArgs{
			Code: d.Code, MSPID: d.MSPID, NameZh: d.NameZh, NameEn: d.NameEn, USCC: d.USCC, Lead: d.Code == lead,
		})
		_, err := submit(l, ctx, ledger.Request{Role: domain.RoleAdmin, Transaction: "governance:RegisterDepartment", Argument: argument})
		if err != nil && domain.KindOf(err) != domain.Exists {
			n.t.Fatalf("register %s: %v", d.Code, err)
		}
	}
	for _, d := range n.anchors.Departments {
		if d.Code == lead {
			add(d)
		}
	}
	for _, d := range n.anchors.Departments {
		if d.Code != lead {
			add(d)
		}
	}
}

// authorise lets a department issue the type of certificate of the conformance
// suite. On a network that is in use it may already.
func (n *network) authorise(lead, issuer domain.DepartmentCode) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Minute)
	defer cancel()
	year := time.Date(time.Now().UTC().Year(), 1, 1, 0, 0, 0, 0, time.UTC)
	argument := canonical(n.t, domain.AuthoriseArgs{
		Issuer: issuer, TypeCode: n.uscc(issuer) + "001", TypeNameZh: testTypeZh, TypeNameEn: testTypeEn, Basis: "测试",
		Period: domain.Period{From: year, To: year.AddDate(2, 0, 0)},
	})
	_, err := submit(n.ledger(lead), ctx, ledger.Request{Role: domain.RoleAdmin, Transaction: "certificate:Authorise", Argument: argument})
	if err != nil && domain.KindOf(err) != domain.Exists {
		n.t.Fatalf("authorise %s: %v", issuer, err)
	}
}

const (
	testTypeZh = "测试证照"
	testTypeEn = "Test certificate"
)

func (n *network) uscc(code domain.DepartmentCode) string {
	for _, d := range n.anchors.Departments {
		if d.Code == code {
			return d.USCC
		}
	}
	n.t.Fatalf("no department %s", code)
	return ""
}

func canonical(t *testing.T, v any) []byte {
	t.Helper()
	data, err := domain.Canonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// certificates is the subject of the conformance suite on the real contracts:
// the department issues certificates.
func (n *network) certificates(t *testing.T, l ledger.Ledger, code domain.DepartmentCode) ledgertest.Subject {
	t.Helper()
	uscc := n.uscc(code)
	day := time.Now().UTC().Truncate(24 * time.Hour)
	return ledgertest.Subject{
		Ledger: l,
		Quorum: n.anchors.Quorum,
		Create: func(id string) ledgertest.Transaction {
			parts := domain.CertificateID{TypeCode: uscc + "001", IssuerCode: uscc, Serial: strings.ToUpper(id), Version: "001"}
			certID, err := parts.Compose()
			if err != nil {
				t.Fatal(err)
			}
			return ledgertest.Transaction{Role: domain.RoleOperator, Name: "certificate:Issue", Argument: canonical(t, domain.IssueArgs{Content: domain.CertificateContent{
				Ref: id, CertID: certID, TypeCode: parts.TypeCode, TypeNameZh: testTypeZh, TypeNameEn: testTypeEn,
				IssuerUSCC: uscc, HolderKind: domain.HolderOrganisation, HolderRef: domain.Digest([]byte("holder " + id)),
				IssuedAt: day, Validity: domain.Period{From: day, To: day.AddDate(1, 0, 0)},
				ContentDigest: domain.Digest([]byte("content " + id)), CheckCodeHash: domain.Digest([]byte("check code " + id)),
				StatusIndex: int(crc32.ChecksumIEEE([]byte(id)) & domain.MaxStatusIndex),
			}})}
		},
		Read: func(id string) ledgertest.Transaction {
			return ledgertest.Transaction{Role: domain.RoleOperator, Name: "certificate:Get", Argument: canonical(t, domain.RefArgs{Ref: id})}
		},
		Key: func(id string) string { return domain.KeyOf(domain.KindIssuingBatch, domain.BatchOf(id)) },
		Attest: func(id, nonce string) domain.AttestArgs {
			return domain.AttestArgs{Kind: domain.KindCertificate, ID: id, Nonce: nonce}
		},
		Verify: func(read ledger.SignedRead) error { return verifyRead(read, n.anchors) },
	}
}

// verifyRead checks a signed read as a citizen would.
func verifyRead(read ledger.SignedRead, anchors *proof.Anchors) error {
	var endorsements []proof.RawEndorsement
	for _, e := range read.Endorsements {
		endorsements = append(endorsements, proof.RawEndorsement{Endorser: e.Endorser, Signature: e.Signature})
	}
	data, err := proof.Encode(proof.NewBundle(read.Proposal, read.Response, endorsements))
	if err != nil {
		return err
	}
	verdict := proof.Verify(data, anchors, proof.Options{})
	var failed []error
	for _, c := range verdict.Checks {
		if c.Outcome == proof.Fail {
			failed = append(failed, fmt.Errorf("%s: %s", c.Question, c.Reason))
		}
	}
	if verdict.Statement == nil {
		failed = append(failed, fmt.Errorf("no statement: %s", verdict.Reason))
	}
	return errors.Join(failed...)
}

func TestConformanceOnNetwork(t *testing.T) {
	n := openNetwork(t)
	n.register("bigdata")
	n.authorise("bigdata", "police")
	l, err := outbox.Open(t.Context(), filepath.Join(t.TempDir(), "outbox.sqlite"), n.ledger("police"), outbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	ledgertest.Run(t, func(t *testing.T) ledgertest.Subject { return n.certificates(t, l, "police") })
}
