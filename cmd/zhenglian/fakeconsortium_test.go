package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// fakeConsortium is four gateways over one ledger in memory. The rules are the
// domain's own, so that what it accepts a real ledger accepts.
type fakeConsortium struct {
	*prooftest.Consortium
	folder string // a state folder as make up lays it out
	urls   map[domain.DepartmentCode]string

	mu           sync.Mutex
	departments  []domain.Department
	logs         map[domain.DepartmentCode]*domain.LogRegistration
	entries      map[string]*domain.CatalogEntry
	versions     map[string]*domain.CatalogVersion
	requests     map[string]*domain.ShareRequest
	grants       map[string]*domain.Grant
	certificates map[string]*domain.Certificate
	accesses     map[domain.DepartmentCode][]domain.AccessRecord
	transactions map[string]uint64 // block by id
	asked        int               // requests of any kind
	writes       int               // committed transactions and log appends

	// fault may answer a request itself, before it is carried out (then true),
	// or be nil. after is called once the request is carried out and may panic
	// with http.ErrAbortHandler to lose the answer.
	fault func(w http.ResponseWriter, r *http.Request) bool
	after func(r *http.Request)
}

func newFakeConsortium(t *testing.T) *fakeConsortium {
	t.Helper()
	f := &fakeConsortium{
		Consortium: prooftest.New(), folder: t.TempDir(), urls: make(map[domain.DepartmentCode]string),
		logs:    make(map[domain.DepartmentCode]*domain.LogRegistration),
		entries: make(map[string]*domain.CatalogEntry), versions: make(map[string]*domain.CatalogVersion),
		requests: make(map[string]*domain.ShareRequest), grants: make(map[string]*domain.Grant),
		certificates: make(map[string]*domain.Certificate),
		accesses:     make(map[domain.DepartmentCode][]domain.AccessRecord),
		transactions: make(map[string]uint64),
	}
	put := func(data []byte, parts ...string) {
		path := filepath.Join(append([]string{f.folder}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(f.TrustFile(), "trust", "consortium.json")
	put([]byte("lead: bigdata\n"), "consortium.yaml")
	for _, d := range f.Departments {
		server := httptest.NewServer(f.handler(d))
		t.Cleanup(server.Close)
		f.urls[d.Code] = server.URL
		put(fmt.Appendf(nil, `{"format":"zhenglian-gateway/1","publicUrl":%q}`, server.URL), "departments", string(d.Code), "gateway", "gateway.json")
		tokens := make(map[string]string)
		for _, role := range []domain.Role{domain.RoleAdmin, domain.RoleOperator, domain.RoleReviewer, domain.RoleAuditor} {
			tokens[string(role)] = fmt.Sprintf("zl_%s_%s", d.Code, role)
		}
		data, err := json.Marshal(tokens)
		if err != nil {
			t.Fatal(err)
		}
		put(data, "tokens", string(d.Code)+".json")
	}
	return f
}

// tx opens a transaction. The caller holds the lock.
func (f *fakeConsortium) tx() domain.Tx {
	id := domain.Digest([]byte(strconv.Itoa(len(f.transactions))))
	return domain.Tx{ID: domain.TxID(id), Time: time.Now().UTC().Truncate(time.Millisecond), Channel: f.Channel}
}

// commit counts a transaction and answers its record.
func (f *fakeConsortium) commit(tx domain.Tx, record any) (int, any) {
	f.writes++
	block := uint64(len(f.transactions) + 1)
	f.transactions[string(tx.ID)] = block
	return http.StatusCreated, map[string]any{"record": record, "block": block, "txId": tx.ID}
}

func refusal(w http.ResponseWriter, status int, code api.ProblemCode, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Problem{Type: "https://zhenglian.example/problems/" + string(code), Title: string(code), Status: status, Code: code, Detail: detail, TraceID: "t"})
}

func (f *fakeConsortium) handler(d *prooftest.Department) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request, who domain.Caller) (int, any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.asked++
			if f.fault != nil && f.fault(w, r) {
				return
			}
			who := domain.Caller{Department: d.Code, MSPID: d.MSPID}
			for _, role := range domain.Roles {
				if r.Header.Get("Authorization") == fmt.Sprintf("Bearer zl_%s_%s", d.Code, role) {
					who.Role = role
				}
			}
			public := strings.HasPrefix(r.URL.Path, "/v1/verify/") || r.URL.Path == "/v1/trust"
			if who.Role == "" && !public {
				refusal(w, http.StatusUnauthorized, api.ProblemCodeUnauthenticated, "no token")
				return
			}
			status, answer, err := do(r, who)
			if f.after != nil {
				f.after(r)
			}
			if err != nil {
				kind := domain.KindOf(err)
				status := map[domain.Kind]int{domain.Invalid: 400, domain.Forbidden: 403, domain.NotFound: 404, domain.Exists: 409, domain.Conflict: 409}[kind]
				if status == 0 {
					refusal(w, 500, api.ProblemCodeInternal, err.Error())
					return
				}
				refusal(w, status, api.ProblemCode(kind), err.Error())
				return
			}
			if raw, ok := answer.([]byte); ok {
				_, _ = w.Write(raw)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(answer)
		})
	}
	missing := func(what string) error { return &domain.Error{Kind: domain.NotFound, Msg: what + " is not recorded"} }
	own := func() domain.Department {
		for _, dept := range f.departments {
			if dept.Code == d.Code {
				return dept
			}
		}
		return domain.Department{}
	}

	handle("POST /v1/departments", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.RegisterDepartmentArgs](r)
		if err != nil {
			return 0, nil, err
		}
		tx := f.tx()
		dept, err := domain.RegisterDepartment(f.departments, who, tx, args)
		if err != nil {
			return 0, nil, err
		}
		f.departments = append(f.departments, dept)
		status, answer := f.commit(tx, dept)
		return status, answer, nil
	})
	handle("POST /v1/logs", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.RegisterLogArgs](r)
		if err != nil {
			return 0, nil, err
		}
		tx := f.tx()
		log, err := domain.RegisterLog(f.logs[d.Code], who, tx, args)
		if err != nil {
			return 0, nil, err
		}
		f.logs[d.Code] = &log
		status, answer := f.commit(tx, log)
		return status, answer, nil
	})
	handle("GET /v1/logs", func(*http.Request, domain.Caller) (int, any, error) {
		items := []any{}
		for _, log := range f.logs {
			anchored := *log
			anchored.Size = uint64(len(f.accesses[log.Owner]))
			items = append(items, map[string]any{"record": anchored, "block": 1, "txId": ""})
		}
		return 200, map[string]any{"items": items, "next": ""}, nil
	})
	handle("POST /v1/catalog/entries", func(r *http.Request, who domain.Caller) (int, any, error) {
		content, err := decodeBody[domain.CatalogContent](r)
		if err != nil {
			return 0, nil, err
		}
		tx := f.tx()
		entry, version, err := domain.RegisterCatalog(f.entries[content.Code], who, own(), tx, domain.RegisterCatalogArgs{Content: content})
		if err != nil {
			return 0, nil, err
		}
		f.entries[content.Code], f.versions[content.Code] = &entry, &version
		status, answer := f.commit(tx, entry)
		return status, answer, nil
	})
	handle("GET /v1/catalog/entries/{code}", func(r *http.Request, _ domain.Caller) (int, any, error) {
		entry := f.entries[r.PathValue("code")]
		if entry == nil {
			return 0, nil, missing("entry")
		}
		return 200, map[string]any{"record": entry, "block": 1, "txId": entry.TxID}, nil
	})
	handle("POST /v1/catalog/entries/{code}/actions/review", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.ReviewCatalogArgs](r)
		if err != nil {
			return 0, nil, err
		}
		args.Code = r.PathValue("code")
		tx := f.tx()
		entry, err := domain.ReviewCatalog(f.entries[args.Code], who, own(), tx, args)
		if err != nil {
			return 0, nil, err
		}
		f.entries[args.Code] = &entry
		_, answer := f.commit(tx, entry)
		return 200, answer, nil
	})
	handle("POST /v1/catalog/entries/{code}/actions/publish", func(r *http.Request, who domain.Caller) (int, any, error) {
		code, tx := r.PathValue("code"), f.tx()
		entry, err := domain.PublishCatalog(f.entries[code], who, tx, domain.CodeArgs{Code: code})
		if err != nil {
			return 0, nil, err
		}
		f.entries[code] = &entry
		_, answer := f.commit(tx, entry)
		return 200, answer, nil
	})
	handle("POST /v1/requests", func(r *http.Request, who domain.Caller) (int, any, error) {
		content, err := decodeBody[domain.ShareRequestContent](r)
		if err != nil {
			return 0, nil, err
		}
		tx := f.tx()
		request, _, err := domain.RequestShare(f.requests[content.ID], who, tx, f.entries[content.CatalogCode], content)
		if err != nil {
			return 0, nil, err
		}
		f.requests[content.ID] = &request
		status, answer := f.commit(tx, request)
		return status, answer, nil
	})
	handle("POST /v1/requests/{id}/actions/answer", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.AnswerArgs](r)
		if err != nil {
			return 0, nil, err
		}
		args.ID = r.PathValue("id")
		var version *domain.CatalogVersion
		if request := f.requests[args.ID]; request != nil {
			version = f.versions[request.Content.CatalogCode]
		}
		tx := f.tx()
		request, _, grant, err := domain.AnswerShare(f.requests[args.ID], who, tx, version, args)
		if err != nil {
			return 0, nil, err
		}
		f.requests[args.ID] = &request
		if grant != nil {
			f.grants[grant.ID] = grant
		}
		_, answer := f.commit(tx, request)
		return 200, answer, nil
	})
	handle("GET /v1/grants/{id}", func(r *http.Request, _ domain.Caller) (int, any, error) {
		grant := f.grants[r.PathValue("id")]
		if grant == nil {
			return 0, nil, missing("grant")
		}
		return 200, map[string]any{"record": grant, "block": 1, "txId": grant.TxID}, nil
	})
	handle("POST /v1/access-records", func(r *http.Request, who domain.Caller) (int, any, error) {
		body, err := decodeBody[struct {
			Records []domain.AccessRecord `json:"records"`
		}](r)
		if err != nil {
			return 0, nil, err
		}
		if who.Role != domain.RoleOperator {
			return 0, nil, &domain.Error{Kind: domain.Forbidden, Msg: "for operators"}
		}
		if n := len(body.Records); n < 1 || n > 1000 {
			return 0, nil, &domain.Error{Kind: domain.Invalid, Msg: "1 to 1000 records"}
		}
		for i := range body.Records {
			record := &body.Records[i]
			record.Schema, record.LoggedAt = domain.SchemaAccessRecord, time.Now().UTC()
			if err := record.Validate(); err != nil {
				return 0, nil, err
			}
			grant := f.grants[record.GrantID]
			if grant == nil {
				return 0, nil, missing("grant")
			}
			if record.Writer() != d.Code {
				return 0, nil, &domain.Error{Kind: domain.Forbidden, Msg: "belongs to another department's log"}
			}
			if err := domain.Admit(*grant, *record, int64(i), int64(i)); err != nil {
				return 0, nil, err
			}
		}
		var receipts []api.AccessReceipt
		for _, record := range body.Records {
			receipts = append(receipts, api.AccessReceipt{CallID: record.CallID, Index: int64(len(f.accesses[d.Code]))})
			f.accesses[d.Code] = append(f.accesses[d.Code], record)
		}
		f.writes++
		return 200, api.AccessReceipts{Receipts: receipts}, nil
	})
	handle("GET /v1/audit/trace", func(r *http.Request, who domain.Caller) (int, any, error) {
		if who.Role != domain.RoleAuditor {
			return 0, nil, &domain.Error{Kind: domain.Forbidden, Msg: "for auditors"}
		}
		all := f.accesses[d.Code]
		from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		items := []any{}
		for i := from; i < min(from+limit, len(all)); i++ {
			items = append(items, map[string]any{"index": i, "leafHash": "", "record": all[i]})
		}
		next := ""
		if from+limit < len(all) {
			next = strconv.Itoa(from + limit)
		}
		return 200, map[string]any{"items": items, "next": next}, nil
	})
	handle("POST /v1/certificates", func(r *http.Request, who domain.Caller) (int, any, error) {
		in, err := decodeBody[api.IssueCertificate](r)
		if err != nil {
			return 0, nil, err
		}
		tx := f.tx()
		ref := string(tx.ID)[:32]
		id, err := domain.CertificateID{TypeCode: in.TypeCode, IssuerCode: own().USCC, Serial: in.Serial, Version: "001"}.Compose()
		if err != nil {
			return 0, nil, err
		}
		cert, _, _, err := domain.IssueCertificate(f.certificates[ref], nil, who, own(), tx, domain.IssueArgs{Content: domain.CertificateContent{
			Ref: ref, CertID: id, TypeCode: in.TypeCode, TypeNameZh: in.TypeNameZh, TypeNameEn: in.TypeNameEn,
			IssuerUSCC: own().USCC, HolderKind: string(in.HolderKind), HolderRef: domain.HolderCommitment(ref, in.HolderSaltedRef),
			IssuedAt: tx.Time.Truncate(time.Second), Validity: domain.Period(in.Validity), ServiceItem: in.ServiceItem,
			ContentDigest: in.ContentDigest, CheckCodeHash: domain.CheckCodeHash(ref, "7KQ2M9XW4B"),
		}})
		if err != nil {
			return 0, nil, err
		}
		f.certificates[ref] = &cert
		status, answer := f.commit(tx, cert)
		answer.(map[string]any)["link"] = f.urls[d.Code] + "/v/" + ref + "#7KQ2M9XW4B"
		answer.(map[string]any)["checkCode"] = "7KQ2M9XW4B"
		return status, answer, nil
	})
	handle("GET /v1/certificates", func(*http.Request, domain.Caller) (int, any, error) {
		items := []any{}
		for _, cert := range f.certificates {
			items = append(items, map[string]any{"record": cert, "block": 1, "txId": cert.TxID})
		}
		return 200, map[string]any{"items": items, "next": ""}, nil
	})
	handle("POST /v1/certificates/{ref}/actions/revoke", func(r *http.Request, who domain.Caller) (int, any, error) {
		act, err := decodeBody[domain.StatusAct](r)
		if err != nil {
			return 0, nil, err
		}
		ref, tx := r.PathValue("ref"), f.tx()
		cert, _, err := domain.RevokeCertificate(f.certificates[ref], who, tx, domain.RevokeArgs{Ref: ref, Act: act})
		if err != nil {
			return 0, nil, err
		}
		f.certificates[ref] = &cert
		_, answer := f.commit(tx, cert)
		return 200, answer, nil
	})
	handle("GET /v1/verify/{ref}", func(r *http.Request, _ domain.Caller) (int, any, error) {
		verdict := "not_found"
		if cert := f.certificates[r.PathValue("ref")]; cert != nil {
			verdict = string(cert.Status)
		}
		return 200, map[string]any{"verdict": verdict, "ref": r.PathValue("ref"), "asOf": time.Now().UTC(), "height": 1}, nil
	})
	handle("GET /v1/verify/{ref}/proof", func(r *http.Request, _ domain.Caller) (int, any, error) {
		cert := f.certificates[r.PathValue("ref")]
		if cert == nil {
			return 0, nil, missing("certificate")
		}
		s := f.Statement(domain.KindCertificate, cert.Content.Ref, prooftest.Nonce, prooftest.Seal(cert, &cert.Meta), string(cert.Status))
		s.AsOf = time.Now().UTC().Truncate(time.Millisecond)
		s.ValidUntil = s.AsOf.Add(domain.StatementLife)
		return 200, f.Attest(s).File(), nil
	})
	handle("GET /v1/trust", func(*http.Request, domain.Caller) (int, any, error) { return 200, f.TrustFile(), nil })
	handle("GET /v1/chain/transactions/{id}", func(r *http.Request, _ domain.Caller) (int, any, error) {
		block, ok := f.transactions[r.PathValue("id")]
		if !ok {
			return 0, nil, missing("transaction")
		}
		return 200, map[string]any{"block": block, "transaction": map[string]any{"id": r.PathValue("id"), "validationCode": "VALID"}}, nil
	})
	return mux
}

