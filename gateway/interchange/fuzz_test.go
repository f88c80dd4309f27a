package interchange_test

import (
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/interchange"
)

// FuzzRead: whatever a file holds, reading it ends without panic, and each row is
// content that the ledger admits or has findings.
func FuzzRead(f *testing.F) {
	contents := []domain.CatalogContent{narrowContent()}
	for i, format := range interchange.Formats {
		f.Add(i, national(wideHeader, nil))
		f.Add(i, `{"dataset":[{"identifier":1,"title":["x"],"distribution":{"format":null}},{}],"a":[{}]}`)
		f.Add(i, `[{"slug":"a","title":{"@value":"b"},"resources":[{"format":"csv"}]}]`)
		if format == interchange.CSV || format == interchange.DCATAP {
			f.Add(i, written(f, format, contents))
		}
	}
	f.Fuzz(func(t *testing.T, which int, data string) {
		format := interchange.Formats[uint(which)%uint(len(interchange.Formats))]
		r, err := interchange.NewReader(strings.NewReader(data), format, "", defaults)
		if err != nil {
			return
		}
		for row, err := range r.Rows() {
			if err == nil && len(row.Findings) == 0 && row.Content.Validate() != nil {
				t.Errorf("row %d passes and the ledger refuses it: %v", row.Number, row.Content.Validate())
			}
		}
	})
}
