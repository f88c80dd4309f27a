package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/identity"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
	"github.com/zhenglian/zhenglian/gateway/outbox"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/proof/prooftest"
	"github.com/zhenglian/zhenglian/signing"
)

// home is a person of a department who keeps the key at home.
func home(department domain.DepartmentCode, role domain.Role, name string) *prooftest.Identity {
	return prooftest.New().Department(department).Authority.IssueAs(string(role)+name, func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{
			Id:    asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1},
			Value: fmt.Appendf(nil, `{"attrs":{"zhenglian.department":%q,"zhenglian.role":%q}}`, department, role),
		})
	})
}

// signing answers the ledger of a department whose people may sign by themselves.
func (w *world) signing(d ledgertest.Department, ix index.Index) ledger.Ledger {
	w.t.Helper()
	chain := w.chain.Ledger(d.Code)
	writes, err := outbox.Open(w.t.Context(), filepath.Join(w.t.TempDir(), "outbox.sqlite"), chain, outbox.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := writes.Close(); err != nil {
			w.t.Error(err)
		}
	})
	w.outbox[d.Code] = writes
	w.know(d.Code, nil)
	w.waiting[d.Code] = service.NewSigning(service.SigningOptions{
		Department: d.Code, Ledger: chain, Offline: chain, Outbox: writes, Index: ix, Clock: w.clock,
		Holder: func(cert *x509.Certificate) (domain.Role, error) { return w.known[d.Code].Role(cert, w.clock()) },
	})
	return w.waiting[d.Code]
}

// know has the gateway of a department know signers, and a revocation list.
func (w *world) know(department domain.DepartmentCode, revoked *prooftest.Identity, signers ...*prooftest.Identity) {
	w.t.Helper()
	authority := prooftest.New().Department(department).Authority
	var crls [][]byte
	if revoked != nil {
		crls = [][]byte{[]byte(authority.CRL(map[*prooftest.Identity]time.Time{revoked: prooftest.NotBefore}, nil))}
	}
	known, err := identity.NewCertificates(department, []string{string(authority.PEM())}, crls)
	if err != nil {
		w.t.Fatal(err)
	}
	var files [][]byte
	for _, s := range signers {
		files = append(files, s.PEM())
	}
	if w.known[department], err = identity.NewSigners(known, files); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) configureSigning(cfg *Config) {
	department, waiting := cfg.Department, w.waiting[cfg.Department]
	cfg.ClientCertificate = func(cert *x509.Certificate) (domain.Role, error) { return w.known[department].Role(cert, w.clock()) }
	cfg.Signer = func(role domain.Role, fingerprint string, presented *x509.Certificate) (*x509.Certificate, error) {
		return w.known[department].Find(role, fingerprint, presented, w.clock())
	}
	cfg.Signing, cfg.Operations = waiting, service.NewOperations(waiting, waiting.Index)
}

// errLost stands for a connection that broke after the request arrived.
var errLost = errors.New("the answer is lost")

// errAnswer is a gateway's refusal.
type errAnswer struct {
	status int
	body   string
}

func (e *errAnswer) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// serve sends a request to a department's gateway with a client certificate, or with a
// token of role.
func (w *world) serve(department domain.DepartmentCode, cert *x509.Certificate, role domain.Role) signing.Send {
	return func(_ context.Context, sent signing.Request) (int, []byte, error) {
		r := httptest.NewRequest(sent.Method, sent.Target, bytes.NewReader(sent.Body))
		for name, values := range sent.Header {
			r.Header[name] = values
		}
		if sent.Body != nil {
			r.Header.Set("Content-Type", jsonMedia)
		}
		if role != "" {
			r.Header.Set("Authorization", "Bearer zl_"+string(role))
		} else {
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
		}
		answer := httptest.NewRecorder()
		w.handlers[department].ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		if w.cut != nil && w.cut(r) {
			return 0, nil, errLost
		}
		if w.change != nil {
			body = w.change(body)
		}
		if answer.Code >= 300 {
			return answer.Code, nil, &errAnswer{answer.Code, answer.Body.String()}
		}
		return answer.Code, body, nil
	}
}

