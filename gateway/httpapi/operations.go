package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// readyWithin bounds a readiness check: a probe that waits longer has its answer.
const readyWithin = 4 * time.Second

func requestOf(ctx context.Context) *http.Request { return ctx.(*gin.Context).Request }

func (s *server) GetLiveness(context.Context, api.GetLivenessRequestObject) (api.GetLivenessResponseObject, error) {
	return api.GetLiveness200JSONResponse{Status: api.HealthStatusOk}, nil
}

func (s *server) GetReadiness(ctx context.Context, _ api.GetReadinessRequestObject) (api.GetReadinessResponseObject, error) {
	ctx, _ = inbound(ctx)
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := s.Readiness.Check(ctx); err != nil {
		// Anyone may ask; what names hosts stays in the log.
		reason := "the check took too long or failed"
		if e := (*service.NotReadyError)(nil); errors.As(err, &e) {
			reason = e.Reason
		}
		return nil, &refusal{code: api.ProblemCodeUnavailable, detail: "not ready: " + reason, retryAfter: time.Second, err: err}
	}
	return api.GetReadiness200JSONResponse{Status: api.HealthStatusOk}, nil
}

func (s *server) GetMetrics(ctx context.Context, _ api.GetMetricsRequestObject) (api.GetMetricsResponseObject, error) {
	return delegate{handler: s.metrics.handler, request: requestOf(ctx)}, nil
}

func (s *server) ShowAudit(ctx context.Context, _ api.ShowAuditRequestObject) (api.ShowAuditResponseObject, error) {
	return delegate{handler: s.AuditPage, request: requestOf(ctx)}, nil
}

func (s *server) GetAuditScript(ctx context.Context, _ api.GetAuditScriptRequestObject) (api.GetAuditScriptResponseObject, error) {
	return delegate{handler: s.AuditPage, request: requestOf(ctx)}, nil
}

func (s *server) GetAuditStyle(ctx context.Context, _ api.GetAuditStyleRequestObject) (api.GetAuditStyleResponseObject, error) {
	return delegate{handler: s.AuditPage, request: requestOf(ctx)}, nil
}

func (s *server) GetOpenapi(context.Context, api.GetOpenapiRequestObject) (api.GetOpenapiResponseObject, error) {
	return document{media: "application/json", body: s.spec}, nil
}
