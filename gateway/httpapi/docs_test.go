package httpapi

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/api"
)

// TestDocumentNamesEverything holds docs/api.md to the contract: every path and
// every problem code with its status is in it.
func TestDocumentNamesEverything(t *testing.T) {
	data, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	doc, err := api.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	for path := range doc.Paths.Map() {
		if !strings.Contains(text, "`"+path+"`") {
			t.Errorf("docs/api.md does not name %s", path)
		}
	}
	for code, p := range problems {
		if row := fmt.Sprintf("| `%s` | %d |", code, p.status); !strings.Contains(text, row) {
			t.Errorf("docs/api.md has no row %q", row)
		}
	}
}
