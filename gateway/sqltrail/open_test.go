package sqltrail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
	"github.com/zhenglian/zhenglian/gateway/trail/trailtest"
)

func TestOpenNames(t *testing.T) {
	folder := t.TempDir()
	for _, where := range []string{filepath.Join(folder, "a.sqlite"), "sqlite:" + filepath.Join(folder, "b.sqlite"), "sqlite://" + filepath.Join(folder, "c.sqlite")} {
		open(t, where)
	}
	for _, file := range []string{"a.sqlite", "b.sqlite", "c.sqlite"} {
		info, err := os.Stat(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
	}
	for name, where := range map[string]string{"nothing": "", "no file": "sqlite:", "another database": "mysql://localhost/trail", "no URL": "postgres://secret-word@:x:y/%zz"} {
		_, err := Open(t.Context(), where)
		if domain.KindOf(err) != domain.Invalid {
			t.Errorf("%s: error = %v, want one of kind invalid", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	folder := t.TempDir()
	text := filepath.Join(folder, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, where := range map[string]string{
		"a file of something else": text,
		"a folder":                 folder,
		"below a file":             filepath.Join(text, "trail.sqlite"),
		"no server":                "postgres://postgres:secret-word@/none?host=" + folder,
	} {
		s, err := Open(t.Context(), where)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", name)
			continue
		}
		if strings.Contains(err.Error(), "secret-word") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

// What is stored stays, and a schema of a later program is refused untouched.
func TestReopen(t *testing.T) {
	everyDatabase(t, func(t *testing.T, database func(testing.TB) string) {
		where := database(t)
		first := open(t, where)
		if _, err := trailtest.Fill(t.Context(), first, 500, 70); err != nil {
			t.Fatal(err)
		}
		// Two that are open at the same time are one trail.
		second := open(t, where)
		if diff := cmp.Diff(trailtest.Dump(t, first), trailtest.Dump(t, second)); diff != "" {
			t.Errorf("opened again (-before +after):\n%s", diff)
		}
		case1 := trail.Filter{CaseRef: trailtest.History(500)[0].Entries[3].Record.CaseRef}
		if totals, err := second.Totals(t.Context(), case1); err != nil || totals.Records == 0 {
			t.Errorf("Totals of a case, opened again = %+v, %v", totals, err)
		}
		if _, err := first.writer.ExecContext(t.Context(), `UPDATE trail_version SET version = 99`); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), where); err == nil || !strings.Contains(err.Error(), "schema 99") {
			t.Errorf("Open of a later schema: %v", err)
		}
	})
}

// A stored record that is no longer what was stored is an error, not a gap.
func TestDamaged(t *testing.T) {
	everyDatabase(t, func(t *testing.T, database func(testing.TB) string) {
		s := open(t, database(t))
		if _, err := trailtest.Fill(t.Context(), s, 300, 300); err != nil {
			t.Fatal(err)
		}
		if _, err := s.writer.ExecContext(t.Context(), s.text(`UPDATE access SET record = ?`), []byte(`{"schema":"x"}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Trace(t.Context(), trail.Filter{}, trail.Page{Limit: 10}); err == nil {
			t.Error("Trace answers damaged records")
		}
		if _, err := s.Discrepancies(t.Context(), trail.ReconcileFilter{}, trail.Page{Limit: 10}); err == nil {
			t.Error("Discrepancies answers damaged records")
		}
		if err := s.Export(t.Context(), trail.Filter{}, func(trail.Entry) error { return nil }); err == nil {
			t.Error("Export answers damaged records")
		}
	})
}

// A statement that fails in the middle of a batch leaves nothing of it.
func TestApplyFails(t *testing.T) {
	everyDatabase(t, func(t *testing.T, database func(testing.TB) string) {
		for _, table := range []string{"logs", "access", "calls", "pair_days"} {
			s := open(t, database(t))
			if _, err := s.writer.ExecContext(t.Context(), `ALTER TABLE `+table+` RENAME TO gone`); err != nil {
				t.Fatal(err)
			}
			l := trailtest.History(100)[0]
			n := uint64(len(l.Entries))
			if err := s.Apply(t.Context(), l.Department, l.Entries, trailtest.At(n, n)); err == nil {
				t.Errorf("Apply without the table %s succeeded", table)
			}
			if _, err := s.writer.ExecContext(t.Context(), `ALTER TABLE gone RENAME TO `+table); err != nil {
				t.Fatal(err)
			}
			p, err := s.Progress(t.Context(), l.Department)
			if err != nil || p.Size != 0 {
				t.Errorf("Progress after a failure at %s = %d, %v", table, p.Size, err)
			}
			if err := s.Apply(t.Context(), l.Department, l.Entries, trailtest.At(n, n)); err != nil {
				t.Errorf("Apply after a failure at %s: %v", table, err)
			}
		}
	})
}
