package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/test/consortium"
)

const (
	// freshClients is how many clients ask for proofs with their own nonce, and for
	// cached verifications beside them: a gateway has no more signed at one time.
	freshClients = 16

	// lookupRate is how many verifications a second the open loop asks for.
	lookupRate = 1000
	// lookupConnections is how many connections it has for them.
	lookupConnections = 128

	// callersAtOnce is how many ask for one reference at one moment.
	callersAtOnce = 1000
)

func verifyPath(ref string) string { return "/v1/verify/" + ref }

// over makes an arm of calls in a closed loop, each client over a connection of its
// own.
func (b *bench) over(base string, clients int, call func(*connection) error) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		all, err := connections(ctx, base, clients)
		if err != nil {
			return sample{}, err
		}
		defer closeAll(all)
		free := make(chan *connection, clients)
		for _, c := range all {
			free <- c
		}
		ids, latencies, failed, err := b.during(ctx, clients, func(context.Context) (string, error) {
			c := <-free
			defer func() { free <- c }()
			return "", call(c)
		})
		if err != nil {
			return sample{}, err
		}
		return sample{Count: len(ids), Failed: failed, Seconds: b.set.Window.Seconds(), P50: quantile(latencies, 0.5), P99: quantile(latencies, 0.99)}, nil
	}
}

// look asks for a verification and checks that it says what it should.
func look(c *connection, ref, verdict string) error {
	status, _, body, err := c.get(verifyPath(ref), "")
	switch {
	case err != nil:
		return err
	case status != http.StatusOK || !bytes.Contains(body, []byte(`"ref":"`+ref+`"`)) || !bytes.Contains(body, []byte(`"verdict":"`+verdict+`"`)):
		return fmt.Errorf("status %d, want the verdict %s: %.300s", status, verdict, body)
	}
	return nil
}

// cachedVersusUncached compares a verification that the gateway answers from its
// cache with one that nothing kept can answer, because the verifier trusts no
// gateway and brings a nonce: then the departments sign, and the gateway checks
// what they signed. A lookup without a nonce never reads the ledger, cached or not;
// what it costs when its certificate was not asked for before is
// verify.cached_vs_indexed.
func (b *bench) cachedVersusUncached(ctx context.Context) ([]figure, error) {
	gateway := b.net.Gateway(department).URL
	trust, err := b.trust(ctx)
	if err != nil {
		return nil, err
	}
	fresh := arm{"verify.fresh", b.over(gateway, freshClients, func(c *connection) error { return b.freshProof(c, trust) })}
	cached := arm{"verify.cached", b.over(gateway, freshClients, func(c *connection) error { return look(c, b.refs[0], "valid") })}
	pairs, err := b.abba(ctx, fresh, cached)
	if err != nil {
		return nil, err
	}
	return []figure{ratio("verify.cached_vs_uncached", "≥ 50", pairs)}, nil
}

func (b *bench) trust(ctx context.Context) (*proof.Anchors, error) {
	res, err := b.net.Gateway(department).Do(ctx, "", "GET", "/v1/trust", nil)
	if err != nil {
		return nil, err
	}
	return proof.ParseAnchors(res.Body)
}

// verifiedOf is of how many fresh proofs the client verifies one: each takes it
// nearly a millisecond.
const verifiedOf = 16

// freshProof has departments sign with a nonce of the client's own.
func (b *bench) freshProof(c *connection, trust *proof.Anchors) error {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	nonce := hex.EncodeToString(random)
	status, _, body, err := c.get(verifyPath(b.refs[0])+"/proof?nonce="+nonce, "")
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("proof: status %d: %.300s", status, body)
	}
	if random[0]%verifiedOf != 0 {
		return nil
	}
	if v := proof.Verify(body, trust, proof.Options{Nonce: nonce, At: time.Now()}); v.Overall != proof.Valid {
		return fmt.Errorf("proof: %s: %s", v.Overall, v.Reason)
	}
	return nil
}

