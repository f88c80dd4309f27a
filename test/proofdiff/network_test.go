package proofdiff

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/fabricledger"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// TestRealPeers asks the peers of a running network and verifies what they sign.
// It only reads, and needs a registered department. Run it with
// ZHENGLIAN_STATE=$PWD/.zhenglian.
func TestRealPeers(t *testing.T) {
	l, anchors, _ := connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	for name, asked := range map[string]struct {
		args domain.AttestArgs
		want proof.Overall
	}{
		"recorded":  {domain.AttestArgs{Kind: domain.KindDepartment, ID: string(anchors.Departments[0].Code), Nonce: prooftest.Nonce}, proof.Recorded},
		"not found": {domain.AttestArgs{Kind: domain.KindCertificate, ID: "00000000000000000000000000000000", Nonce: prooftest.Nonce}, proof.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			signed, err := l.SignedRead(ctx, asked.args, anchors.Quorum)
			if err != nil {
				t.Fatal(err)
			}
			var endorsements []proof.RawEndorsement
			for _, e := range signed.Endorsements {
				endorsements = append(endorsements, proof.RawEndorsement{Endorser: e.Endorser, Signature: e.Signature})
			}
			data, err := proof.Encode(proof.NewBundle(signed.Proposal, signed.Response, endorsements))
			if err != nil {
				t.Fatal(err)
			}
			v := proof.Verify(data, anchors, proof.Options{At: time.Now(), Nonce: prooftest.Nonce})
			if v.Overall != asked.want {
				t.Fatalf("got %q, want %q: %s", v.Overall, asked.want, v.Reason)
			}
			t.Logf("%d bytes, signed by %v", len(data), v.Signers)

			refused := 0
			for i := range data {
				bad := bytes.Clone(data)
				bad[i] ^= 1 << (i % 8)
				if v := proof.Verify(bad, anchors, proof.Options{}); v.Overall == asked.want {
					t.Errorf("accepted with byte %d changed", i)
				} else {
					refused++
				}
			}
			if refused != len(data) {
				t.Errorf("%d of %d changed bundles refused", refused, len(data))
			}
			if v := proof.Verify(data, prooftest.New().Anchors(), proof.Options{}); v.Overall != proof.BadProof {
				t.Errorf("under another consortium's anchors: %q", v.Overall)
			}
		})
	}
}

var record = flag.Bool("record", false, "write proof/testdata/recorded anew from the running network")

// recordedKinds are the kinds of which one record each is recorded, but for
// certificates: of those, one of each status.
var recordedKinds = []domain.RecordKind{
	domain.KindDepartment, domain.KindMembers, domain.KindCalendar, domain.KindRule, domain.KindCatalogEntry, domain.KindRequest,
	domain.KindGrant, domain.KindLog, domain.KindAnchor, domain.KindCertificate,
}

