package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// TestPoolAtThreeTimesItsRate offers for a while three times as many requests as
// the pool takes in: a third of them enter, none waits for longer than it may, and
// what is refused is refused at once.
func TestPoolAtThreeTimesItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, window = 100, 10 * time.Second
		p := newPool("test", Rate{PerSecond: perSecond, Burst: 10})
		var entered, refused atomic.Int64
		var longest atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for time.Since(start) < window {
			wg.Go(func() {
				began := time.Now()
				leave, retryAfter := p.enter(t.Context())
				waited := time.Since(began)
				if leave == nil {
					if refused.Add(1); waited != 0 || retryAfter <= poolWait {
						t.Errorf("refused after %s, to come again after %s", waited, retryAfter)
					}
					return
				}
				entered.Add(1)
				longest.Store(max(longest.Load(), int64(waited)))
				time.Sleep(time.Millisecond) // what the request takes
				leave()
			})
			time.Sleep(time.Second / (3 * perSecond))
		}
		wg.Wait()
		// The rate for the window, the burst, and those who waited at its end.
		if n := entered.Load(); n < perSecond*10 || n > perSecond*10+10+25+1 {
			t.Errorf("%d entered, %d were refused", n, refused.Load())
		}
		if got := time.Duration(longest.Load()); got > poolWait || got < poolWait/2 {
			t.Errorf("the longest wait was %s, want up to %s", got, poolWait)
		}
		if len(p.slots) != 0 {
			t.Errorf("%d are still in", len(p.slots))
		}
	})
}

// TestPoolIsFull has requests that do not end: no more than fit are in, others go
// away after their wait, and a free place is taken.
func TestPoolIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool("test", Rate{PerSecond: 1e6, Burst: 10 * poolSize})
		var leaves []func()
		for range poolSize {
			leave, _ := p.enter(t.Context())
			if leave == nil {
				t.Fatal("refused while there is a place")
			}
			leaves = append(leaves, leave)
		}
		began := time.Now()
		if leave, retryAfter := p.enter(t.Context()); leave != nil || retryAfter <= 0 || time.Since(began) != poolWait {
			t.Errorf("one too many is in after %s", time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if leave, _ := p.enter(ctx); leave != nil {
			t.Error("one who has left is in")
		}
		in := make(chan func())
		go func() {
			leave, _ := p.enter(t.Context())
			in <- leave
		}()
		synctest.Wait()
		leaves[0]()
		leave := <-in
		if leave == nil {
			t.Fatal("refused although a place became free")
		}
		leave()
		for _, leave := range leaves[1:] {
			leave()
		}
		if len(p.slots) != 0 {
			t.Errorf("%d are still in", len(p.slots))
		}
	})
}

// TestDepartmentsPassThePublic fills the pool: the public is told to come again,
// whatever it asks for, and departments do not notice.
func TestDepartmentsPassThePublic(t *testing.T) {
	g := new(gateway)
	g.reset()
	g.verdict = service.Valid
	cfg := g.config(io.Discard)
	cfg.PublicRate = Rate{PerSecond: 0.001, Burst: 2}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	const verify = "/v1/verify/" + testRef
	for _, tt := range []struct {
		name, target, token string
		want                int
	}{
		{"first", verify, "", http.StatusOK},
		{"without the token it needs", "/v1/grants", "", http.StatusUnauthorized},
		{"third", verify, "", http.StatusTooManyRequests},
		{"page", "/v/" + testRef, "", http.StatusTooManyRequests},
		{"guessed token", verify, "zl_guess", http.StatusTooManyRequests},
		{"no such path", "/nothing", "", http.StatusTooManyRequests},
		{"department", "/v1/grants", "zl_operator", http.StatusOK},
		{"department, public path", verify, "zl_operator", http.StatusOK},
		{"tiles", "/v1/logs/police/checkpoint", "", http.StatusOK},
		{"probe", "/livez", "", http.StatusOK},
	} {
		w := get(h, tt.target, tt.token)
		if w.Code != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, w.Code, tt.want)
		}
		if tt.want != http.StatusTooManyRequests {
			continue
		}
		if p := checkProblem(t, tt.name, w); p.Code != api.ProblemCodeRateLimited || w.Header().Get("Retry-After") == "" || w.Header().Get("RateLimit") != `"public";r=0;t=1000` {
			t.Errorf("%s: %+v, %v", tt.name, p, w.Header())
		}
	}
}

