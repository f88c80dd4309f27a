package httpapi

import (
	"context"
	"regexp"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// A record's entity tag is the transaction that last wrote it: nothing else changes
// it, and the ledger can hold a condition against it.

const ifMatch = "If-Match"

var tagShape = regexp.MustCompile(`^"([0-9a-f]{64})"$`)

// entityTag answers the ETag of what transaction id wrote.
func entityTag(id domain.TxID) string { return `"` + string(id) + `"` }

// tagged is [written] for the answer to a GET of one record.
func tagged[T, V any](ctx context.Context, w service.Written[V], err error) (T, error) {
	if err == nil {
		ctx.(*gin.Context).Header("ETag", entityTag(w.TxID))
	}
	return written[T](w, err)
}

// changed are the records that paths under …/actions/ change, by the parameter that
// names them and what comes before it.
var changed = map[string]struct {
	kind      domain.RecordKind
	parameter string
}{
	"/v1/catalog/entries/": {domain.KindCatalogEntry, "code"},
	"/v1/requests/":        {domain.KindRequest, "id"},
	"/v1/grants/":          {domain.KindGrant, "id"},
	"/v1/alarms/":          {domain.KindAlarm, "id"},
	"/v1/certificates/":    {domain.KindCertificate, "ref"},
}

var actionShape = regexp.MustCompile(`^(/v1/.+/):[a-z]+/actions/`)

// expect takes the If-Match of a change (RFC 9110) as the write that the record must
// still be at. The gateway does not compare: its index may be a block behind, and
// only the ledger can compare and change at once.
func (s *server) expect(c *gin.Context) {
	tags := c.Request.Header[ifMatch]
	if len(tags) == 0 {
		return
	}
	path := actionShape.FindStringSubmatch(c.FullPath())
	if path == nil {
		return
	}
	record, known := changed[path[1]]
	if !known || len(tags) == 1 && tags[0] == "*" { // any version: the change itself needs the record
		return
	}
	tag := tagShape.FindStringSubmatch(tags[0])
	if len(tags) != 1 || tag == nil {
		f := finding("header "+ifMatch, ruleTag)
		s.fail(c, &refusal{code: api.ProblemCodeInvalid, detail: f.Field + ": " + f.En, fields: []api.FieldFinding{f}})
		return
	}
	passageOf(c).caller.Expect = &domain.Expectation{Kind: record.kind, ID: c.Param(record.parameter), TxID: domain.TxID(tag[1])}
}