// signer answers the signer of a person with a key at home.
func (w *world) signer(department domain.DepartmentCode, person *prooftest.Identity, send signing.Send) *signing.Signer {
	w.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(person.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := signing.NewSigner(send, prooftest.New().Anchors(), person.PEM(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), w.clock)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// sign posts what must succeed and is signed by "department role" at home.
func (w *world) sign(who, target, body string) signing.Outcome {
	w.t.Helper()
	department, role, _ := strings.Cut(who, " ")
	person := home(domain.DepartmentCode(department), domain.Role(role), "")
	request := signing.Request{Method: http.MethodPost, Target: target}
	if body != "" {
		request.Body = []byte(body)
	}
	intent, err := signing.IntentOf(request.Method, request.Target, request.Body, "")
	if err != nil {
		w.t.Fatal(err)
	}
	w.signed[intent.Transaction] = true
	s := w.signer(domain.DepartmentCode(department), person, w.serve(domain.DepartmentCode(department), person.Cert, ""))
	out, err := s.Write(w.t.Context(), request, fmt.Sprintf("key-%d", w.numbers.Add(1)))
	if err != nil {
		w.t.Fatalf("%s signs %s for %s: %v", who, body, target, err)
	}
	if out.Operation.State != api.OperationStateCommitted {
		w.t.Fatalf("%s signs %s for %s: %+v", who, body, target, out.Operation)
	}
	return out
}

// TestEveryWriteCanBeSignedAtHome writes everything that can be written, each with a key
// that no gateway has.
func TestEveryWriteCanBeSignedAtHome(t *testing.T) {
	w := newWorldOf(t, true) // departments, calendars, rules, and an entry that is published
	for _, state := range []string{"draft", "offline", "retired", "change_pending"} {
		w.entry(state)
	}
	for _, state := range []string{"active", "closed", "withdrawn", "mediated", "extended", "refused"} {
		w.request(state)
	}
	returned := w.request("returned")
	w.must("civil operator", "/v1/requests/"+returned+"/actions/supplement", request(returned, w.published))
	w.must("police reviewer", "/v1/grants/"+w.grant("suspended")+"/actions/resume", reason)
	w.grant("revoked")
	late := w.request("accepted")
	pending := w.entry("reg_pending")
	w.pass()
	w.must("civil operator", "/v1/requests/"+late+"/actions/mark-overdue", "")
	w.must("police operator", entryAction(pending, "mark-overdue"), "")
	w.must("bigdata reviewer", entryAction(w.published, "require-update"), reason)

	codes := []string{w.newCode(), w.newCode()}
	w.must("police operator", "/v1/catalog/batches/register", fmt.Sprintf(`{"contents":[%s,%s]}`, content(codes[0], strings.Repeat("长", domain.InlineArgument/4)), content(codes[1], "")))
	list := fmt.Sprintf(`"codes":[%q,%q]`, codes[0], codes[1])
	w.must("bigdata reviewer", "/v1/catalog/batches/review", `{`+list+`,"decision":"approve","opinion":""}`)
	w.must("police operator", "/v1/catalog/batches/publish", `{`+list+`}`)

	w.must("police admin", "/v1/logs", fmt.Sprintf(`{"origin":"zhenglian.example/log/police","verifierKey":%q}`, prooftest.New().Department("police").LogKey))
	w.must("police auditor", "/v1/alarms", `{"kind":"one_sided","about":"civil","subject":"call-1","rule":"one_sided","figures":"需求方逾一日无记录","records":[{"department":"police","index":5}]}`)
	w.must("bigdata reviewer", "/v1/alarms/"+domain.AlarmID("one_sided", "civil", "call-1")+"/actions/close", `{"finding":"系统重复上报，已补记"}`)
	signCertificates(w)

	doc, err := api.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	all := 0
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			keyed := slices.ContainsFunc(o.Parameters, func(p *openapi3.ParameterRef) bool { return p.Value.Name == idempotencyKey })
			rule, _ := o.Extensions["x-transaction"].(map[string]any)
			if (rule != nil) != keyed {
				t.Errorf("%s %s: x-transaction is there: %v, Idempotency-Key: %v", method, path, rule != nil, keyed)
			}
			if rule == nil {
				continue
			}
			all++
			if name, _ := rule["name"].(string); !w.signed[name] {
				t.Errorf("%s %s: nobody signed %v", method, path, rule["name"])
			}
		}
	}
	if all < 40 {
		t.Errorf("only %d writes", all)
	}
}