// TestFloodIsToldTheSame compares the documents that are rendered once with what
// rendering them for each request makes of them.
func TestFloodIsToldTheSame(t *testing.T) {
	const trace = "0123456789abcdef0123456789abcdef"
	for _, r := range []*refusal{crowded, hasty} {
		for _, l := range []lang{english, chinese} {
			want, err := json.Marshal(problemOf(r, l, trace))
			if err != nil {
				t.Fatal(err)
			}
			if got := r.rendered[l].before + trace + r.rendered[l].after; got != string(want) {
				t.Errorf("%s: %s\nwant %s", l, got, want)
			}
		}
	}
	g := new(gateway)
	g.reset()
	cfg := g.config(io.Discard)
	cfg.PublicRate = Rate{PerSecond: 0.001, Burst: 1}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	get(h, "/v1/trust", "")
	for accept, want := range map[string]string{"": problems[crowded.code].title, "zh-CN,zh;q=0.9": problems[crowded.code].titleZh} {
		w := answer(h, "GET /v1/trust", "Accept-Language", accept, "Traceparent", "00-"+trace+"-0123456789abcdef-01")
		if p := checkProblem(t, accept, w); p.Title != want || p.TraceID != trace || w.Header().Get("Retry-After") != "1000" {
			t.Errorf("%q: %+v, %v", accept, p, w.Header())
		}
	}
}

// TestTilesHaveAPoolOfTheirOwn fills one pool after the other: a public that asks too
// much does not keep watchers from tiles, nor watchers the public or departments.
func TestTilesHaveAPoolOfTheirOwn(t *testing.T) {
	g := new(gateway)
	g.reset()
	g.verdict = service.Valid
	const verify, tiles = "/v1/verify/" + testRef, "/v1/logs/police/checkpoint"
	for _, tt := range []struct {
		name            string
		public, tile    Rate
		crowded, spared string
		policy          string
	}{
		{"the public", Rate{0.001, 1}, Rate{}, verify, tiles, `"public";q=1;w=1000`},
		{"tiles", Rate{}, Rate{0.001, 1}, tiles, verify, `"all-tiles";q=1;w=1000`},
	} {
		cfg := g.config(io.Discard)
		cfg.PublicRate, cfg.TileRate = tt.public, tt.tile
		h, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if w := get(h, tt.crowded, ""); w.Code != http.StatusOK {
			t.Fatalf("%s: first: status %d", tt.name, w.Code)
		}
		w := get(h, tt.crowded, "")
		if p := checkProblem(t, tt.name, w); p.Code != api.ProblemCodeRateLimited || w.Header().Get("Retry-After") == "" || w.Header().Get("RateLimit-Policy") != tt.policy {
			t.Errorf("%s: one too many: %+v, %v", tt.name, p, w.Header())
		}
		for range 3 {
			if w := get(h, tt.spared, ""); w.Code != http.StatusOK {
				t.Errorf("%s are crowded: %s: status %d", tt.name, tt.spared, w.Code)
			}
			if w := get(h, "/v1/grants", "zl_operator"); w.Code != http.StatusOK {
				t.Errorf("%s are crowded: department: status %d", tt.name, w.Code)
			}
		}
	}
}

// TestRateLimitFields reads what clients are told of their limits.
func TestRateLimitFields(t *testing.T) {
	h, g, _ := newTest(t)
	for _, tt := range []struct {
		name, target, token string
		deny                bool
		policy, left        string
	}{
		{"address", "/v1/trust", "", false, `"address";q=200;w=4`, `"address";r=199;t=1`},
		{"identity", "/v1/grants", "zl_operator", false, `"caller";q=10000;w=2`, `"caller";r=9999;t=1`},
		{"tiles", "/v1/logs/police/checkpoint", "", false, `"tiles";q=20000;w=10`, `"tiles";r=19999;t=1`},
		{"refused", "/v1/trust", "", true, `"address";q=200;w=4`, `"address";r=0;t=2`},
		{"unlimited", "/livez", "", false, "", ""},
	} {
		g.reset()
		g.deny = tt.deny
		r := httptest.NewRequest("GET", tt.target, nil)
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if policy, left := w.Header().Get("RateLimit-Policy"), w.Header().Get("RateLimit"); policy != tt.policy || left != tt.left {
			t.Errorf("%s: RateLimit-Policy %s, RateLimit %s, want %s, %s", tt.name, policy, left, tt.policy, tt.left)
		}
	}
}

func TestSeconds(t *testing.T) {
	for s, want := range map[float64]int64{0: 1, 0.2: 1, 1: 1, 1.1: 2, -5: 1, 1e300: 1 << 30} {
		if got := seconds(s); got != want {
			t.Errorf("seconds(%v) = %d, want %d", s, got, want)
		}
	}
}

// get sends a GET request, with a token unless it is "".
func get(h http.Handler, target, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
