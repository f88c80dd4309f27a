package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/interchange"
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
	rules        map[domain.DeadlineEvent]*domain.DeadlineRule
	calendars    map[int]*domain.Calendar
	names        map[string]string // the codes of the entries that have them
	operations   map[string]any    // answers by department and key
	logs         map[domain.DepartmentCode]*domain.LogRegistration
	entries      map[string]*domain.CatalogEntry
	requests     map[string]*domain.ShareRequest
	grants       map[string]*domain.Grant
	certificates map[string]*domain.Certificate
	issuers      map[string]*domain.Authorisation
	accesses     map[domain.DepartmentCode][]domain.AccessRecord
	transactions map[string]uint64 // block by id
	asked        int               // requests of any kind
	writes       int               // committed transactions and log appends
	batches      int               // of the writes, batches of catalog entries

	// fault may answer a request itself, before it is carried out (then true),
	// or be nil. after is called once the request is carried out and may panic
	// with http.ErrAbortHandler to lose the answer.
	fault func(w http.ResponseWriter, r *http.Request) bool
	after func(r *http.Request)
}

func newFakeConsortium(t *testing.T) *fakeConsortium {
	t.Helper()
	return newFakeConsortiumOf(t, prooftest.New(), "bigdata")
}

func newFakeConsortiumOf(t *testing.T, c *prooftest.Consortium, lead domain.DepartmentCode) *fakeConsortium {
	t.Helper()
	f := &fakeConsortium{
		Consortium: c, folder: t.TempDir(), urls: make(map[domain.DepartmentCode]string),
		rules: make(map[domain.DeadlineEvent]*domain.DeadlineRule), calendars: make(map[int]*domain.Calendar),
		names: make(map[string]string), operations: make(map[string]any),
		logs:     make(map[domain.DepartmentCode]*domain.LogRegistration),
		entries:  make(map[string]*domain.CatalogEntry),
		requests: make(map[string]*domain.ShareRequest), grants: make(map[string]*domain.Grant),
		certificates: make(map[string]*domain.Certificate), issuers: make(map[string]*domain.Authorisation),
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
	put([]byte("lead: "+string(lead)+"\n"), "consortium.yaml")
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
	refusalOfFields(w, status, code, detail, "", nil)
}

func refusalOfFields(w http.ResponseWriter, status int, code api.ProblemCode, detail, state string, fields []api.FieldFinding) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Problem{
		Type: "https://zhenglian.example/problems/" + string(code), Title: string(code), Status: status, Code: code,
		Detail: detail, State: state, Fields: fields, TraceID: "t",
	})
}

// refuse answers a refusal by the domain as a gateway does.
func refuse(w http.ResponseWriter, err error) {
	kind := domain.KindOf(err)
	status := map[domain.Kind]int{domain.Invalid: 400, domain.Forbidden: 403, domain.NotFound: 404, domain.Exists: 409, domain.Conflict: 409, domain.WrongState: 409}[kind]
	if status == 0 {
		refusal(w, 500, api.ProblemCodeInternal, err.Error())
		return
	}
	code := api.ProblemCode(kind)
	if kind == domain.WrongState {
		code = api.ProblemCodeConflict
	}
	var fields []api.FieldFinding
	for _, f := range domain.Findings(err) {
		pointer := "/" + strings.NewReplacer("[", "/", "]", "", ".", "/").Replace(f.Field)
		fields = append(fields, api.FieldFinding{Field: pointer, Rule: f.Rule, Zh: f.Zh, En: f.En})
	}
	refusalOfFields(w, status, code, err.Error(), domain.StateOf(err), fields)
}

// call is what a transaction of a department knows. The caller holds the lock.
func (f *fakeConsortium) call(who domain.Caller) domain.Call {
	call := domain.Call{Who: who, Tx: f.tx()}
	for _, d := range f.departments {
		if d.Code == who.Department {
			call.Dept = d
		}
		if d.Lead {
			call.Lead = d.Code
		}
	}
	for _, rule := range f.rules {
		call.Deadlines.Rules = append(call.Deadlines.Rules, *rule)
	}
	for _, calendar := range f.calendars {
		call.Deadlines.Calendars = append(call.Deadlines.Calendars, *calendar)
	}
	return call
}

// write stores what a catalog transaction changes.
func (f *fakeConsortium) write(changes ...domain.CatalogChange) []domain.CatalogEntry {
	var entries []domain.CatalogEntry
	for _, c := range changes {
		f.entries[c.Entry.Content.Code] = &c.Entry
		if c.TakenName != "" {
			f.names[c.TakenName] = c.Entry.Content.Code
		}
		entries = append(entries, c.Entry)
	}
	return entries
}

