//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// operation is what GET /v1/operations/{id} answers.
type operation struct {
	State         string          `json:"state"`
	TransactionID string          `json:"transactionId"`
	Record        json.RawMessage `json:"record"`
	Problem       json.RawMessage `json:"problem"`
}

// keyed are the headers of a write that may be sent again.
func keyed(t *testing.T, prefer string) http.Header {
	t.Helper()
	h := http.Header{"Idempotency-Key": {randomHex(t, 16)}}
	if prefer != "" {
		h.Set("Prefer", prefer)
	}
	return h
}

// accepted sends a write and answers the path of its operation; it must be told 202.
func accepted(t *testing.T, department, role, path string, body any, header http.Header) string {
	t.Helper()
	res, err := net.Gateway(department).DoWith(t.Context(), role, "POST", path, body, header)
	must(t, err)
	if res.Status != http.StatusAccepted {
		t.Fatalf("POST %s: status %d, want 202: %s", path, res.Status, res.Body)
	}
	return res.Header.Get("Location")
}

// committed waits until an operation is committed.
func committed(t *testing.T, department, path string, limit time.Duration) operation {
	t.Helper()
	var o operation
	await(t, "operation "+path+" is committed", limit, func() (bool, string) {
		res, err := net.Gateway(department).Do(t.Context(), "operator", "GET", path, nil)
		if err != nil {
			return false, err.Error() // its gateway is starting
		}
		o = operation{}
		if err := json.Unmarshal(res.Body, &o); err != nil || res.Status != http.StatusOK {
			return false, fmt.Sprintf("status %d: %s", res.Status, res.Body)
		}
		if o.State == "rejected" {
			t.Fatalf("operation %s is rejected: %s", path, res.Body)
		}
		return o.State == "committed", string(res.Body)
	})
	return o
}

// steps counts the writes of a catalog entry.
func steps(t *testing.T, department, code string) int {
	t.Helper()
	var page struct {
		Items []json.RawMessage `json:"items"`
	}
	must(t, net.Gateway(department).Call(t.Context(), "auditor", "GET", entryPath(code)+"/history", nil, 200, &page))
	return len(page.Items)
}

// TestOutboxGatewayKilled kills a gateway over and over, each time with writes on
// their way that it has accepted: each happens once, and asked for again under its key
// it answers what it answered.
func TestOutboxGatewayKilled(t *testing.T) {
	const kills, each = 5, 4
	type write struct {
		content domain.CatalogContent
		header  http.Header
		path    string
	}
	var writes []write
	for range kills {
		for range each {
			w := write{content: contentOf("police"), header: keyed(t, "respond-async")}
			w.path = accepted(t, "police", "operator", "/v1/catalog/entries", w.content, w.header)
			writes = append(writes, w)
		}
		must(t, net.Kill("police", consortium.GatewayOf))
		await(t, "the gateway is back", time.Minute, func() (bool, string) {
			res, err := net.Gateway("police").Do(t.Context(), "", "GET", "/livez", nil)
			return err == nil && res.Status == http.StatusOK, fmt.Sprint(err)
		})
	}
	for _, w := range writes {
		o := committed(t, "police", w.path, time.Minute)
		w.header.Del("Prefer")
		res, err := net.Gateway("police").DoWith(t.Context(), "operator", "POST", "/v1/catalog/entries", w.content, w.header)
		must(t, err)
		var again consortium.Written[domain.CatalogEntry]
		must(t, json.Unmarshal(res.Body, &again))
		if res.Status != http.StatusCreated || again.TxID != o.TransactionID {
			t.Errorf("%s again: status %d in transaction %s, want 201 in %s: %s", w.content.Code, res.Status, again.TxID, o.TransactionID, res.Body)
		}
		if n := steps(t, "police", w.content.Code); n != 1 {
			t.Errorf("%s was written %d times", w.content.Code, n)
		}
	}
}

