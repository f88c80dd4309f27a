package sqltrail

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/zhenglian/zhenglian/gateway/sqltrail/postgrestest"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/gateway/trail/trailtest"
)

// server is the PostgreSQL of all tests of this process.
var server *postgrestest.Server

func TestMain(m *testing.M) {
	if where := os.Getenv(feedEnv); where != "" {
		if err := feedProcess(context.Background(), where); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(withServer(m))
}

func withServer(m *testing.M) int {
	var err error
	if server, err = postgrestest.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
		return 1
	}
	return code
}

// everyDatabase runs test on an empty database of each kind.
func everyDatabase(t *testing.T, test func(t *testing.T, where func(t testing.TB) string)) {
	t.Run("SQLite", func(t *testing.T) {
		test(t, func(t testing.TB) string { return filepath.Join(t.TempDir(), "a folder", "trail?%.sqlite") })
	})
	t.Run("PostgreSQL", func(t *testing.T) { test(t, server.Database) })
}

func open(t testing.TB, where string) *Store {
	t.Helper()
	s, err := Open(t.Context(), where)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	everyDatabase(t, func(t *testing.T, where func(testing.TB) string) {
		trailtest.Run(t, func(t testing.TB) trail.Store { return open(t, where(t)) })
	})
}
