package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"regexp"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
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
	caller.Operation = operationOf(caller, keys[0])
	c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), callerKey, caller))
}

// operationOf answers the identifier under which the ledger remembers what a
// caller did with a key: no other department or role meets it, and it does not
// tell the key, which a client may have taken from a case.
func operationOf(caller service.Caller, key string) string {
	h := sha256.New()
	for _, part := range []string{string(caller.Department), string(caller.Role), key} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // bounded by the header's size
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
