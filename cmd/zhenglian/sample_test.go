package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// checkLoaded fails unless the ledger holds the sample exactly once.
func (f *fakeConsortium) checkLoaded(t *testing.T, certificates int) {
	t.Helper()
	if got := len(f.departments); got != 4 {
		t.Errorf("%d departments", got)
	}
	if got := len(f.logs); got != 4 {
		t.Errorf("%d logs", got)
	}
	published := 0
	kinds := make(map[domain.ShareType]int)
	providers := make(map[domain.DepartmentCode]int)
	for _, e := range f.entries {
		if e.State == domain.CatalogPublished && e.Version == 1 {
			published++
		}
		kinds[e.Content.ShareType]++
		providers[e.Provider]++
	}
	if published != 12 {
		t.Errorf("%d published entries of version 1, want 12", published)
	}
	if diff := cmp.Diff(map[domain.DepartmentCode]int{"bigdata": 3, "civil": 3, "market": 3, "police": 3}, providers); diff != "" {
		t.Errorf("entries by provider (-want +got):\n%s", diff)
	}
	for _, kind := range []domain.ShareType{domain.Unconditional, domain.Conditional, domain.NotShared} {
		if kinds[kind] == 0 {
			t.Errorf("no entry of share type %d", kind)
		}
	}
	if got := len(f.rules); got != len(domain.DeadlineEvents) {
		t.Errorf("%d rules, want one for each event", got)
	}
	for _, year := range []int{2025, 2026, beijingYear(time.Now()), beijingYear(time.Now()) + 1} {
		c := f.calendars[year]
		if c == nil || c.Provisional != (year > 2026) || c.Version != 1 {
			t.Errorf("calendar of %d: %+v", year, c)
		}
	}
	states := make(map[domain.RequestState]int)
	for _, r := range f.requests {
		states[r.State]++
		if r.State == domain.RequestActive && !r.Unconditional && (r.Clock == nil && r.AnsweredIn < 0) {
			t.Errorf("request %s: %+v", r.Content.ID, r)
		}
		if r.State == domain.RequestRefused && len(r.LegalBasis) == 0 {
			t.Error("refused without basis")
		}
	}
	if diff := cmp.Diff(map[domain.RequestState]int{domain.RequestActive: 2, domain.RequestRefused: 1, domain.RequestAccepted: 1}, states); diff != "" || len(f.grants) != 2 {
		t.Errorf("%d grants; requests by state (-want +got):\n%s", len(f.grants), diff)
	}
	var calls [2][]string
	for i, d := range []domain.DepartmentCode{"police", "civil"} {
		for _, record := range f.accesses[d] {
			calls[i] = append(calls[i], record.CallID)
		}
		slices.Sort(calls[i])
	}
	if got := len(slices.Compact(slices.Clone(calls[0]))); got != 250 || len(calls[0]) != 250 {
		t.Errorf("%d access records of %d calls at the provider, want 250", len(calls[0]), got)
	}
	if diff := cmp.Diff(calls[0], calls[1]); diff != "" {
		t.Errorf("calls of provider and consumer differ:\n%s", diff)
	}
	valid := 0
	for _, c := range f.certificates {
		if c.Status == domain.CertificateValid {
			valid++
		}
	}
	if valid != 1 || len(f.certificates) != certificates {
		t.Errorf("%d certificates, %d of them valid; want %d, 1", len(f.certificates), valid, certificates)
	}
	// What is on disk verifies without any gateway.
	anchors, err := proof.ParseAnchors([]byte(mustRead(t, filepath.Join(f.folder, "sample", "consortium.json"))))
	if err != nil {
		t.Fatal(err)
	}
	verdict := proof.Verify([]byte(mustRead(t, filepath.Join(f.folder, "sample", "certificate.zlproof"))), anchors, proof.Options{At: time.Now()})
	if verdict.Overall != proof.Valid {
		t.Errorf("proof file: %q %s", verdict.Overall, verdict.Reason)
	}
}