// signCertificates authorises an issuer, issues certificates and ends both.
func signCertificates(w *world) {
	const issuer = "/v1/issuers/police/11100000000013338W011/actions/end"
	now := w.clock()
	period := fmt.Sprintf(`{"from":%q,"to":%q}`, now.Add(-time.Hour).In(time.FixedZone("", 8*3600)).Format(time.RFC3339), now.AddDate(1, 0, 0).Format(time.RFC3339))
	w.must("bigdata admin", "/v1/issuers", `{"issuer":"police","typeCode":"11100000000013338W011","typeNameZh":"居住证","typeNameEn":"Residence permit","basis":"居住证暂行条例","period":`+period+`}`)
	issue := func(serial string) string {
		return `{"typeCode":"11100000000013338W011","typeNameZh":"居住证","typeNameEn":"Residence permit","holderKind":"person","holderSaltedRef":"` + hex64 +
			`","validity":` + period + `,"serial":"` + serial + `","contentDigest":"` + hex64 + `"}`
	}
	refs := func(out signing.Outcome) []string {
		var told api.OutcomeUnknown
		if err := json.Unmarshal(out.Told, &told); err != nil {
			w.t.Fatal(err)
		}
		refs := []string{told.Ref}
		if told.Ref == "" {
			refs = nil
		}
		for _, item := range told.Items {
			refs = append(refs, item.Ref)
		}
		if len(refs) == 0 {
			w.t.Fatalf("nothing was issued: %s", out.Told)
		}
		return refs
	}
	one := refs(w.sign("police operator", "/v1/certificates", issue("2026000001")))[0]
	w.must("police reviewer", "/v1/certificates/"+one+"/actions/decide", `{"decision":"approve","opinion":""}`)
	w.must("police operator", "/v1/certificates/"+one+"/actions/propose", fmt.Sprintf(
		`{"event":"revoke","act":{"documentNo":"公决字2026第1号","legalBasis":"居住证暂行条例第18条","reasonCode":"issued_in_error","effectiveAt":%q}}`,
		now.In(time.FixedZone("", 8*3600)).Format(time.RFC3339)))
	many := refs(w.sign("police operator", "/v1/certificates/batch", `{"certificates":[`+issue("2026000002")+`,`+issue("2026000003")+`]}`))
	w.must("police reviewer", "/v1/certificates/decisions", fmt.Sprintf(`{"refs":[%q,%q],"decision":"approve","opinion":""}`, many[0], many[1]))
	w.must("bigdata admin", issuer, reason)
}

// draft is a request for a new entry of the police.
func (w *world) draft() signing.Request {
	return signing.Request{Method: http.MethodPost, Target: "/v1/catalog/entries?draft=true", Body: []byte(content(w.newCode(), ""))}
}