// cachedVersusBare compares a cached verification with what a bare Gin handler
// takes to return the same bytes, head and body.
func (b *bench) cachedVersusBare(ctx context.Context) (_ []figure, err error) {
	gateway := b.net.Gateway(department).URL
	dir, err := os.MkdirTemp("", "zhenglian-bench-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := dial(ctx, gateway)
	if err != nil {
		return nil, err
	}
	_, head, body, err := c.get(verifyPath(b.refs[0]), "")
	closeAll([]*connection{c})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, recordedFile), slices.Concat(head, body), 0o600); err != nil {
		return nil, err
	}
	bare, err := start(ctx, serveBare, "-dir", dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	pids, err := b.net.Processes(department, consortium.GatewayOf)
	if err != nil || len(pids) == 0 {
		return nil, errors.Join(err, errors.New("the gateway is not there"))
	}
	b.alone = map[string]int{"bare": bare.pid, "server": pids[0]}
	defer func() { b.alone = nil }()
	lookups := func(base string) func(context.Context) (sample, error) {
		return b.over(base, b.set.Clients, func(c *connection) error { return look(c, b.refs[0], "valid") })
	}
	pairs, err := b.abba(ctx, arm{"verify.bare", lookups(bare.url)}, arm{"verify.cached", lookups(gateway)})
	if err != nil {
		return nil, err
	}
	var costs []float64
	for _, p := range pairs {
		costs = append(costs, p[1].each("server")/p[0].each("bare"))
	}
	slices.Sort(costs)
	return []figure{
		ratio("verify.cached_vs_bare", "≥ 0.77: within 30 %", pairs),
		{Name: "verify.cached_cpu_vs_bare", Ratio: median(costs), Worst: costs[len(costs)-1], Unit: "ratio", Goal: "≤ 1.3: processor time of the server for each answer"},
	}, nil
}

// each answers what a counted unit cost a kind of process, in seconds.
func (s sample) each(kind string) float64 { return s.Usage[kind].CPU.Seconds() / float64(s.Count) }

// lookups measures verifications of many certificates, as people ask for them: a few
// very often, most hardly ever, and none of them in the cache at the beginning. The
// gateway's index holds generated certificates; all before it is the real thing.
func (b *bench) lookups(ctx context.Context) (_ []figure, err error) {
	dir, err := os.MkdirTemp("", "zhenglian-bench-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := start(ctx, serveLookup, "-dir", dir, "-certificates", strconv.Itoa(b.set.Certificates))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	b.alone = map[string]int{"server": server.pid}
	defer func() { b.alone = nil }()

	zipf := mathrand.NewZipf(mathrand.New(mathrand.NewPCG(2026, 11)), 1.1, 1, uint64(b.set.Certificates-1)) //nolint:gosec // a sample, no secret
	asked := make([]int, int((b.set.WarmUp+b.set.Window).Seconds()+1)*lookupRate)
	for i := range asked {
		asked[i] = int(zipf.Uint64()) //nolint:gosec // below the number of certificates
	}
	open, err := b.measure(ctx, arm{"verify.lookup", func(ctx context.Context) (sample, error) {
		all, err := connections(ctx, server.url, lookupConnections)
		if err != nil {
			return sample{}, err
		}
		defer closeAll(all)
		// No warm-up: the cold start counts.
		latencies, failed, err := openLoop(ctx, all, lookupRate, 0, b.set.WarmUp+b.set.Window, func(c *connection, n int) error {
			return look(c, refOf(asked[n%len(asked)]), verdictOf(asked[n%len(asked)]))
		})
		if err != nil {
			return sample{}, err
		}
		if failed > 0 {
			return sample{}, fmt.Errorf("%d of %d lookups failed or were wrong", failed, len(latencies))
		}
		return sample{Count: len(latencies), Failed: failed, Seconds: (b.set.WarmUp + b.set.Window).Seconds(), P50: quantile(latencies, 0.5), P99: quantile(latencies, 0.99)}, nil
	}})
	if err != nil {
		return nil, err
	}
	var next sync.Mutex
	n := 0
	indexed := arm{"verify.indexed", b.over(server.url, freshClients, func(c *connection) error {
		next.Lock()
		n = (n + 1) % b.set.Certificates // not asked for within the life of an answer
		i := n
		next.Unlock()
		return look(c, refOf(i), verdictOf(i))
	})}
	cached := arm{"verify.cached", b.over(server.url, freshClients, func(c *connection) error { return look(c, refOf(1), verdictOf(1)) })}
	pairs, err := b.abba(ctx, indexed, cached)
	if err != nil {
		return nil, err
	}
	return []figure{
		{
			Name: "verify.lookup_p99", Value: milliseconds(open.P99), Unit: "ms", Samples: []sample{open},
			Goal: fmt.Sprintf("≤ 10 at %d a second, open loop, over %d certificates", lookupRate, b.set.Certificates),
		},
		ratio("verify.cached_vs_indexed", "what the cache saves beside the index", pairs),
	}, nil
}

// singleFlight counts how often the departments sign when very many ask for the
// proof of one record at one moment and none is kept.
func (b *bench) singleFlight(ctx context.Context) ([]figure, error) {
	file, err := b.net.TokenFile(department, "operator")
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all, err := connections(ctx, b.net.Gateway(department).URL, callersAtOnce)
	if err != nil {
		return nil, err
	}
	defer closeAll(all)
	before, err := b.endorsements(ctx)
	if err != nil {
		return nil, err
	}
	errs := make(chan error, len(all))
	for _, c := range all {
		go func() {
			// Nobody has asked for the proof of the benchmark's own grant.
			status, _, body, err := c.get("/v1/proofs/grant/"+b.grant.ID, "Authorization: Bearer "+strings.TrimSpace(string(token))+"\r\n")
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("proof: status %d: %.300s", status, body)
			}
			errs <- err
		}()
	}
	for range all {
		if callErr := <-errs; callErr != nil {
			err = callErr
		}
	}
	if err != nil {
		return nil, err
	}
	after, err := b.endorsements(ctx)
	return []figure{{Name: "verify.single_flight", Value: after - before, Unit: "signed reads", Goal: fmt.Sprintf("1 for %d who ask at once", callersAtOnce)}}, err
}

