// Package evidencetest makes access logs on disk with anchors that a consortium
// of [prooftest] signs, and serves their files as they lie there, as a department
// that hides something would.
package evidencetest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/tileclient"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// Token is what the servers of [Log.Handler] want of whoever reads entries.
const Token = "zl_auditor"

// World is a consortium whose departments have access logs.
type World struct {
	*prooftest.Consortium
	Logs map[domain.DepartmentCode]*Log

	mu      sync.Mutex
	anchors map[domain.DepartmentCode][]domain.Anchor
}

// New returns a consortium with an empty log for each of departments.
func New(t testing.TB, departments ...domain.DepartmentCode) *World {
	t.Helper()
	w := &World{
		Consortium: prooftest.New(), Logs: make(map[domain.DepartmentCode]*Log),
		anchors: make(map[domain.DepartmentCode][]domain.Anchor),
	}
	for _, code := range departments {
		w.Logs[code] = w.open(t, code, filepath.Join(t.TempDir(), "log"))
	}
	return w
}

// Log is an access log in a folder.
type Log struct {
	*tilelog.Log
	Department domain.DepartmentCode
	Dir        string

	world *World
	raw   [][]byte // all entries

	mu    sync.Mutex
	serve string // folder that is served
}

func (w *World) open(t testing.TB, code domain.DepartmentCode, dir string) *Log {
	t.Helper()
	d := w.Department(code)
	key, _, err := note.GenerateKey(prooftest.NewStream("log "+string(code)), d.LogOrigin) // as prooftest makes it
	if err != nil {
		t.Fatal(err)
	}
	l, err := tilelog.Open(t.Context(), tilelog.Options{
		Dir: dir, Origin: d.LogOrigin, Key: key, CheckpointInterval: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if l.VerifierKey() != d.LogKey {
		t.Fatalf("the log's key is %s, want %s", l.VerifierKey(), d.LogKey)
	}
	t.Cleanup(func() { // after the test's context has ended
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &Log{Log: l, Department: code, Dir: dir, world: w, serve: dir}
}

// Other opens another log under the same key, as a department would that shows
// different logs to different readers.
func (l *Log) Other(t testing.TB) *Log {
	t.Helper()
	return l.world.open(t, l.Department, filepath.Join(t.TempDir(), "other"))
}

// Show has the servers of the log serve another folder.
func (l *Log) Show(dir string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serve = dir
}

// Append logs records and waits until the checkpoint covers them.
func (l *Log) Append(t testing.TB, records ...domain.AccessRecord) {
	t.Helper()
	raw := make([][]byte, len(records))
	for i, r := range records {
		var err error
		if raw[i], err = domain.Canonical(r); err != nil {
			t.Fatal(err)
		}
	}
	l.AppendRaw(t, raw...)
}

// AppendRaw is [Log.Append] for entries that need not be records.
func (l *Log) AppendRaw(t testing.TB, raw ...[]byte) {
	t.Helper()
	l.raw = append(l.raw, raw...)
	for part := range slices.Chunk(raw, 1000) {
		receipts, err := l.Log.Append(t.Context(), part)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range receipts { // in the order given, unless the machine stood still
			l.raw[r.Index] = part[i]
		}
	}
	accesslogtest.AwaitSize(t, l.Log, uint64(len(l.raw)))
}

// Anchor anchors the log as it is.
func (l *Log) Anchor(t testing.TB) domain.Anchor {
	t.Helper()
	checkpoint, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := l.world
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.anchors[l.Department]
	anchor := domain.Anchor{
		Meta: domain.Meta{
			Schema: domain.SchemaAnchor, Department: l.Department, Role: domain.RoleGateway,
			TxID:   domain.TxID(domain.Digest([]byte("anchor " + strconv.Itoa(len(before))))),
			TxTime: prooftest.Epoch.Add(time.Duration(len(before)-1000) * time.Second),
		},
		Owner: l.Department, Origin: l.Origin(), Size: checkpoint.Size, Root: base64.StdEncoding.EncodeToString(checkpoint.Root),
		Checkpoint: string(checkpoint.Note), Counts: []domain.GrantCount{},
	}
	if len(before) > 0 {
		anchor.PreviousSize = before[len(before)-1].Size
	}
	counts := make(map[string]int64)
	for _, raw := range l.raw[anchor.PreviousSize:] {
		var r domain.AccessRecord
		if domain.ParseCanonical(raw, &r) == nil {
			counts[r.GrantID]++
		}
	}
	for grant, n := range counts {
		anchor.Counts = append(anchor.Counts, domain.GrantCount{GrantID: grant, Count: n})
	}
	slices.SortFunc(anchor.Counts, func(a, b domain.GrantCount) int { return strings.Compare(a.GrantID, b.GrantID) })
	prooftest.Seal(&anchor, &anchor.Meta)
	w.anchors[l.Department] = append(before, anchor)
	return anchor
}

// SetAnchors replaces the anchors of a log by whatever a lying gateway says.
func (w *World) SetAnchors(department domain.DepartmentCode, anchors ...domain.Anchor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.anchors[department] = anchors
}

// Anchors answers the anchors of a log.
func (w *World) Anchors(department domain.DepartmentCode) []domain.Anchor {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.anchors[department])
}

// After answers the next anchors of more than size entries, a few at a time.
func (w *World) After(_ context.Context, department domain.DepartmentCode, size uint64) ([]domain.Anchor, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []domain.Anchor
	for _, a := range w.anchors[department] {
		if a.Size > size && len(found) < 3 {
			found = append(found, a)
		}
	}
	return found, nil
}

// Get answers the anchor of a size.
func (w *World) Get(_ context.Context, department domain.DepartmentCode, size uint64) (domain.Anchor, error) {
	for _, a := range w.Anchors(department) {
		if a.Size == size {
			return a, nil
		}
	}
	return domain.Anchor{}, &domain.Error{Kind: domain.NotFound, Msg: "no such anchor"}
}

// Bundle answers the departments' signed read of an anchor.
func (w *World) Bundle(anchor domain.Anchor) []byte {
	id := domain.AnchorID(anchor.Owner, anchor.Size)
	return w.Attest(w.Statement(domain.KindAnchor, id, prooftest.Nonce, prooftest.Seal(&anchor, &anchor.Meta), "")).File()
}

// Handler serves the files of the log under /v1/logs/.
func (l *Log) Handler() http.Handler {
	prefix := "/v1/logs/" + string(l.Department) + "/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, prefix)
		switch {
		case !ok || strings.HasPrefix(name, "."):
			http.NotFound(w, r)
		case strings.HasPrefix(name, "tile/entries/") && r.Header.Get("Authorization") != "Bearer "+Token:
			http.Error(w, "no token", http.StatusUnauthorized)
		default:
			l.mu.Lock()
			dir := l.serve
			l.mu.Unlock()
			http.ServeFile(w, r, filepath.Join(dir, filepath.FromSlash(name)))
		}
	})
}

// Remote answers the log as others read it over HTTP.
func (l *Log) Remote(t testing.TB) remotelog.Log {
	t.Helper()
	server := httptest.NewServer(l.Handler())
	t.Cleanup(server.Close)
	c, err := tileclient.New(server.URL, Token, l.Department, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// GrantID is the grant of [Record].
var GrantID = strings.Repeat("0f", 16)

// Record answers a valid record of call number i, logged by one side.
func Record(direction domain.Direction, provider, consumer domain.DepartmentCode, i int) domain.AccessRecord {
	at := prooftest.Epoch.Add(-time.Hour + time.Duration(i)*time.Second).UTC()
	digest := func(what string) string { return domain.Digest([]byte(what + strconv.Itoa(i))) }
	return domain.AccessRecord{
		Schema: domain.SchemaAccessRecord, Direction: direction, CallID: "call-" + hex.EncodeToString([]byte{byte(i >> 16), byte(i >> 8), byte(i)}) + "-" + string(provider) + "-" + string(consumer),
		GrantID: GrantID, GrantSeq: 1, CatalogCode: "307003/000017", CatalogVersion: 1, Items: []string{"户籍状态"},
		Provider: provider, Consumer: consumer, Purpose: "办理婚姻登记时核验", LegalBasis: "《婚姻登记条例》", ServiceItem: "379900211001",
		CaseRef: "case-" + strconv.Itoa(i%7), System: "婚姻登记管理信息系统", Operator: "op-" + strconv.Itoa(i%5), OperatorRole: "登记员",
		SubjectRef: digest("subject"), RecordCount: 1, RequestDigest: digest("request"), ResponseDigest: digest("response"),
		Channel: domain.ChannelAPI, At: at, RespondedAt: at.Add(20 * time.Millisecond), Result: domain.ResultOK, LoggedAt: at.Add(30 * time.Millisecond),
	}
}

// Records answers n records from number from on.
func Records(direction domain.Direction, provider, consumer domain.DepartmentCode, from, n int) []domain.AccessRecord {
	out := make([]domain.AccessRecord, n)
	for i := range out {
		out[i] = Record(direction, provider, consumer, from+i)
	}
	return out
}
