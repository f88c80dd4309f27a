package httpapi

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
)

// minBlock is the header by which a caller asks that an answer know of a block,
// usually the one that an earlier answer named.
const minBlock = "Min-Block"

// minBlockWait bounds how long a request waits for its Min-Block. A peer in order
// has a block some 10 ms after the others; one that catches up takes seconds, and
// its callers are better off asking again than holding a connection.
const minBlockWait = 5 * time.Second

// awaitBlock holds a request back until this gateway has the block that it asks
// for. What a department wrote through its own gateway is thereby known to the
// next one that acts on it: a peer that is a block behind would refuse with the
// state before. Only callers with a token can wait.
func (s *server) awaitBlock(c *gin.Context) {
	values := c.Request.Header[minBlock]
	if len(values) == 0 || !passageOf(c).known {
		return
	}
	number, err := strconv.ParseUint(values[0], 10, 53)
	if err != nil || len(values) != 1 {
		f := finding("header "+minBlock, ruleMinBlock)
		s.fail(c, &refusal{code: api.ProblemCodeInvalid, detail: f.Field + ": " + f.En, fields: []api.FieldFinding{f}})
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), minBlockWait)
	defer cancel()
	if err := s.Blocks.WaitBlock(ctx, number); err != nil {
		s.fail(c, &refusal{
			code:       api.ProblemCodeUnavailable,
			detail:     fmt.Sprintf("this gateway does not have block %d yet; nothing was done", number),
			retryAfter: retryAfter * time.Second, err: err,
		})
	}
}