func TestSample(t *testing.T) {
	f := newFakeConsortium(t)
	// What a department does about another's record must not meet a gateway that
	// has not seen it yet.
	asked, published := 0, uint64(0)
	f.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/requests" {
			return false
		}
		if asked++; asked == 1 {
			published = uint64(len(f.transactions))
		}
		if known, err := strconv.ParseUint(r.Header.Get("Min-Block"), 10, 64); err != nil || known < published {
			t.Errorf("a request for a published entry: Min-Block %q, published up to %d", r.Header.Get("Min-Block"), published)
		}
		return false
	}
	out, _ := runCommand(t, exitOK, "sample", "--state", f.folder)
	f.checkLoaded(t, 1)
	if asked == 0 {
		t.Error("no share request was looked at")
	}
	if f.writes != sampleWrites() {
		t.Errorf("%d writes, want %d", f.writes, sampleWrites())
	}
	link := regexp.MustCompile(`http://127\.0\.0\.1:\d+/v/[0-9a-f]{32}#[2-9A-HJ-NP-Z]{10}`).FindString(out)
	for _, want := range []string{
		f.urls["bigdata"], f.urls["police"], f.urls["civil"], f.urls["market"],
		filepath.Join(f.folder, "tokens", "police.json"), "▀", "[8/8]",
		"bin/zhenglian verify " + filepath.Join(f.folder, "sample", "certificate.zlproof") + " --trust " + filepath.Join(f.folder, "sample", "consortium.json"),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if link == "" || !strings.HasPrefix(link, f.urls["police"]) {
		t.Errorf("link %q is not of the issuer's gateway", link)
	}
	if info, err := os.Stat(filepath.Join(f.folder, "sample", "sample.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("sample.json: %v %v", info.Mode(), err)
	}

	t.Run("again", func(t *testing.T) {
		writes, asked := f.writes, f.asked
		again, _ := runCommand(t, exitOK, "sample", "--state", f.folder)
		if !strings.Contains(again, "nothing changed") || !strings.Contains(again, link) {
			t.Errorf("output:\n%s", again)
		}
		if f.writes != writes || f.asked-asked > 2 {
			t.Errorf("%d writes and %d requests in the second run", f.writes-writes, f.asked-asked)
		}
	})
	t.Run("print", func(t *testing.T) {
		asked := f.asked
		printed, _ := runCommand(t, exitOK, "sample", "--state", f.folder, "--print")
		if !strings.Contains(printed, link) || f.asked != asked {
			t.Errorf("asked %d times; output:\n%s", f.asked-asked, printed)
		}
	})
	t.Run("proof file gone", func(t *testing.T) {
		if err := os.Remove(filepath.Join(f.folder, "sample", "certificate.zlproof")); err != nil {
			t.Fatal(err)
		}
		writes := f.writes
		runCommand(t, exitOK, "sample", "--state", f.folder)
		f.checkLoaded(t, 1)
		if f.writes != writes {
			t.Errorf("%d writes", f.writes-writes)
		}
	})
	t.Run("revoked since", func(t *testing.T) {
		for _, c := range f.certificates {
			act := &domain.StatusAct{DocumentNo: "1", LegalBasis: "1", ReasonCode: "test", EffectiveAt: c.StatusSince}
			c.Status, c.StatusAct = domain.CertificateRevoked, act
			c.Changes = append(c.Changes, domain.StatusChange{Status: c.Status, Since: c.StatusSince, RecordedAt: c.StatusSince, Act: act})
		}
		writes := f.writes
		again, _ := runCommand(t, exitOK, "sample", "--state", f.folder)
		if !strings.Contains(again, "nothing changed") || f.writes != writes {
			t.Errorf("%d writes; output:\n%s", f.writes-writes, again)
		}
	})
}

// sampleWrites is how many writes the sample takes: 4 departments, the rules, the
// calendars, 4 logs, 16 of the catalog, the steps of the four requests, 4 batches
// of access records, one authorisation, one certificate and the decision on it.
func sampleWrites() int {
	return 4 + len(domain.DeadlineEvents) + len(neededCalendars(time.Now())) + 4 + 16 + (7 + 4 + 3 + 2) + 4 + 3
}

// TestSampleLeads: whichever department leads, another one decides what concerns
// the lead itself.
func TestSampleLeads(t *testing.T) {
	for _, lead := range []domain.DepartmentCode{"police", "civil", "market"} {
		t.Run(string(lead), func(t *testing.T) {
			f := newFakeConsortiumOf(t, prooftest.New(), lead)
			runCommand(t, exitOK, "sample", "--state", f.folder)
			f.checkLoaded(t, 1)
			for _, e := range f.entries {
				if want := map[bool]domain.Side{true: domain.SidePeer, false: domain.SideLead}[e.Provider == lead]; e.Reviewer != want {
					t.Errorf("%s of %s is reviewed by %s", e.Content.Code, e.Provider, e.Reviewer)
				}
			}
		})
	}
}

// TestSampleOtherSets: what the sample tells of departments that are no members
// is left out.
func TestSampleOtherSets(t *testing.T) {
	without := func(codes ...domain.DepartmentCode) *prooftest.Consortium {
		c := prooftest.New()
		c.Departments = slices.DeleteFunc(c.Departments, func(d *prooftest.Department) bool { return slices.Contains(codes, d.Code) })
		c.Quorum = len(c.Departments)/2 + 1
		return c
	}
	five := prooftest.New()
	five.Departments = append(five.Departments, prooftest.NewDepartment("works", "WorksMSP", "示例市住房和城乡建设局", "Works Bureau", "11430000006122244"))
	tests := []struct {
		name                                   string
		consortium                             *prooftest.Consortium
		lead                                   domain.DepartmentCode
		departments, entries, requests, grants int
	}{
		{"three", without("market"), "bigdata", 3, 9, 1, 1},
		{"three, another lead", without("bigdata"), "civil", 3, 9, 4, 2},
		{"three without the issuer", without("police"), "market", 3, 9, 2, 1},
		{"five", five, "works", 5, 12, 4, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeConsortiumOf(t, tt.consortium, tt.lead)
			out, _ := runCommand(t, exitOK, "sample", "--state", f.folder)
			if len(f.departments) != tt.departments || len(f.entries) != tt.entries || len(f.requests) != tt.requests || len(f.grants) != tt.grants {
				t.Errorf("%d departments, %d entries, %d requests, %d grants, want %+v\n%s", len(f.departments), len(f.entries), len(f.requests), len(f.grants), tt, out)
			}
			for _, e := range f.entries {
				if e.State != domain.CatalogPublished {
					t.Errorf("%s is %s", e.Content.Code, e.State)
				}
			}
			writes := f.writes
			if again, _ := runCommand(t, exitOK, "sample", "--state", f.folder); f.writes != writes || !strings.Contains(again, "nothing changed") {
				t.Errorf("%d writes the second time", f.writes-writes)
			}
		})
	}
}

