package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/zhenglian/zhenglian/api"
)

func TestMinBlock(t *testing.T) {
	h, g, _ := newTest(t)
	for _, test := range []struct {
		name   string
		values []string
		status int
	}{
		{"none", nil, http.StatusOK},
		{"a block that is here", []string{"17"}, http.StatusOK},
		{"a block that arrives", []string{"18"}, http.StatusOK},
		{"a block that does not", []string{"19"}, http.StatusServiceUnavailable},
		{"empty", []string{""}, http.StatusBadRequest},
		{"signed", []string{"-1"}, http.StatusBadRequest},
		{"no number", []string{"latest"}, http.StatusBadRequest},
		{"beyond what JSON can say", []string{"9007199254740992"}, http.StatusBadRequest},
		{"two", []string{"1", "2"}, http.StatusBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			g.reset()
			const key = "POST /v1/catalog/entries/{code}/actions/publish"
			r := samples[key].request(http.MethodPost)
			r.Header[http.CanonicalHeaderKey(minBlock)] = test.values
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != test.status {
				t.Fatalf("status %d, want %d: %s", w.Code, test.status, w.Body)
			}
			if done := g.called > 0; done != (test.status == http.StatusOK) {
				t.Errorf("carried out: %v", done)
			}
			switch test.status {
			case http.StatusServiceUnavailable:
				if p := checkProblem(t, test.name, w); p.Code != api.ProblemCodeUnavailable || w.Header().Get("Retry-After") == "" {
					t.Errorf("%s, Retry-After %q", p.Code, w.Header().Get("Retry-After"))
				}
			case http.StatusBadRequest:
				if p := checkProblem(t, test.name, w); len(p.Fields) != 1 || p.Fields[0].Rule != ruleMinBlock.id {
					t.Errorf("findings %+v", p.Fields)
				}
			}
		})
	}
	// Nobody without a token holds a connection by it.
	g.reset()
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v1/trust", nil)
	r.Header.Set(minBlock, "19")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("without a token: status %d", w.Code)
	}
}
