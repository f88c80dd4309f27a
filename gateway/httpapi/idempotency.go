package httpapi

import (
	"context"
	"regexp"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
)

const idempotencyKey = "Idempotency-Key"

var keyShape = regexp.MustCompile(`^[!-~]{1,128}$`)

// identifyOperation takes the Idempotency-Key of an operation that has one as
// what its caller wants done once.
func (s *server) identifyOperation(c *gin.Context) {
	op := s.operations[operationKey(c.Request.Method, c.FullPath())]
	keys := c.Request.Header.Values(idempotencyKey)
	if op == nil || !op.keyed || len(keys) == 0 {
		return
	}
	if len(keys) != 1 || !keyShape.MatchString(keys[0]) {
		f := finding("header "+idempotencyKey, ruleKey)
		s.fail(c, &refusal{code: api.ProblemCodeInvalid, detail: f.Field + ": " + f.En, fields: []api.FieldFinding{f}})
		return
	}
	caller, _ := c.Request.Context().Value(callerKey).(service.Caller)
	caller.Operation = domain.OperationOf(caller.Department, caller.Role, keys[0])
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), callerKey, caller))
}
