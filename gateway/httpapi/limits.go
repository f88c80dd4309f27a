package httpapi

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"
)

const (
	// poolSize is how many requests of the public may be under way at once: what
	// bounds their memory while index or cache are slow.
	poolSize = 256

	// poolWait is how long a request of the public may wait for its turn. With the
	// pool's rate it bounds how many wait.
	poolWait = 250 * time.Millisecond
)

// What a request is refused with for which there is no turn.
var (
	crowded = tooMany("too many people ask this gateway at this moment; the Retry-After header says when to try again")
	hasty   = tooMany("too many requests; the Retry-After header says when to try again")
)

// pool takes in the requests of the public, at a bounded rate and in bounded
// number, so that however many come, departments' calls find the gateway as idle as
// they need it. Requests wait their turn for a short time. It is safe for
// concurrent use.
type pool struct {
	told  *limit // what clients are told of it
	limit *rate.Limiter
	slots chan struct{} // holds one for each request under way
	leave func()        // gives one back
}

func newPool(name string, r Rate) pool {
	slots := make(chan struct{}, poolSize)
	return pool{
		told:  newLimits(map[string]Rate{name: r})[name],
		limit: rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst), slots: slots, leave: func() { <-slots },
	}
}

// enter waits for a turn. It answers what must be called when the request is
// over, nil if there is no turn within [poolWait] or ctx ends; retryAfter then says
// when one may be free.
func (p *pool) enter(ctx context.Context) (leave func(), retryAfter time.Duration) {
	now := time.Now()
	var wait time.Duration
	if !p.limit.AllowN(now, 1) {
		turn := p.limit.ReserveN(now, 1)
		if !turn.OK() {
			return nil, time.Minute // its burst is 0: it lets nothing through
		}
		if wait = turn.DelayFrom(now); wait > poolWait {
			turn.CancelAt(now)
			return nil, wait
		}
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
		return p.leave, 0
	default:
	}
	ended := time.NewTimer(poolWait - wait)
	defer ended.Stop()
	select {
	case p.slots <- struct{}{}:
		return p.leave, 0
	case <-ended.C:
	case <-ctx.Done():
	}
	return nil, poolWait
}

// enter lets a request into a pool and reports whether it may go on; if not, it
// has been answered.
func (s *server) enter(c *gin.Context, p *pool) bool {
	way := passageOf(c)
	leave, wait := p.enter(way.outer) // a wait is shorter than any deadline
	if leave == nil {
		p.told.tell(c, 0, wait)
		s.fail(c, crowded.until(wait))
		return false
	}
	way.leave = leave
	return true
}

// addressWithin is [server.within] for the address that the request comes from.
func (s *server) addressWithin(c *gin.Context, name string) bool {
	l := s.limits[name]
	return s.counted(c, l, string(appendNetwork(append(make([]byte, 0, 64), l.key...), remote(c.Request))))
}

// within counts the request for whom against the limit of a name and reports
// whether it may go on; if not, it has been answered.
func (s *server) within(c *gin.Context, name, whom string) bool {
	l := s.limits[name]
	return s.counted(c, l, l.key+whom)
}

func (s *server) counted(c *gin.Context, l *limit, key string) bool {
	ok, wait, left := s.Limiter.Allow(c.Request.Context(), key, l.PerSecond, l.Burst)
	l.tell(c, left, wait)
	if !ok {
		s.fail(c, hasty.until(wait))
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
func newLimits(rates map[string]Rate) map[string]*limit {
	limits := make(map[string]*limit, len(rates))
	for name, r := range rates {
		limits[name] = &limit{
			Rate: r, key: "http:" + name + ":", item: `"` + name + `";r=`,
			policy: []string{fmt.Sprintf(`"%s";q=%d;w=%d`, name, r.Burst, seconds(float64(r.Burst)/r.PerSecond))},
		}
	}
	return limits
}

// tell says that left requests are left now, and more after wait.
func (l *limit) tell(c *gin.Context, left int, wait time.Duration) {
	item := strconv.AppendInt(append(make([]byte, 0, 48), l.item...), int64(left), 10)
	item = strconv.AppendInt(append(item, ";t="...), seconds(max(wait.Seconds(), 1/l.PerSecond)), 10)
	way := passageOf(c)
	way.rateLimit[0] = string(item)
	h := c.Writer.Header()
	h["Ratelimit-Policy"], h["Ratelimit"] = l.policy, way.rateLimit[:]
}

// seconds rounds up to whole seconds, 1 at least, for headers that know no others.
func seconds(s float64) int64 {
	const most = 1 << 30 // also of what is no number
	if !(s < most) {
		return most
	}
	return max(int64(math.Ceil(s)), 1)
}