// TestRecord writes what the peers of a running network sign into
// proof/testdata/recorded, with its trust file. Run it with -record and
// ZHENGLIAN_STATE=$PWD/.zhenglian, and then the tests of package proof with
// -update.
func TestRecord(t *testing.T) {
	if !*record {
		t.Skip("without -record")
	}
	l, anchors, trust := connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	height, err := l.Copies()[0].Source.Height(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// What was written last under each kind of key, oldest first.
	written := map[domain.RecordKind][]string{}
	done := errors.New("done")
	note := func(kind domain.RecordKind, id string) {
		written[kind] = append(slices.DeleteFunc(written[kind], func(earlier string) bool { return earlier == id }), id)
	}
	err = l.Blocks(ctx, 0, func(b domain.Block) error {
		for _, tx := range b.Transactions {
			for _, w := range tx.Writes {
				kind, id, ok := domain.ParseKey(w.Key)
				if !ok || !tx.Valid() {
					continue
				}
				note(kind, id)
				if kind == domain.KindIssuingBatch { // of which certificates are told
					var issued domain.IssuingBatch
					if err := domain.ParseCanonical(w.Value, &issued); err != nil {
						return err
					}
					for _, ref := range issued.Refs() {
						note(domain.KindCertificate, ref)
					}
				}
			}
		}
		if b.Number+1 == height {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "proof", "testdata", "recorded")
	old, err := filepath.Glob(filepath.Join(dir, "*.zlproof"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range old {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("consortium.json", trust)
	ask := func(kind domain.RecordKind, id string) ([]byte, proof.Verdict) {
		signed, err := l.SignedRead(ctx, domain.AttestArgs{Kind: kind, ID: id, Nonce: prooftest.Nonce}, anchors.Quorum)
		if err != nil {
			t.Fatal(err)
		}
		var endorsements []proof.RawEndorsement
		for _, e := range signed.Endorsements {
			endorsements = append(endorsements, proof.RawEndorsement{Endorser: e.Endorser, Signature: e.Signature})
		}
		data, err := proof.Encode(proof.NewBundle(signed.Proposal, signed.Response, endorsements))
		if err != nil {
			t.Fatal(err)
		}
		v := proof.Verify(data, anchors, proof.Options{At: time.Now()})
		if v.Overall == proof.BadProof || v.Overall == proof.CannotCheck {
			t.Fatalf("%s %s: %s", kind, id, v.Reason)
		}
		return data, v
	}
	for _, kind := range recordedKinds {
		ids := written[kind]
		if len(ids) == 0 {
			t.Errorf("the ledger has no record of kind %s", kind)
		}
		for _, id := range ids {
			data, v := ask(kind, id)
			name := string(kind)
			if kind == domain.KindCertificate {
				name += "-" + string(v.Overall)
			}
			write(name+".zlproof", data)
			if kind != domain.KindCertificate {
				break
			}
		}
	}
	data, _ := ask(domain.KindCertificate, strings.Repeat("0", 32))
	write("no-certificate.zlproof", data)

	// An access record is proven by its log's checkpoint, and that by an anchor.
	if len(written[domain.KindAnchor]) == 0 {
		t.FailNow()
	}
	department, _, _ := strings.Cut(written[domain.KindAnchor][0], "~")
	leaf, inclusion := accessRecord(t, os.Getenv("ZHENGLIAN_STATE"), department)
	write("access-record.json", leaf)
	write("access-record.tlog-proof", inclusion)
	_, checkpoint, _ := strings.Cut(string(inclusion), "\n\n")
	data, _ = ask(domain.KindAnchor, department+"~"+strings.Split(checkpoint, "\n")[1])
	write("access-record-anchor.zlproof", data)
}

// accessRecord asks a department's gateway for the first record of its access log:
// the leaf, in canonical form, and the C2SP tlog-proof of it.
func accessRecord(t *testing.T, state, department string) (leaf, inclusion []byte) {
	t.Helper()
	var gateway struct {
		PublicURL string `json:"publicUrl"`
	}
	var tokens map[string]string
	for file, into := range map[string]any{
		filepath.Join(state, "departments", department, "gateway", "gateway.json"): &gateway,
		filepath.Join(state, "tokens", department+".json"):                         &tokens,
	} {
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	get := func(path string) []byte {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, gateway.PublicURL+"/v1/access-records/"+department+"/0"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+tokens["auditor"])
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v: %s", r.URL, answer.Status, err, body)
		}
		return body
	}
	var entry struct {
		Record domain.AccessRecord `json:"record"`
	}
	if err := json.Unmarshal(get(""), &entry); err != nil {
		t.Fatal(err)
	}
	leaf, err := domain.Canonical(entry.Record)
	if err != nil {
		t.Fatal(err)
	}
	return leaf, get("/proof")
}

// connect reaches the network whose state folder ZHENGLIAN_STATE names, as the
// gateway of the first department.
func connect(t *testing.T) (*fabricledger.Ledger, *proof.Anchors, []byte) {
	t.Helper()
	state := os.Getenv("ZHENGLIAN_STATE")
	if state == "" {
		t.Skip("ZHENGLIAN_STATE does not name the state folder of a running network")
	}
	read := func(path ...string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(path...))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	anchors, err := proof.ParseAnchors(read(state, "trust", "consortium.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(state, "departments", string(anchors.Departments[0].Code), "gateway")
	var file struct {
		Channel, Chaincode string
		Peers              []struct{ Department, MSPID, Endpoint, TLSRoots, ServerName string }
		Service            struct{ MSPID, Certificate, Key string }
	}
	if err := json.Unmarshal(read(dir, "gateway.json"), &file); err != nil {
		t.Fatal(err)
	}
	cfg := fabricledger.Config{Channel: file.Channel, Chaincode: file.Chaincode, Identities: map[domain.Role]fabricledger.Identity{
		domain.RoleGateway: {
			MSPID:          domain.MSPID(file.Service.MSPID),
			CertificatePEM: read(dir, file.Service.Certificate),
			KeyPEM:         read(dir, file.Service.Key),
		},
	}}
	for _, p := range file.Peers {
		cfg.Peers = append(cfg.Peers, fabricledger.Peer{
			Department: domain.DepartmentCode(p.Department), MSPID: domain.MSPID(p.MSPID),
			Endpoint: p.Endpoint, TLSRoots: read(dir, p.TLSRoots), ServerName: p.ServerName,
		})
	}
	l, err := fabricledger.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, anchors, read(state, "trust", "consortium.json")
}
