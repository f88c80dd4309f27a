package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// defaultLimit is the length of a page when the client names none.
const defaultLimit = 50

// envelope is the JSON form of a written record.
type envelope[V any] struct {
	Record V           `json:"record"`
	Block  uint64      `json:"block"`
	TxID   domain.TxID `json:"txId"`
}

func enveloped[V any](w service.Written[V]) envelope[V] {
	return envelope[V]{Record: w.Value, Block: w.Block, TxID: w.TxID}
}

// written renders a written record as the contract's type T, or passes on err.
func written[T, V any](w service.Written[V], err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return api.Convert[T](enveloped(w))
}

// listed renders a page of records as the contract's type T, or passes on err.
func listed[T, V any](s *server, l service.Listed[V], err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	page := struct {
		Items []envelope[V] `json:"items"`
		Next  string        `json:"next"`
	}{Items: make([]envelope[V], 0, len(l.Items)), Next: s.cursors.seal(l.Next)}
	for _, w := range l.Items {
		page.Items = append(page.Items, enveloped(w))
	}
	return api.Convert[T](page)
}

func page(limit *api.Limit, cursor *api.Cursor) index.Page {
	p := index.Page{Limit: defaultLimit, After: valueOf(cursor)}
	if limit != nil {
		p.Limit = *limit
	}
	return p
}

// sliced answers the part of a complete list that page asks for. Such lists
// have as many items as the consortium has members; the cursor is a position.
func sliced[V any](l service.Listed[V], p index.Page) (service.Listed[V], error) {
	from := 0
	if p.After != "" {
		n, err := strconv.Atoi(p.After)
		if err != nil || n < 1 || strconv.Itoa(n) != p.After {
			return service.Listed[V]{}, &domain.Error{Kind: domain.Invalid, Msg: "the cursor is not one that this list gave"}
		}
		from = min(n, len(l.Items))
	}
	to := min(from+p.Limit, len(l.Items))
	out := service.Listed[V]{Items: l.Items[from:to]}
	if to < len(l.Items) {
		out.Next = strconv.Itoa(to)
	}
	return out, nil
}

// overdue answers the moment that a filter for what is overdue looks from, nil for
// no such filter.
func (s *server) overdue(asked *bool) *time.Time {
	if !valueOf(asked) {
		return nil
	}
	now := s.Clock()
	return &now
}

// valueOf answers what p points to, the zero value if it is nil.
func valueOf[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// document is an answer whose bytes are given, not rendered.
type document struct {
	media       string
	cache       string // Cache-Control; "" for what every answer has
	disposition string // "" for none
	policy      string // Content-Security-Policy; "" for what every answer has
	body        []byte
}

func (d document) write(w http.ResponseWriter) error {
	h := w.Header()
	h.Set("Content-Type", d.media)
	h.Set("Content-Length", strconv.Itoa(len(d.body)))
	if d.disposition != "" {
		h.Set("Content-Disposition", d.disposition)
	}
	if d.cache != "" {
		h.Set("Cache-Control", d.cache)
	}
	if d.policy != "" {
		h.Set("Content-Security-Policy", d.policy)
	}
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(d.body); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

func (d document) VisitVerifyCertificateResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetTrustResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetOpenapiResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetAccessProofResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetProofResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetCertificateProofResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetSealedResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetStatusListResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitPrintCertificateResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetCertificateQRPNGResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetCertificateQRSVGResponse(w http.ResponseWriter) error { return d.write(w) }

// stream is an answer that is sent while it is made. Until its first byte an error
// is an ordinary problem; after it the answer breaks off.
type stream struct {
	media       string
	disposition string
	body        func(io.Writer) error
}

func (d stream) VisitExportCatalogResponse(w http.ResponseWriter) error {
	begun := &beginning{ResponseWriter: w, begin: func(h http.Header) {
		h.Set("Content-Type", d.media)
		h.Set("Content-Disposition", d.disposition)
	}}
	if err := d.body(begun); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	_, err := begun.Write(nil) // a body without a byte has headers, too
	return err
}

// beginning sets headers when the first byte is written.
type beginning struct {
	http.ResponseWriter
	begin func(http.Header)
}

func (b *beginning) Write(p []byte) (int, error) {
	if b.begin != nil {
		b.begin(b.Header())
		b.begin = nil
		b.WriteHeader(http.StatusOK)
	}
	return b.ResponseWriter.Write(p)
}

// delegate is an answer that another handler gives.
type delegate struct {
	handler http.Handler
	request *http.Request
}

func (d delegate) serve(w http.ResponseWriter) error {
	d.handler.ServeHTTP(w, d.request)
	return nil
}

func (d delegate) VisitShowCertificateResponse(w http.ResponseWriter) error { return d.serve(w) }
func (d delegate) VisitShowFileCheckResponse(w http.ResponseWriter) error   { return d.serve(w) }
func (d delegate) VisitCheckFileOnPageResponse(w http.ResponseWriter) error { return d.serve(w) }
func (d delegate) VisitGetVerifyScriptResponse(w http.ResponseWriter) error { return d.serve(w) }
func (d delegate) VisitGetVerifierModuleResponse(w http.ResponseWriter) error {
	return d.serve(w)
}
func (d delegate) VisitGetMetricsResponse(w http.ResponseWriter) error     { return d.serve(w) }
func (d delegate) VisitShowAuditResponse(w http.ResponseWriter) error      { return d.serve(w) }
func (d delegate) VisitGetAuditScriptResponse(w http.ResponseWriter) error { return d.serve(w) }
func (d delegate) VisitGetAuditStyleResponse(w http.ResponseWriter) error  { return d.serve(w) }