// TestSampleKilledAnywhere loses the answer of write number n, stops there, and
// runs again: whatever n is, the ledger ends up with the sample once.
func TestSampleKilledAnywhere(t *testing.T) {
	total := sampleWrites()
	points := []int{1, 2, 5, 9, 13, 17, 22, 26, 30, 33, 36, 40, 44, 48, total - 1, total}
	for _, n := range points {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			t.Parallel()
			f := newFakeConsortium(t)
			count := 0
			f.after = func(r *http.Request) {
				if !isWrite(r) {
					return
				}
				if count++; count >= n {
					panic(http.ErrAbortHandler) // carried out, and nobody hears of it
				}
			}
			var out strings.Builder
			if code := run(t.Context(), []string{"sample", "--state", f.folder, "--patience", "1ms"}, strings.NewReader(""), &out, &out); code == exitOK {
				t.Fatalf("the first run went through:\n%s", out.String())
			}
			f.mu.Lock()
			f.after = nil
			issued := len(f.certificates)
			f.mu.Unlock()
			runCommand(t, exitOK, "sample", "--state", f.folder)
			// The check code of a certificate whose answer was lost is lost: that
			// certificate is refused and another one issued. The last write is the
			// decision, which loses nothing.
			want := issued + 1
			if n == total {
				want = issued
			}
			f.checkLoaded(t, want)
		})
	}
}

