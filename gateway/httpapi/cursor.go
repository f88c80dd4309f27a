package httpapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
)

// cursors signs the places at which lists go on: what comes back is what some
// gateway of the department gave out, not a text that a caller made up and an index
// has to make sense of. The zero value must not be used.
type cursors struct{ key []byte }

// macSize is the length of the code before the place, in bytes.
const macSize = 16

func (k cursors) mac(place string) []byte {
	h := hmac.New(sha256.New, k.key)
	h.Write([]byte(place))
	return h.Sum(nil)[:macSize]
}

// seal answers the cursor for a place in a list, "" for the end.
func (k cursors) seal(place string) string {
	if place == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(append(k.mac(place), place...))
}

// open answers the place of a cursor, and false if nobody gave it out.
func (k cursors) open(unverified string) (place string, ok bool) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(unverified)
	if err != nil || len(data) <= macSize {
		return "", false
	}
	place = string(data[macSize:])
	return place, hmac.Equal(data[:macSize], k.mac(place))
}

// openCursor puts the place in place of the query's cursor.
func (s *server) openCursor(c *gin.Context) {
	op := passageOf(c).op
	if c.Request.URL.RawQuery == "" || op == nil || op.lenient {
		return
	}
	query := c.Request.URL.Query()
	cursor := query.Get("cursor")
	if cursor == "" {
		return
	}
	place, ok := s.cursors.open(cursor)
	if !ok {
		f := finding("query cursor", ruleCursor)
		s.fail(c, &refusal{code: api.ProblemCodeInvalid, detail: f.Field + ": " + f.En, fields: []api.FieldFinding{f}})
		return
	}
	query.Set("cursor", place)
	u := *c.Request.URL
	u.RawQuery = query.Encode()
	c.Request = c.Request.WithContext(c.Request.Context()) // a copy: the client's request stays as it was sent
	c.Request.URL = &u
}