// TestOutboxLedgerDown takes the department's own peer, and then two of four
// orderers: writes with a key are accepted and happen when they can.
func TestOutboxLedgerDown(t *testing.T) {
	draft := contentOf("market")
	must(t, net.Gateway("market").Call(t.Context(), "operator", "POST", "/v1/catalog/entries?draft=true", draft, 201, nil))

	t.Run("own peer", func(t *testing.T) {
		must(t, net.Kill("market", consortium.Peer))
		release := hold(t, "market", consortium.Peer)
		defer release()
		// What exists needs the own peer's endorsement.
		path := accepted(t, "market", "operator", entryPath(draft.Code)+"/actions/submit", nil, keyed(t, ""))
		release()
		committed(t, "market", path, 90*time.Second)
		await(t, "the index follows", time.Minute, func() (bool, string) {
			n := steps(t, "market", draft.Code)
			return n == 2, fmt.Sprint(n, " steps")
		})
	})
	t.Run("two orderers", func(t *testing.T) {
		releases := []func(){hold(t, "civil", consortium.Orderer), hold(t, "market", consortium.Orderer)}
		defer func() {
			for _, release := range releases {
				release()
			}
		}()
		content := contentOf("police")
		header := keyed(t, "wait=2")
		await(t, "nothing is ordered any more", time.Minute, func() (bool, string) {
			content, header = contentOf("police"), keyed(t, "wait=2")
			res, err := net.Gateway("police").DoWith(t.Context(), "operator", "POST", "/v1/catalog/entries", content, header)
			must(t, err)
			return res.Status == http.StatusAccepted, string(res.Body)
		})
		path := accepted(t, "police", "operator", "/v1/catalog/entries", content, header) // joins the one under way
		for _, release := range releases {
			release()
		}
		committed(t, "police", path, 2*time.Minute)
		if n := steps(t, "police", content.Code); n != 1 {
			t.Errorf("%s was written %d times", content.Code, n)
		}
	})
}

// TestIfMatch changes a record under a condition that the ledger checks.
func TestIfMatch(t *testing.T) {
	g := net.Gateway("police")
	draft := contentOf("police")
	var first consortium.Written[domain.CatalogEntry]
	must(t, g.Call(t.Context(), "operator", "POST", "/v1/catalog/entries?draft=true", draft, 201, &first))
	res, err := g.Do(t.Context(), "operator", "GET", entryPath(draft.Code), nil)
	must(t, err)
	tag := res.Header.Get("ETag")
	if tag != `"`+first.TxID+`"` {
		t.Errorf("ETag %s, want transaction %s in quotes", tag, first.TxID)
	}
	submit := func(tag string) consortium.Response {
		header := keyed(t, "")
		header.Set("If-Match", tag)
		res, err := g.DoWith(t.Context(), "operator", "POST", entryPath(draft.Code)+"/actions/submit", nil, header)
		must(t, err)
		return res
	}
	other := `"` + domain.Digest([]byte("another version")) + `"`
	if res := submit(other); res.Status != http.StatusPreconditionFailed || res.Header.Get("ETag") != tag {
		t.Errorf("with another version: status %d, ETag %s: %s", res.Status, res.Header.Get("ETag"), res.Body)
	}
	if res := submit(tag); res.Status != http.StatusOK {
		t.Errorf("with the present version: status %d: %s", res.Status, res.Body)
	}
	if res := submit(tag); res.Status != http.StatusPreconditionFailed || res.Header.Get("ETag") == tag {
		t.Errorf("with the version before: status %d, ETag %s: %s", res.Status, res.Header.Get("ETag"), res.Body)
	}
}

// TestExampleApp runs the program of docs/example-app as its users do, twice: the same
// use of data is one record.
func TestExampleApp(t *testing.T) {
	at := time.Now().UTC().Format(time.RFC3339)
	run := func() string {
		cmd := exec.CommandContext(t.Context(), "go", "run", "./docs/example-app", "-gateway", net.Gateway("civil").URL,
			"-token-file", filepath.Join(net.State, "tokens", "civil.json"), "-case", "2026-0001", "-at", at)
		cmd.Dir = net.Root
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	first := run()
	if !strings.Contains(first, "access logged at index ") {
		t.Errorf("the program says %q", first)
	}
	if again := run(); again != first {
		t.Errorf("run again it says %q, first it said %q", again, first)
	}
}