// endorsements answers how often the gateway has had something signed, by its own
// count.
func (b *bench) endorsements(ctx context.Context) (float64, error) {
	return b.metric(ctx, `zhenglian_peer_call_duration_seconds_count{call="endorse"`)
}

// kneeRates are the rates that the knee is looked for among.
var kneeRates = []int{1000, 2000, 3000, 4000, 6000, 8000, 10_000, 12_000, 16_000, 20_000, 24_000, 32_000}

// kneeLatency is what the 99th percentile must stay within below the knee.
const kneeLatency = 50 * time.Millisecond

// knee raises the rate of cached verifications until they are late.
func (b *bench) knee(ctx context.Context) ([]figure, error) {
	f := figure{Name: "verify.knee", Unit: "verifications/s", Goal: fmt.Sprintf("the highest rate with a 99th percentile of up to %s, the client on the same cores", kneeLatency)}
	for _, rate := range kneeRates {
		s, err := b.measure(ctx, arm{fmt.Sprintf("verify.%d", rate), func(ctx context.Context) (sample, error) {
			all, err := connections(ctx, b.net.Gateway(department).URL, lookupConnections)
			if err != nil {
				return sample{}, err
			}
			defer closeAll(all)
			latencies, failed, err := openLoop(ctx, all, rate, b.set.WarmUp/2, b.set.Window/2, func(c *connection, _ int) error { return look(c, b.refs[0], "valid") })
			if err != nil {
				return sample{}, err
			}
			return sample{Count: len(latencies) - failed, Failed: failed, Seconds: (b.set.Window / 2).Seconds(), P50: quantile(latencies, 0.5), P99: quantile(latencies, 0.99)}, nil
		}})
		if err != nil {
			return nil, err
		}
		if s.Failed > 0 || s.P99 > kneeLatency {
			break
		}
		f.Value, f.Samples = float64(rate), append(f.Samples, s)
	}
	return []figure{f}, nil
}
