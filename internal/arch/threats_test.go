package arch

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatsHaveTests checks that the table of threats names tests for each of
// them, and none that there is not.
func TestThreatsHaveTests(t *testing.T) {
	const table = "../../docs/threats.md"
	data, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	defined := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	tests := make(map[string]bool)
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		for _, m := range defined.FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\| (T\d+) \|`)
	named := regexp.MustCompile("`(Test\\w+)`")
	rows := 0
	for line := range strings.Lines(string(data)) {
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if rows++; m[1] != fmt.Sprint("T", rows) {
			t.Errorf("%s: row %d is %s", table, rows, m[1])
		}
		names := named.FindAllStringSubmatch(line, -1)
		if len(names) == 0 {
			t.Errorf("%s: %s names no test", table, m[1])
		}
		for _, n := range names {
			if !tests[n[1]] {
				t.Errorf("%s: %s: there is no test %s", table, m[1], n[1])
			}
		}
	}
	if rows != 29 {
		t.Errorf("%s has %d threats, want 29", table, rows)
	}
}