// asks sends a write to be signed by person, and answers what is to be signed.
func (w *world) asks(person *prooftest.Identity, r signing.Request, key string) api.Signing {
	w.t.Helper()
	r.Header = http.Header{idempotencyKey: {key}, "Prefer": {"sign-offline"}}
	_, body, err := w.serve("police", person.Cert, "")(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	var told api.OutcomeUnknown
	if err := json.Unmarshal(body, &told); err != nil || told.Signing == nil {
		w.t.Fatalf("%v: %s", err, body)
	}
	return *told.Signing
}

// posts sends a signature and answers the operation; status is that of a refusal.
func (w *world) posts(send signing.Send, key string, step api.SigningStep, signature []byte) (o api.Operation, status int) {
	w.t.Helper()
	body, err := json.Marshal(api.SignOperation{Step: step, Signature: signature})
	if err != nil {
		w.t.Fatal(err)
	}
	target := "/v1/operations/" + domain.OperationOf("police", domain.RoleOperator, key) + "/signature"
	status, answer, err := send(w.t.Context(), signing.Request{Method: http.MethodPost, Target: target, Body: body})
	if err == nil {
		err = json.Unmarshal(answer, &o)
	}
	if err != nil && status < 300 {
		w.t.Fatal(err)
	}
	return o, status
}

// entries counts the transactions that wrote an entry.
func (w *world) entries(r signing.Request) (n int) {
	w.t.Helper()
	var c struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(r.Body, &c); err != nil {
		w.t.Fatal(err)
	}
	end := errors.New("the last block")
	err := w.chain.Ledger("police").Blocks(w.t.Context(), 0, func(b domain.Block) error {
		for _, tx := range b.Transactions {
			if tx.Valid() && slices.ContainsFunc(tx.Writes, func(write domain.Write) bool { return write.Key == domain.KeyOf(domain.KindCatalogEntry, c.Code) }) {
				n++
			}
		}
		if b.Number+1 == w.chain.Height() {
			return end
		}
		return nil
	})
	if !errors.Is(err, end) {
		w.t.Fatal(err)
	}
	return n
}

// TestSignaturesThatAreRefused posts what is no signature of the step at hand.
func TestSignaturesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	person, other := home("police", domain.RoleOperator, ""), home("police", domain.RoleOperator, " another")
	send, r := w.serve("police", person.Cert, ""), w.draft()
	asked := w.asks(person, r, "key")
	if asked.Step != api.SigningStepProposal || asked.Certificate != identity.Fingerprint(person.Cert) || asked.Digest != domain.Digest(asked.Message) {
		t.Errorf("asked for %+v", asked)
	}
	good := person.Sign(asked.Message)
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(good, &pair); err != nil {
		t.Fatal(err)
	}
	pair.S.Sub(person.Key.Params().N, pair.S)
	high, err := asn1.Marshal(pair)
	if err != nil {
		t.Fatal(err)
	}
	for name, signature := range map[string][]byte{
		"of another key": other.Sign(asked.Message), "of another message": person.Sign([]byte("x")), "high S": high, "bytes behind": append(slices.Clone(good), 0),
	} {
		if _, status := w.posts(send, "key", api.SigningStepProposal, signature); status != http.StatusBadRequest {
			t.Errorf("%s: status %d", name, status)
		}
	}
	if _, status := w.posts(send, "key", api.SigningStepTransaction, good); status != http.StatusConflict {
		t.Errorf("the second step first: status %d", status)
	}
	if _, status := w.posts(send, "no such key", api.SigningStepProposal, good); status != http.StatusNotFound {
		t.Errorf("an operation that nobody asked for: status %d", status)
	}
	reviewer := home("police", domain.RoleReviewer, "")
	if _, status := w.posts(w.serve("police", reviewer.Cert, ""), "key", api.SigningStepProposal, good); status != http.StatusForbidden {
		t.Errorf("another role: status %d", status)
	}

	again := w.asks(person, r, "key")
	if !bytes.Equal(again.Message, asked.Message) {
		t.Error("asked again, another proposal is to be signed")
	}
	next, _ := w.posts(send, "key", api.SigningStepProposal, good)
	if next.State != api.OperationStateUnsigned || next.Signing == nil || next.Signing.Step != api.SigningStepTransaction || !bytes.Equal(next.Signing.Proposal, asked.Message) {
		t.Fatalf("after the proposal: %+v", next)
	}
	if same, _ := w.posts(send, "key", api.SigningStepProposal, good); same.Signing == nil || !bytes.Equal(same.Signing.Message, next.Signing.Message) {
		t.Errorf("the proposal signed again: %+v", same)
	}
	if _, status := w.posts(send, "key", api.SigningStepTransaction, good); status != http.StatusBadRequest {
		t.Errorf("the proposal's signature for the transaction: status %d", status)
	}
	path := "/v1/operations/" + next.ID
	if o := decode[api.Operation](t, w.do("police operator", http.MethodGet, path, "")); o.State != api.OperationStateUnsigned || o.Signing == nil {
		t.Errorf("asked for by its role: %+v", o)
	}
	if o := decode[api.Operation](t, w.do("police auditor", http.MethodGet, path, "")); o.State != api.OperationStateUnsigned || o.Signing != nil {
		t.Errorf("asked for by another role: %+v", o)
	}
	if w.entries(r) != 0 {
		t.Error("written before it is signed")
	}

	w.know("police", person)
	if _, status := w.posts(w.serve("police", nil, domain.RoleOperator), "key", api.SigningStepTransaction, person.Sign(next.Signing.Message)); status != http.StatusForbidden {
		t.Errorf("a revoked certificate: status %d", status)
	}
	w.know("police", nil)
	done, _ := w.posts(send, "key", api.SigningStepTransaction, person.Sign(next.Signing.Message))
	if done.State != api.OperationStateCommitted || done.Block == 0 || w.entries(r) != 1 {
		t.Fatalf("signed twice: %+v, %d entries", done, w.entries(r))
	}
	for _, step := range []api.SigningStep{api.SigningStepProposal, api.SigningStepTransaction} {
		if same, _ := w.posts(send, "key", step, person.Sign(next.Signing.Message)); same.TransactionID != done.TransactionID || same.State != done.State {
			t.Errorf("%s signed after the end: %+v", step, same)
		}
	}
	if w.entries(r) != 1 {
		t.Errorf("%d entries", w.entries(r))
	}
}

