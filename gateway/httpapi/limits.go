package httpapi

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/zhenglian/zhenglian/api"
)

const (
	// poolSize is how many requests of the public may be under way at once: what
	// bounds their memory while index or cache are slow.
	poolSize = 256

	// poolWait is how long a request of the public may wait for its turn. With the
	// pool's rate it bounds how many wait.
	poolWait = 250 * time.Millisecond
)

// pool takes in the requests of the public, at a bounded rate and in bounded
// number, so that however many come, departments' calls find the gateway as idle as
// they need it. Requests wait their turn for a short time. It is safe for
// concurrent use.
type pool struct {
	told  limit // what clients are told of it
	limit *rate.Limiter
	slots chan struct{} // holds one for each request under way
}

func newPool(name string, r Rate) pool {
	return pool{
		told:  newLimits(map[string]Rate{name: r})[name],
		limit: rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst), slots: make(chan struct{}, poolSize),
	}
}

// enter waits for a turn. It answers what must be called when the request is
// over, nil if there is no turn within [poolWait] or ctx ends; retryAfter then says
// when one may be free.
func (p *pool) enter(ctx context.Context) (leave func(), retryAfter time.Duration) {
	turn := p.limit.Reserve()
	if !turn.OK() {
		return nil, time.Minute // its burst is 0: it lets nothing through
	}
	wait := turn.Delay()
	if wait > poolWait {
		turn.Cancel()
		return nil, wait
	}
	leave = func() { <-p.slots }
	if wait == 0 {
		select {
		case p.slots <- struct{}{}:
			return leave, 0
		default:
		}
	}
	ended := time.NewTimer(poolWait)
	defer ended.Stop()
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, poolWait
		}
	}
	select {
	case p.slots <- struct{}{}:
		return leave, 0
	case <-ended.C:
	case <-ctx.Done():
	}
	return nil, poolWait
}

// enter lets a request into a pool and reports whether it may go on; if not, it
// has been answered.
func (s *server) enter(c *gin.Context, p *pool) bool {
	leave, wait := p.enter(c.Request.Context())
	if leave == nil {
		p.told.tell(c.Writer.Header(), 0, wait)
		s.fail(c, &refusal{
			code: api.ProblemCodeRateLimited, retryAfter: max(wait, time.Second),
			detail: "too many people ask this gateway at this moment; the Retry-After header says when to try again",
		})
		return false
	}
	passageOf(c).leave = leave
	return true
}

// within counts the request for whom against the limit of a name and reports
// whether it may go on; if not, it has been answered.
func (s *server) within(c *gin.Context, name, whom string) bool {
	l := s.limits[name]
	ok, wait, left := s.Limiter.Allow(c.Request.Context(), l.key+whom, l.PerSecond, l.Burst)
	l.tell(c.Writer.Header(), left, wait)
	if !ok {
		s.fail(c, &refusal{code: api.ProblemCodeRateLimited, detail: "too many requests; the Retry-After header says when to try again", retryAfter: max(wait, time.Second)})
	}
	return ok
}

// limit is a rate with what clients are told of it, in the fields of
// draft-ietf-httpapi-ratelimit-headers-10.
type limit struct {
	Rate
	key    string   // begins the keys that requests are counted under
	policy []string // q requests in a window of w seconds
	item   string   // begins what is left of it
}

// newLimits answers the limits by their names.
func newLimits(rates map[string]Rate) map[string]limit {
	limits := make(map[string]limit, len(rates))
	for name, r := range rates {
		limits[name] = limit{
			Rate: r, key: "http:" + name + ":", item: `"` + name + `";r=`,
			policy: []string{fmt.Sprintf(`"%s";q=%d;w=%d`, name, r.Burst, seconds(float64(r.Burst)/r.PerSecond))},
		}
	}
	return limits
}

// tell says that left requests are left now, and more after wait.
func (l limit) tell(h http.Header, left int, wait time.Duration) {
	h["Ratelimit-Policy"] = l.policy
	item := strconv.AppendInt(append(make([]byte, 0, 48), l.item...), int64(left), 10)
	item = strconv.AppendInt(append(item, ";t="...), seconds(max(wait.Seconds(), 1/l.PerSecond)), 10)
	h["Ratelimit"] = []string{string(item)}
}

// seconds rounds up to whole seconds, 1 at least, for headers that know no others.
func seconds(s float64) int64 {
	const most = 1 << 30 // also of what is no number
	if !(s < most) {
		return most
	}
	return max(int64(math.Ceil(s)), 1)
}
