package service_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
	"github.com/zhenglian/zhenglian/gateway/index/indextest"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
)

// The test binary becomes a process that admits access records to the log and the
// index in the folder of killedDir. The clients of killedNext begin with the batches
// whose numbers it lists; for each that is acknowledged the process says
//
//	CLIENT NUMBER INDEX INDEX …
const (
	killedDir  = "ZHENGLIAN_TEST_ACCESS_DIR"
	killedKey  = "ZHENGLIAN_TEST_ACCESS_KEY"
	killedNext = "ZHENGLIAN_TEST_ACCESS_NEXT"

	killedClients = 4
	killedBatch   = 25
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		err := admit(context.Background(), dir, os.Getenv(killedKey), strings.Fields(os.Getenv(killedNext)))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// killedGrant is the grant that the killed process works under, killedAt when its
// calls came in.
var (
	killedAt    = time.Date(2026, 3, 2, 1, 0, 0, 0, time.UTC)
	killedGrant = domain.Grant{
		ID: strings.Repeat("5a", 16), CatalogCode: "306003/000001", CatalogVersion: 1, Items: []string{"户号"}, Provider: "police", Consumer: "civil",
		Purpose: "办证", ServiceItem: "item", Period: domain.Period{From: killedAt.AddDate(-1, 0, 0), To: killedAt.AddDate(10, 0, 0)},
		Quota:     domain.Quota{Total: 1 << 40, PerDay: 1 << 40, PerMinute: 1 << 40},
		GrantedAt: killedAt.AddDate(-1, 0, 0), State: domain.GrantActive, Seq: 1,
	}
)

func killedRecords(client, number int) []domain.AccessRecord {
	records := make([]domain.AccessRecord, killedBatch)
	for i := range records {
		g := killedGrant
		records[i] = domain.AccessRecord{
			Direction: domain.DirectionProvider, CallID: fmt.Sprintf("call-%d-%08d-%04d", client, number, i), GrantID: g.ID,
			CatalogCode: g.CatalogCode, CatalogVersion: g.CatalogVersion, Items: g.Items, Provider: g.Provider, Consumer: g.Consumer,
			Purpose: g.Purpose, LegalBasis: "条例", ServiceItem: g.ServiceItem, System: "sys", Operator: "op-1", OperatorRole: "clerk", RecordCount: 1,
			RequestDigest: strings.Repeat("c", 64), ResponseDigest: strings.Repeat("d", 64),
			Channel: domain.ChannelAPI, At: killedAt, RespondedAt: killedAt, Result: domain.ResultOK,
		}
	}
	return records
}

func openKilledIndex(ctx context.Context, dir string) (*sqlindex.Index, error) {
	return sqlindex.Open(ctx, filepath.Join(dir, "index.sqlite"))
}

func openKilledLog(ctx context.Context, dir, key string) (*tilelog.Log, error) {
	return tilelog.Open(ctx, tilelog.Options{Dir: filepath.Join(dir, "log"), Origin: origin("police"), Key: key, Logger: slog.New(slog.DiscardHandler)})
}

// admit runs what a gateway runs between a request and its receipts, until it is
// killed.
func admit(ctx context.Context, dir, key string, next []string) error {
	x, err := openKilledIndex(ctx, dir)
	if err != nil {
		return err
	}
	log, err := openKilledLog(ctx, dir, key)
	if err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler)
	go func() { _ = service.NewLogIndexer(log, x, logger).Run(ctx) }()
	access := service.NewAccess(service.AccessOptions{
		Department: "police", Index: x, Log: log, Clock: time.Now, Heard: time.Now, // the ledger is never asked
		Anchored: func() (accesslog.Anchored, bool) { return accesslog.Anchored{}, false },
		Backlog:  func() time.Duration { return 0 }, MaxLag: time.Minute,
	})
	failed := make(chan error)
	var mu sync.Mutex // one line at a time
	for client, from := range next {
		number, err := strconv.Atoi(from)
		if err != nil {
			return err
		}
		go func() {
			for ; ; number++ {
				answer, err := access.Record(ctx, policeOperator, service.RecordOptions{}, killedRecords(client, number))
				if busy := (*service.BusyError)(nil); errors.As(err, &busy) {
					time.Sleep(busy.RetryAfter)
					number--
					continue
				}
				if err != nil {
					failed <- err
					return
				}
				line := fmt.Sprint(client, number)
				for _, r := range answer.Receipts {
					line += fmt.Sprintf(" %d", r.Index)
				}
				mu.Lock()
				_, _ = io.WriteString(os.Stdout, line+"\n")
				mu.Unlock()
			}
		}()
	}
	return <-failed
}

// A process that admits records to the log is killed fifty times at random moments,
// and its clients send again what was not acknowledged. Each call is in the log once,
// at the index that it was promised.
func TestAccessKilled(t *testing.T) {
	t.Parallel()
	const kills = 50
	dir := t.TempDir()
	key, _, err := note.GenerateKey(nil, origin("police"))
	if err != nil {
		t.Fatal(err)
	}
	x, err := openKilledIndex(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var c indextest.Chain
	entry := domain.CatalogEntry{Version: 1, Content: domain.CatalogContent{Code: killedGrant.CatalogCode, Level: 1}}
	grant := c.Add(indextest.Put("cat~"+killedGrant.CatalogCode, entry, "grant~"+killedGrant.ID, killedGrant))
	if err := errors.Join(x.ApplyBlock(t.Context(), grant), x.Close()); err != nil {
		t.Fatal(err)
	}
	promised := make(map[string]uint64)
	var next [killedClients]int
	for range kills {
		killOnce(t, dir, key, &next, promised)
	}

	log, err := openKilledLog(t.Context(), dir, key)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // it was only read
	checkpoint, err := log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	logged := make(map[string]uint64)
	for index := uint64(0); index < checkpoint.Size; {
		entries, err := log.Entries(t.Context(), index, checkpoint.Size)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range entries {
			var r domain.AccessRecord
			if err := domain.ParseCanonical(data, &r); err != nil {
				t.Fatal(err)
			}
			if before, twice := logged[r.CallID]; twice {
				t.Errorf("call %s is logged at %d and at %d", r.CallID, before, index)
			}
			logged[r.CallID] = index
			index++
		}
	}
	for call, index := range promised {
		if at, ok := logged[call]; !ok || at != index {
			t.Errorf("call %s was promised to be at %d and is at %d, %v", call, index, at, ok)
		}
	}
	t.Logf("%d calls logged, %d of them acknowledged, over %d kills", len(logged), len(promised), kills)
	if len(promised) < kills*killedBatch {
		t.Error("hardly anything was acknowledged: the test does not tell")
	}
}

// killOnce runs the process until it is killed, and notes what it acknowledged.
func killOnce(t *testing.T, dir, key string, next *[killedClients]int, promised map[string]uint64) {
	t.Helper()
	env := []string{killedDir + "=" + dir, killedKey + "=" + key, killedNext + "=" + strings.Trim(fmt.Sprint(*next), "[]")}
	accesslogtest.Killed(t, 100*time.Millisecond, env, func(line string) {
		var numbers []uint64
		for _, field := range strings.Fields(line) {
			n, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				t.Fatalf("the process said %q", line)
			}
			numbers = append(numbers, n)
		}
		client, number := int(numbers[0]), int(numbers[1]) //nolint:gosec // small
		for i, r := range killedRecords(client, number) {
			promised[r.CallID] = numbers[2+i]
		}
		next[client] = number + 1
	})
}
