package httpapi

import (
	"regexp"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
)

const idempotencyKey = "Idempotency-Key"

var keyShape = regexp.MustCompile(`^[!-~]{1,128}$`)

// identifyOperation takes the Idempotency-Key of an operation that has one as
// what its caller wants done once.
func (s *server) identifyOperation(c *gin.Context) {
	way := passageOf(c)
	if way.op == nil || !way.op.keyed {
		return
	}
	keys := c.Request.Header.Values(idempotencyKey)
	if len(keys) == 0 {
		return
	}
	if len(keys) != 1 || !keyShape.MatchString(keys[0]) {
		f := finding("header "+idempotencyKey, ruleKey)
		s.fail(c, &refusal{code: api.ProblemCodeInvalid, detail: f.Field + ": " + f.En, fields: []api.FieldFinding{f}})
		return
	}
	way.caller.Operation = domain.OperationOf(way.caller.Department, way.caller.Role, keys[0])
}
