package httpapi

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
)

// TestServedBy checks that an answer on other departments' word says so.
func TestServedBy(t *testing.T) {
	g := new(gateway)
	g.reset()
	config := g.config(new(bytes.Buffer))
	var by []domain.DepartmentCode
	config.ServedBy = func() []domain.DepartmentCode { return by }
	h, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", "civil, market", ""} {
		by = nil
		if want != "" {
			by = []domain.DepartmentCode{"civil", "market"}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/trust", nil))
		if got := w.Header().Get(servedBy); got != want || w.Code != http.StatusOK {
			t.Errorf("status %d, %s %q, want %q", w.Code, servedBy, got, want)
		}
	}
}
