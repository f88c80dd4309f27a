package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
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
	if len(f.requests) != 1 || len(f.grants) != 1 {
		t.Errorf("%d requests, %d grants", len(f.requests), len(f.grants))
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
	out, _ := runCommand(t, exitOK, "sample", "--state", f.folder)
	f.checkLoaded(t, 1)
	link := regexp.MustCompile(`http://127\.0\.0\.1:\d+/v/[0-9a-f]{32}#[2-9A-HJ-NP-Z]{10}`).FindString(out)
	for _, want := range []string{
		f.urls["bigdata"], f.urls["police"], f.urls["civil"], f.urls["market"],
		filepath.Join(f.folder, "tokens", "police.json"), "▀", "[7/7]",
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
			c.Status, c.StatusAct = domain.CertificateRevoked, &domain.StatusAct{DocumentNo: "1", LegalBasis: "1", ReasonCode: "test", EffectiveAt: c.Content.IssuedAt}
		}
		writes := f.writes
		again, _ := runCommand(t, exitOK, "sample", "--state", f.folder)
		if !strings.Contains(again, "nothing changed") || f.writes != writes {
			t.Errorf("%d writes; output:\n%s", f.writes-writes, again)
		}
	})
}

// TestSampleKilledAnywhere loses the answer of write number n, stops there, and
// runs again: whatever n is, the ledger ends up with the sample once.
func TestSampleKilledAnywhere(t *testing.T) {
	// 4 departments, 4 logs, 36 of the catalog, request and answer, 4 batches,
	// one certificate.
	const total = 4 + 4 + 36 + 2 + 4 + 1
	points := []int{1, 2, 5, 9, 17, 30, 44, 45, 46, 47, 48, 50, total}
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
			// certificate is revoked and another one issued.
			f.checkLoaded(t, issued+1)
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
			TransactionID: done.TxID, Operation: "/v1/chain/transactions/" + done.TxID, Link: done.Link, Ref: done.Record.Content.Ref,
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
		if codes[e.Content.Code] || names[normalName(e.Content.Name)] {
			t.Errorf("%s %s repeats", e.Content.Code, e.Content.Name)
		}
		codes[e.Content.Code], names[normalName(e.Content.Name)] = true, true
		for _, basis := range e.Content.LegalBasis {
			if !strings.HasPrefix(basis, "《") {
				t.Errorf("%s: basis %q is no title of a law", e.Content.Code, basis)
			}
		}
	}
	if s := sampleShare(); !codes[s.CatalogCode] || 2*s.Calls != 500 {
		t.Errorf("sharing of %s with %d calls", s.CatalogCode, s.Calls)
	}
}