// TestSampleOutcomeUnknown lets every tenth write, and the certificate, answer
// 202: the command asks what became of it.
func TestSampleOutcomeUnknown(t *testing.T) {
	f := newFakeConsortium(t)
	count := 0
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if !isWrite(r) || r.URL.Path == "/v1/access-records" {
			return false
		}
		if count++; count%10 != 0 && r.URL.Path != "/v1/certificates" {
			return false
		}
		// Carry it out at a recorder, then answer that nobody knows.
		rec := &lostAnswer{header: make(http.Header)}
		fault := f.fault
		f.fault = nil
		f.mu.Unlock()
		f.handlerOf(r).ServeHTTP(rec, r)
		f.mu.Lock()
		f.fault = fault
		var done struct {
			TxID   string             `json:"txId"`
			Link   string             `json:"link"`
			Record domain.Certificate `json:"record"`
		}
		if rec.status >= 300 || json.Unmarshal(rec.body, &done) != nil {
			w.Header().Set("Content-Type", rec.header.Get("Content-Type"))
			w.WriteHeader(rec.status)
			_, _ = w.Write(rec.body)
			return true
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(api.OutcomeUnknown{
			TransactionID: done.TxID, Operation: "/v1/operations/" + done.TxID[:32], Link: done.Link, Ref: done.Record.Content.Ref,
		})
		return true
	}
	runCommand(t, exitOK, "sample", "--state", f.folder)
	if count < 20 {
		t.Errorf("only %d writes", count)
	}
	f.checkLoaded(t, 1)
}

// handlerOf is the gateway that a request was sent to.
func (f *fakeConsortium) handlerOf(r *http.Request) http.Handler {
	for _, d := range f.Departments {
		if f.urls[d.Code] == "http://"+r.Host {
			return f.handler(d)
		}
	}
	return http.NotFoundHandler()
}

type lostAnswer struct {
	header http.Header
	status int
	body   []byte
}

func (l *lostAnswer) Header() http.Header  { return l.header }
func (l *lostAnswer) WriteHeader(code int) { l.status = code }
func (l *lostAnswer) Write(b []byte) (int, error) {
	l.body = append(l.body, b...)
	return len(b), nil
}