func decodeBody[T any](r *http.Request) (T, error) {
	var v T
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return v, &domain.Error{Kind: domain.Invalid, Msg: err.Error()}
	}
	return v, nil
}

// isWrite reports whether r would change something.
func isWrite(r *http.Request) bool { return r.Method == http.MethodPost }

// found lets the first department be there, as before an import.
func (f *fakeConsortium) found(t *testing.T) {
	t.Helper()
	for _, code := range []domain.DepartmentCode{"bigdata", "police"} {
		d := f.Department(code)
		lead := f.Department("bigdata")
		dept, err := domain.RegisterDepartment(f.departments,
			domain.Caller{Department: lead.Code, MSPID: lead.MSPID, Role: domain.RoleAdmin}, f.tx(),
			domain.RegisterDepartmentArgs{Code: d.Code, MSPID: d.MSPID, NameZh: d.NameZh, NameEn: d.NameEn, USCC: d.USCC, Lead: code == "bigdata"})
		if err != nil {
			t.Fatal(err)
		}
		f.departments = append(f.departments, dept)
	}
}

// runCommand runs the program and fails the test on another exit code.
func runCommand(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	if got := run(t.Context(), args, strings.NewReader(""), &out, &errs); got != want {
		t.Fatalf("zhenglian %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, want, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