// batch commits the changes of a batch.
func (f *fakeConsortium) batch(call domain.Call, changes []domain.CatalogChange) (int, any) {
	var result domain.BatchResult
	for _, e := range f.write(changes...) {
		result.Codes, result.State = append(result.Codes, e.Content.Code), e.State
	}
	f.batches++
	_, answer := f.commit(call.Tx, nil)
	answer.(map[string]any)["result"] = result
	return http.StatusOK, answer
}

// each runs a rule for every code of a batch, all or nothing.
func (f *fakeConsortium) each(codes []string, rule func(code string) (domain.CatalogChange, error)) ([]domain.CatalogChange, error) {
	var changes []domain.CatalogChange
	for _, code := range codes {
		change, err := rule(code)
		if err != nil {
			return nil, err
		}
		changes = append(changes, change)
	}
	return changes, nil
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
			operation := string(d.Code) + " " + r.Header.Get("Idempotency-Key")
			status, answer, err := http.StatusOK, f.operations[operation], error(nil)
			if answer == nil {
				status, answer, err = do(r, who)
			}
			if err == nil && r.Header.Get("Idempotency-Key") != "" {
				f.operations[operation] = answer
			}
			if f.after != nil {
				f.after(r)
			}
			if err != nil {
				refuse(w, err)
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
		dept, _, err := domain.RegisterDepartment(f.departments, who, tx, args)
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
	handle("GET /v1/calendars", func(*http.Request, domain.Caller) (int, any, error) { return page(f.calendars) })
	handle("GET /v1/rules", func(*http.Request, domain.Caller) (int, any, error) { return page(f.rules) })
	handle("POST /v1/calendars", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.SetCalendarArgs](r)
		if err != nil {
			return 0, nil, err
		}
		call := f.call(who)
		calendar, err := domain.SetCalendar(f.calendars[args.Year], call, args)
		if err != nil {
			return 0, nil, err
		}
		f.calendars[args.Year] = &calendar
		status, answer := f.commit(call.Tx, calendar)
		return status, answer, nil
	})
	handle("POST /v1/rules", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.SetRuleArgs](r)
		if err != nil {
			return 0, nil, err
		}
		call := f.call(who)
		rule, err := domain.SetRule(f.rules[args.Event], call, args)
		if err != nil {
			return 0, nil, err
		}
		f.rules[args.Event] = &rule
		status, answer := f.commit(call.Tx, rule)
		return status, answer, nil
	})
	handle("POST /v1/catalog/batches/register", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.RegisterBatchArgs](r)
		if err != nil {
			return 0, nil, err
		}
		existing, taken := make([]*domain.CatalogEntry, len(args.Contents)), make([]string, len(args.Contents))
		missing := []string{}
		for i, c := range args.Contents {
			existing[i], taken[i] = f.entries[c.Code], f.names[domain.CatalogNameID(d.Code, c.Name)]
			for _, related := range c.RelatedCodes {
				if f.entries[related] == nil && !slices.ContainsFunc(args.Contents, func(c domain.CatalogContent) bool { return c.Code == related }) {
					missing = append(missing, related)
				}
			}
		}
		call := f.call(who)
		if call.Dept.Code == "" {
			return 0, nil, &domain.Error{Kind: domain.Forbidden, Msg: "not registered"}
		}
		changes, err := domain.RegisterCatalogBatch(existing, taken, missing, call, args)
		if err != nil {
			return 0, nil, err
		}
		_, answer := f.batch(call, changes)
		return http.StatusCreated, answer, nil
	})
	handle("POST /v1/catalog/batches/review", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.ReviewBatchArgs](r)
		if err != nil {
			return 0, nil, err
		}
		call := f.call(who)
		changes, err := f.each(args.Codes, func(code string) (domain.CatalogChange, error) {
			return domain.ReviewCatalog(f.entries[code], nil, call, domain.ReviewCatalogArgs{Code: code, Decision: args.Decision, Opinion: args.Opinion})
		})
		if err != nil {
			return 0, nil, err
		}
		status, answer := f.batch(call, changes)
		return status, answer, nil
	})
	handle("POST /v1/catalog/batches/publish", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.CodesArgs](r)
		if err != nil {
			return 0, nil, err
		}
		call := f.call(who)
		changes, err := f.each(args.Codes, func(code string) (domain.CatalogChange, error) {
			return domain.PublishCatalog(f.entries[code], call, domain.CodeArgs{Code: code})
		})
		if err != nil {
			return 0, nil, err
		}
		status, answer := f.batch(call, changes)
		return status, answer, nil
	})
	handle("GET /v1/catalog/export", func(r *http.Request, _ domain.Caller) (int, any, error) {
		contents := func(yield func(domain.CatalogContent, error) bool) {
			for _, code := range slices.Sorted(maps.Keys(f.entries)) {
				if state := r.URL.Query().Get("state"); state != "" && state != string(f.entries[code].State) {
					continue
				}
				if !yield(f.entries[code].Content, nil) {
					return
				}
			}
		}
		var out bytes.Buffer
		var err error
		if r.URL.Query().Get("format") == "csv" {
			err = interchange.WriteCSV(&out, contents)
		} else {
			err = interchange.WriteDCAT(&out, interchange.CatalogMeta{EntryAddress: f.urls[d.Code] + "/v1/catalog/entries/"}, contents)
		}
		return 200, out.Bytes(), err
	})
	handle("GET /v1/catalog/entries/{code}", func(r *http.Request, _ domain.Caller) (int, any, error) {
		entry := f.entries[r.PathValue("code")]
		if entry == nil {
			return 0, nil, missing("entry")
		}
		return 200, map[string]any{"record": entry, "block": 1, "txId": entry.TxID}, nil
	})
	handle("POST /v1/requests", func(r *http.Request, who domain.Caller) (int, any, error) {
		content, err := decodeBody[domain.ShareRequestContent](r)
		if err != nil {
			return 0, nil, err
		}
		call := f.call(who)
		change, err := domain.RequestShare(f.requests[content.ID], f.entries[content.CatalogCode], call, content)
		if err != nil {
			return 0, nil, err
		}
		_, answer := f.moved(call, change)
		return http.StatusCreated, answer, nil
	})
	action := func(name string, do func(request *domain.ShareRequest, version *domain.CatalogVersion, call domain.Call, id string, r *http.Request) (domain.SharingChange, error)) {
		handle("POST /v1/requests/{id}/actions/"+name, func(r *http.Request, who domain.Caller) (int, any, error) {
			id, call := r.PathValue("id"), f.call(who)
			var version *domain.CatalogVersion
			if request := f.requests[id]; request != nil {
				inForce := f.entries[request.Content.CatalogCode].InForce()
				version = &inForce
			}
			change, err := do(f.requests[id], version, call, id, r)
			if err != nil {
				return 0, nil, err
			}
			status, answer := f.moved(call, change)
			return status, answer, nil
		})
	}
	action("accept", func(request *domain.ShareRequest, version *domain.CatalogVersion, call domain.Call, id string, r *http.Request) (domain.SharingChange, error) {
		args, err := decodeBody[domain.AcceptArgs](r)
		if args.ID = id; err != nil {
			return domain.SharingChange{}, err
		}
		return domain.AcceptShare(request, version, call, args)
	})
	action("extend", func(request *domain.ShareRequest, _ *domain.CatalogVersion, call domain.Call, id string, r *http.Request) (domain.SharingChange, error) {
		args, err := decodeBody[domain.ExtendArgs](r)
		if args.ID = id; err != nil {
			return domain.SharingChange{}, err
		}
		return domain.ExtendShare(request, call, args)
	})
	action("decide-extension", func(request *domain.ShareRequest, _ *domain.CatalogVersion, call domain.Call, id string, r *http.Request) (domain.SharingChange, error) {
		args, err := decodeBody[domain.DecideExtensionArgs](r)
		if args.ID = id; err != nil {
			return domain.SharingChange{}, err
		}
		return domain.DecideExtension(request, call, args)
	})
	action("answer", func(request *domain.ShareRequest, version *domain.CatalogVersion, call domain.Call, id string, r *http.Request) (domain.SharingChange, error) {
		args, err := decodeBody[domain.AnswerArgs](r)
		if args.ID = id; err != nil {
			return domain.SharingChange{}, err
		}
		return domain.AnswerShare(request, version, call, args)
	})
	action("deliver", func(request *domain.ShareRequest, _ *domain.CatalogVersion, call domain.Call, id string, r *http.Request) (domain.SharingChange, error) {
		args, err := decodeBody[domain.DeliverArgs](r)
		if args.ID = id; err != nil {
			return domain.SharingChange{}, err
		}
		return domain.DeliverShare(request, call, args)
	})
	action("confirm", func(request *domain.ShareRequest, _ *domain.CatalogVersion, call domain.Call, id string, r *http.Request) (domain.SharingChange, error) {
		args, err := decodeBody[domain.ConfirmArgs](r)
		if args.ID = id; err != nil {
			return domain.SharingChange{}, err
		}
		return domain.ConfirmShare(request, call, args)
	})
	handle("GET /v1/requests/{id}", func(r *http.Request, _ domain.Caller) (int, any, error) {
		request := f.requests[r.PathValue("id")]
		if request == nil {
			return 0, nil, missing("request")
		}
		return 200, map[string]any{"record": request, "block": 1, "txId": request.TxID}, nil
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
			record.Schema, record.LoggedAt, record.GrantSeq = domain.SchemaAccessRecord, time.Now().UTC(), 1
			if err := record.Validate(); err != nil {
				return 0, nil, err
			}
			grant := f.grants[record.GrantID]
			if grant == nil {
				return 0, nil, missing("grant")
			}
			record.GrantSeq = grant.Seq
			if record.Writer() != d.Code {
				return 0, nil, &domain.Error{Kind: domain.Forbidden, Msg: "belongs to another department's log"}
			}
			if err := domain.Admit(*grant, *record, domain.Used{Total: int64(i), Today: int64(i), LastMinute: int64(i)}); err != nil {
				return 0, nil, err
			}
		}
		var receipts []api.AccessReceipt
		for _, record := range body.Records {
			index := slices.IndexFunc(f.accesses[d.Code], func(r domain.AccessRecord) bool { return r.CallID == record.CallID })
			if index < 0 {
				index = len(f.accesses[d.Code])
				f.accesses[d.Code] = append(f.accesses[d.Code], record)
			}
			receipts = append(receipts, api.AccessReceipt{CallID: record.CallID, Index: int64(index)})
		}
		f.writes++
		return 200, api.AccessReceipts{Receipts: receipts}, nil
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
		change, err := domain.IssueCertificate(
			domain.IssueRecords{Existing: f.certificates[ref] != nil, Authorisation: f.issuers[domain.AuthorisationID(d.Code, in.TypeCode)]},
			domain.Call{Who: who, Dept: own(), Tx: tx},
			domain.IssueArgs{Content: domain.CertificateContent{
				Ref: ref, CertID: id, TypeCode: in.TypeCode, TypeNameZh: in.TypeNameZh, TypeNameEn: in.TypeNameEn,
				IssuerUSCC: own().USCC, HolderKind: string(in.HolderKind), HolderRef: domain.HolderCommitment(ref, in.HolderSaltedRef),
				IssuedAt: tx.Time.Truncate(time.Second), Validity: domain.Period(in.Validity), ServiceItem: in.ServiceItem,
				ContentDigest: domain.Digest([]byte(ref)), CheckCodeHash: domain.CheckCodeHash(ref, "7KQ2M9XW4B"), StatusIndex: len(f.certificates),
			}})
		if err != nil {
			return 0, nil, err
		}
		f.certificates[ref] = &change.Certificate
		status, answer := f.commit(tx, change.Certificate)
		answer.(map[string]any)["link"] = f.urls[d.Code] + "/v/" + ref + "#7KQ2M9XW4B"
		answer.(map[string]any)["checkCode"] = "7KQ2M9XW4B"
		return status, answer, nil
	})
	handle("GET /v1/issuers", func(*http.Request, domain.Caller) (int, any, error) { return page(f.issuers) })
	handle("POST /v1/issuers", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.AuthoriseArgs](r)
		if err != nil {
			return 0, nil, err
		}
		id, tx := domain.AuthorisationID(args.Issuer, args.TypeCode), f.tx()
		a, err := domain.Authorise(f.issuers[id], f.department(args.Issuer), domain.Call{Who: who, Dept: own(), Tx: tx}, args)
		if err != nil {
			return 0, nil, err
		}
		f.issuers[id] = &a
		status, answer := f.commit(tx, a)
		return status, answer, nil
	})
	handle("GET /v1/certificates", func(*http.Request, domain.Caller) (int, any, error) {
		items := []any{}
		for _, cert := range f.certificates {
			items = append(items, map[string]any{"record": cert, "block": 1, "txId": cert.TxID})
		}
		return 200, map[string]any{"items": items, "next": ""}, nil
	})
	handle("GET /v1/certificates/{ref}", func(r *http.Request, _ domain.Caller) (int, any, error) {
		cert := f.certificates[r.PathValue("ref")]
		if cert == nil {
			return 0, nil, missing("certificate")
		}
		return 200, map[string]any{"record": cert, "block": 1, "txId": cert.TxID}, nil
	})
	handle("POST /v1/certificates/{ref}/actions/propose", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.ProposeArgs](r)
		if err != nil {
			return 0, nil, err
		}
		args.Ref = r.PathValue("ref")
		tx := f.tx()
		change, err := domain.ProposeStatus(f.certificates[args.Ref], domain.Call{Who: who, Dept: own(), Tx: tx}, args)
		return f.certified(tx, change, err)
	})
	handle("POST /v1/certificates/{ref}/actions/decide", func(r *http.Request, who domain.Caller) (int, any, error) {
		args, err := decodeBody[domain.DecideArgs](r)
		if err != nil {
			return 0, nil, err
		}
		args.Ref = r.PathValue("ref")
		tx := f.tx()
		known := domain.DecideRecords{Existing: f.certificates[args.Ref]}
		if known.Existing != nil {
			known.Authorisation = f.issuers[domain.AuthorisationID(known.Existing.Issuer, known.Existing.Content.TypeCode)]
		}
		change, err := domain.DecideCertificate(known, domain.Call{Who: who, Dept: own(), Tx: tx}, args)
		return f.certified(tx, change, err)
	})
	handle("GET /v1/verify/{ref}", func(r *http.Request, _ domain.Caller) (int, any, error) {
		verdict := "not_found"
		if cert := f.certificates[r.PathValue("ref")]; cert != nil && cert.Status != domain.CertificateProposed && cert.Status != domain.CertificateRejected {
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
	// Operations have the first digits of the transaction that each came to.
	handle("GET /v1/operations/{id}", func(r *http.Request, _ domain.Caller) (int, any, error) {
		for id, block := range f.transactions {
			if id[:32] == r.PathValue("id") {
				return 200, map[string]any{"id": id[:32], "state": "committed", "transaction": "x:Y", "transactionId": id, "block": block, "acceptedAt": time.Now()}, nil
			}
		}
		return 0, nil, missing("operation")
	})
	return mux
}

// certified stores what a transaction on a certificate changes.
func (f *fakeConsortium) certified(tx domain.Tx, change domain.CertificateChange, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	f.certificates[change.Certificate.Content.Ref] = &change.Certificate
	_, answer := f.commit(tx, change.Certificate)
	return http.StatusOK, answer, nil
}

// department is a registered department, nil for none.
func (f *fakeConsortium) department(code domain.DepartmentCode) *domain.Department {
	for i := range f.departments {
		if f.departments[i].Code == code {
			return &f.departments[i]
		}
	}
	return nil
}

// moved stores what a transaction on a request changes.
func (f *fakeConsortium) moved(call domain.Call, change domain.SharingChange) (int, any) {
	f.requests[change.Request.Content.ID] = &change.Request
	if change.Grant != nil {
		f.grants[change.Grant.ID] = change.Grant
	}
	_, answer := f.commit(call.Tx, change.Request)
	return http.StatusOK, answer
}

// page is all records as one page.
func page[K cmp.Ordered, T any](records map[K]*T) (int, any, error) {
	items := []any{}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		items = append(items, map[string]any{"record": records[key], "block": 1, "txId": ""})
	}
	return 200, map[string]any{"items": items, "next": ""}, nil
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

// found registers every department and sets rules and calendars, as before an
// import.
func (f *fakeConsortium) found(t *testing.T) {
	t.Helper()
	lead := f.Department("bigdata")
	admin := domain.Caller{Department: lead.Code, MSPID: lead.MSPID, Role: domain.RoleAdmin}
	for _, code := range []domain.DepartmentCode{"bigdata", "police", "civil", "market"} {
		d := f.Department(code)
		dept, _, err := domain.RegisterDepartment(f.departments, admin, f.tx(),
			domain.RegisterDepartmentArgs{Code: d.Code, MSPID: d.MSPID, NameZh: d.NameZh, NameEn: d.NameEn, USCC: d.USCC, Lead: code == "bigdata"})
		if err != nil {
			t.Fatal(err)
		}
		f.departments = append(f.departments, dept)
	}
	for _, args := range sampleRules() {
		rule, err := domain.SetRule(nil, f.call(admin), args)
		if err != nil {
			t.Fatal(err)
		}
		f.rules[args.Event] = &rule
	}
	for _, args := range neededCalendars(time.Now()) {
		calendar, err := domain.SetCalendar(nil, f.call(admin), args)
		if err != nil {
			t.Fatal(err)
		}
		f.calendars[args.Year] = &calendar
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