// TestSignatureIsLogged finds the transaction in the line of the signature, and nothing
// of what was signed.
func TestSignatureIsLogged(t *testing.T) {
	g := new(gateway)
	g.reset()
	cfg := g.config(io.Discard)
	var lines []requestlog.Entry
	cfg.Requests = func(e requestlog.Entry) { lines = append(lines, e) }
	kept := testOperation
	t.Cleanup(func() { testOperation = kept })
	testOperation.TxID = testTx
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := answer(h, "POST /v1/operations/{id}/signature")
	if w.Code != http.StatusOK || len(lines) != 1 || lines[0].TxID != testTx || lines[0].Route != "/v1/operations/:id/signature" {
		t.Errorf("status %d, lines %+v", w.Code, lines)
	}
}

// TestLyingGateway has a gateway that wants something else signed.
func TestLyingGateway(t *testing.T) {
	w := newWorld(t)
	person := home("police", domain.RoleOperator, "")
	s := w.signer("police", person, w.serve("police", person.Cert, ""))
	r, wanted := w.draft(), w.draft()
	foreign := w.asks(person, wanted, "foreign")
	for _, tt := range []struct {
		name   string
		change func(*api.Signing)
	}{
		{"another proposal", func(asked *api.Signing) { asked.Message = foreign.Message }},
		{"another argument", func(asked *api.Signing) {
			asked.Message = bytes.Replace(asked.Message, []byte("户籍管理"), []byte("户籍管埋"), 1)
		}},
		{"a transaction in place of the proposal", func(asked *api.Signing) { asked.Step, asked.Proposal = api.SigningStepTransaction, asked.Message }},
		{"another transaction", func(asked *api.Signing) {
			if asked.Step == api.SigningStepTransaction {
				asked.Message = bytes.Replace(asked.Message, []byte("户籍管理"), []byte("户籍管埋"), 1)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.change = func(answer []byte) []byte {
				var told map[string]json.RawMessage
				var asked api.Signing
				if json.Unmarshal(answer, &told) != nil || told["signing"] == nil || json.Unmarshal(told["signing"], &asked) != nil {
					return answer
				}
				tt.change(&asked)
				told["signing"], _ = json.Marshal(asked)
				changed, _ := json.Marshal(told)
				return changed
			}
			defer func() { w.change = nil }()
			var caught *signing.ForeignError
			if out, err := s.Write(t.Context(), r, strings.ReplaceAll(tt.name, " ", "-")); !errors.As(err, &caught) {
				t.Errorf("signed: %+v, %v", out, err)
			}
			if w.entries(r)+w.entries(wanted) != 0 {
				t.Error("something was written")
			}
		})
	}
}

// TestSigningBroken loses each answer on the way of a write in turn, and forgets what
// waits: sent again under its key it is done, once.
func TestSigningBroken(t *testing.T) {
	w := newWorld(t)
	person := home("police", domain.RoleOperator, "")
	s := w.signer("police", person, w.serve("police", person.Cert, ""))
	for lost := 1; lost <= 3; lost++ {
		for _, forgotten := range []bool{false, true} {
			t.Run(fmt.Sprintf("answer %d, forgotten %v", lost, forgotten), func(t *testing.T) {
				r, key, sent := w.draft(), fmt.Sprintf("broken-%d-%v", lost, forgotten), 0
				w.cut = func(*http.Request) bool { sent++; return sent == lost }
				if _, err := s.Write(t.Context(), r, key); !errors.Is(err, errLost) {
					t.Fatalf("got %v", err)
				}
				w.cut = nil
				if forgotten {
					w.now.Add((11 * time.Minute).Milliseconds())
				}
				first, err := s.Write(t.Context(), r, key)
				if err != nil {
					t.Fatal(err)
				}
				if n := w.entries(r); n != 1 {
					t.Errorf("written %d times", n)
				}
				again, err := s.Write(t.Context(), r, key)
				if err != nil || again.Answer == nil {
					t.Errorf("asked again: %+v, %v", again, err)
				}
				if lost == 3 && first.Answer == nil {
					t.Error("what was committed had to be signed again")
				}
			})
		}
	}
}

// TestSigningExpires signs too late, and after another one won.
func TestSigningExpires(t *testing.T) {
	w := newWorld(t)
	person := home("police", domain.RoleOperator, "")
	send, r := w.serve("police", person.Cert, ""), w.draft()
	asked := w.asks(person, r, "late")
	w.now.Add((11 * time.Minute).Milliseconds())
	if _, status := w.posts(send, "late", api.SigningStepProposal, person.Sign(asked.Message)); status != http.StatusNotFound {
		t.Errorf("too late: status %d", status)
	}
	if anew := w.asks(person, r, "late"); bytes.Equal(anew.Message, asked.Message) {
		t.Error("the old proposal is to be signed")
	}

	admin := home("bigdata", domain.RoleAdmin, "")
	calendar := func(source string) signing.Request {
		return signing.Request{Method: http.MethodPost, Target: "/v1/calendars", Body: []byte(`{"year":2031,"daysOff":["2031-01-01"],"workdays":[],"source":"` + source + `"}`)}
	}
	raced, transactions := false, 0
	serve := w.serve("bigdata", admin.Cert, "")
	s := w.signer("bigdata", admin, func(ctx context.Context, sent signing.Request) (int, []byte, error) {
		if strings.Contains(string(sent.Body), `"transaction"`) {
			if transactions++; !raced { // endorsed, and not ordered
				raced = true
				w.sign("bigdata admin", calendar("另一来源").Target, string(calendar("另一来源").Body))
			}
		}
		return serve(ctx, sent)
	})
	if out, err := s.Write(t.Context(), calendar("来源"), "race"); err != nil || out.Operation.State != api.OperationStateCommitted || transactions != 2 {
		t.Errorf("a lost race: %+v, %v, %d transactions signed", out.Operation, err, transactions)
	}
}

// TestWhoMaySign names certificates in every way.
func TestWhoMaySign(t *testing.T) {
	w := newWorld(t)
	one, two := home("police", domain.RoleOperator, " 1"), home("police", domain.RoleOperator, " 2")
	reviewer, stranger := home("police", domain.RoleReviewer, ""), home("civil", domain.RoleOperator, "")
	revoked := home("police", domain.RoleOperator, " revoked")
	for _, tt := range []struct {
		name      string
		known     []*prooftest.Identity
		presented *prooftest.Identity // nil: a token
		prefer    string
		noKey     bool
		status    int
		signer    *prooftest.Identity
	}{
		{name: "the connection's", presented: one, prefer: "sign-offline", status: 202, signer: one},
		{name: "the connection's, named", presented: one, prefer: `sign-offline="` + identity.Fingerprint(one.Cert) + `"`, status: 202, signer: one},
		{name: "another than the connection's", known: []*prooftest.Identity{two}, presented: one, prefer: "sign-offline=" + identity.Fingerprint(two.Cert), status: 202, signer: two},
		{name: "the only one", known: []*prooftest.Identity{reviewer, one}, prefer: "respond-async, sign-offline", status: 202, signer: one},
		{name: "one of two", known: []*prooftest.Identity{one, two}, prefer: "sign-offline", status: 403},
		{name: "one of two, named", known: []*prooftest.Identity{one, two}, prefer: "sign-offline=" + identity.Fingerprint(two.Cert), status: 202, signer: two},
		{name: "none", prefer: "sign-offline", status: 403},
		{name: "unknown", known: []*prooftest.Identity{one}, prefer: "sign-offline=" + identity.Fingerprint(two.Cert), status: 403},
		{name: "of another role", known: []*prooftest.Identity{reviewer}, prefer: "sign-offline=" + identity.Fingerprint(reviewer.Cert), status: 403},
		{name: "of another department", known: []*prooftest.Identity{stranger}, prefer: "sign-offline=" + identity.Fingerprint(stranger.Cert), status: 403},
		{name: "revoked", known: []*prooftest.Identity{revoked}, prefer: "sign-offline=" + identity.Fingerprint(revoked.Cert), status: 403},
		{name: "no fingerprint", known: []*prooftest.Identity{one}, prefer: "sign-offline=abc", status: 400},
		{name: "without a key", known: []*prooftest.Identity{one}, prefer: "sign-offline", noKey: true, status: 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.know("police", revoked, tt.known...)
			r := w.draft()
			r.Header = http.Header{"Prefer": {tt.prefer}}
			if !tt.noKey {
				r.Header.Set(idempotencyKey, fmt.Sprint("who-", w.numbers.Add(1)))
			}
			send := w.serve("police", nil, domain.RoleOperator)
			if tt.presented != nil {
				send = w.serve("police", tt.presented.Cert, "")
			}
			status, body, _ := send(t.Context(), r)
			if status != tt.status {
				t.Fatalf("status %d, want %d", status, tt.status)
			}
			var told api.OutcomeUnknown
			if tt.signer == nil {
				return
			}
			if err := json.Unmarshal(body, &told); err != nil || told.Signing == nil || told.Signing.Certificate != identity.Fingerprint(tt.signer.Cert) {
				t.Errorf("%v: %s", err, body)
			}
		})
	}
}

// TestTooManyUnsigned leaves writes unsigned until there is no place for more.
func TestTooManyUnsigned(t *testing.T) {
	w := newWorld(t)
	person := home("police", domain.RoleOperator, "")
	for n := range 16 {
		w.asks(person, w.draft(), fmt.Sprint("key-", n))
	}
	r := w.draft()
	r.Header = http.Header{idempotencyKey: {"one-more"}, "Prefer": {"sign-offline"}}
	status, _, err := w.serve("police", person.Cert, "")(t.Context(), r)
	if status != http.StatusTooManyRequests || !strings.Contains(err.Error(), `"rate_limited"`) {
		t.Errorf("status %d: %v", status, err)
	}
	w.asks(home("police", domain.RoleOperator, " another"), w.draft(), "of-another")
	w.now.Add((11 * time.Minute).Milliseconds())
	w.asks(person, r, "one-more")

	other := w.draft()
	other.Header = r.Header
	if status, _, err := w.serve("police", person.Cert, "")(t.Context(), other); status != http.StatusConflict {
		t.Errorf("another request under the same key: status %d, %v", status, err)
	}
}