func TestSampleRefusals(t *testing.T) {
	t.Run("no consortium", func(t *testing.T) {
		_, errs := runCommand(t, exitUsage, "sample", "--state", t.TempDir())
		if !strings.Contains(errs, "make up") {
			t.Errorf("no remedy in %q", errs)
		}
	})
	t.Run("print before load", func(t *testing.T) {
		f := newFakeConsortium(t)
		runCommand(t, exitFailed, "sample", "--state", f.folder, "--print")
		if f.asked != 0 {
			t.Errorf("asked %d times", f.asked)
		}
	})
	t.Run("damaged state", func(t *testing.T) {
		f := newFakeConsortium(t)
		if err := os.MkdirAll(filepath.Join(f.folder, "sample"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(f.folder, "sample", "sample.json"), []byte(`{"format":"x"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		_, errs := runCommand(t, exitFailed, "sample", "--state", f.folder)
		if !strings.Contains(errs, "make reset") {
			t.Errorf("no remedy in %q", errs)
		}
	})
	t.Run("forged proof", func(t *testing.T) {
		f := newFakeConsortium(t)
		f.Departments[0].Peer, f.Departments[1].Peer = f.Departments[0].Client, f.Departments[1].Client
		runCommand(t, exitProofRefused, "sample", "--state", f.folder)
		if _, err := os.Stat(filepath.Join(f.folder, "sample", "certificate.zlproof")); !os.IsNotExist(err) {
			t.Errorf("a proof that does not hold was kept: %v", err)
		}
	})
	t.Run("other trust anchors", func(t *testing.T) {
		f := newFakeConsortium(t)
		f.Quorum = 2
		_, errs := runCommand(t, exitFailed, "sample", "--state", f.folder)
		if !strings.Contains(errs, "other trust anchors") {
			t.Errorf("error %q", errs)
		}
	})
}

// TestSampleText holds the embedded records to the rules that no fake checks.
func TestSampleText(t *testing.T) {
	entries := sampleEntries()
	if len(entries) != 12 {
		t.Fatalf("%d entries", len(entries))
	}
	codes, names := make(map[string]bool), make(map[string]bool)
	for _, e := range entries {
		if codes[e.Content.Code] || names[domain.PlainName(e.Content.Name)] {
			t.Errorf("%s %s repeats", e.Content.Code, e.Content.Name)
		}
		codes[e.Content.Code], names[domain.PlainName(e.Content.Name)] = true, true
		for _, basis := range e.Content.LegalBasis {
			if !strings.HasPrefix(basis, "《") {
				t.Errorf("%s: basis %q is no title of a law", e.Content.Code, basis)
			}
		}
	}
	for _, s := range sampleRequests() {
		if !codes[s.CatalogCode] || s.Calls != 0 && s.Name != "" {
			t.Errorf("%q shares %s with %d calls", s.Name, s.CatalogCode, s.Calls)
		}
	}
	if got := sampleShare().Calls; 2*got != 500 {
		t.Errorf("%d calls", got)
	}
}

// TestSampleRules: each event has one rule, and what no source confirms says so.
func TestSampleRules(t *testing.T) {
	rules := sampleRules()
	for i, event := range domain.DeadlineEvents {
		if len(rules) != len(domain.DeadlineEvents) || rules[i].Event != event {
			t.Fatalf("rule %d is of %s, want %s", i, rules[i].Event, event)
		}
		if err := rules[i].Validate(); err != nil {
			t.Errorf("%s: %v", event, err)
		}
		if read := event == domain.DeadlineCatalogUpdate; strings.HasPrefix(rules[i].LegalBasis, "示例值") == read {
			t.Errorf("%s: basis %q", event, rules[i].LegalBasis)
		}
	}
}

// TestSampleCalendars compares the embedded years with both sources of the
// shared data, day by day.
func TestSampleCalendars(t *testing.T) {
	folder := filepath.Join("..", "..", "..", "shared", "data", "calendar")
	var second struct {
		Holidays map[string]string `json:"holidays"`
		Workdays map[string]string `json:"workdays"`
	}
	if err := json.Unmarshal([]byte(mustRead(t, filepath.Join(folder, "chinese-days.json"))), &second); err != nil {
		t.Fatal(err)
	}
	calendars := sampleCalendars()
	if len(calendars) != 2 || calendars[0].Year != 2025 || calendars[1].Year != 2026 {
		t.Fatalf("%d calendars", len(calendars))
	}
	for _, c := range calendars {
		first, err := readHolidays(filepath.Join(folder, "holiday-cn", fmt.Sprintf("%d.json", c.Year)))
		if err != nil {
			t.Fatal(err)
		}
		notice, _, err := mergeHolidays([]holidayFile{first}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(notice[0].DaysOff, c.DaysOff) + cmp.Diff(notice[0].Workdays, c.Workdays); diff != "" {
			t.Errorf("%d (-notice +embedded):\n%s", c.Year, diff)
		}
		if c.Provisional || !strings.Contains(c.Source, first.Papers[0]) || c.Validate() != nil {
			t.Errorf("%d: source %q, %v", c.Year, c.Source, c.Validate())
		}
		for day := time.Date(c.Year, 1, 1, 0, 0, 0, 0, beijing); day.Year() == c.Year; day = day.AddDate(0, 0, 1) {
			text := day.Format(time.DateOnly)
			want := second.Workdays[text] != "" || !weekend(day) && second.Holidays[text] == ""
			got, err := domain.Workdays{Calendars: []domain.Calendar{{Year: c.Year, DaysOff: c.DaysOff, Workdays: c.Workdays}}}.IsWorkday(day)
			if err != nil || got != want {
				t.Errorf("%s: working day %v, the second source says %v (%v)", text, got, want, err)
			}
		}
	}
}

func TestNeededCalendars(t *testing.T) {
	for now, want := range map[string]string{
		"2026-05-01T00:00:00Z": "2025 2026 2027?", "2026-12-31T15:59:59Z": "2025 2026 2027?", "2026-12-31T16:00:00Z": "2025 2026 2027? 2028?", "2030-01-01T00:00:00Z": "2025 2026 2030? 2031?",
	} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range neededCalendars(at) {
			text := fmt.Sprint(c.Year)
			if c.Provisional {
				text += "?"
			}
			got = append(got, text)
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("at %s: %v, want %s", now, got, want)
		}
	}
}
