package service_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/cache"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// work counts what an answer to the public costs.
type work struct{ Heights, Reads, CacheReads, CacheWrites int64 }

// lookups counts what a verifier does with its index and cache, its two ports.
type (
	lookups struct {
		heights, reads, cacheReads, cacheWrites atomic.Int64
	}
	watchedIndex struct {
		index.Index
		c *lookups
	}
	watchedCache struct {
		cache.Cache
		c *lookups
	}
)

func (i watchedIndex) NextBlock(ctx context.Context) (uint64, error) {
	i.c.heights.Add(1)
	return i.Index.NextBlock(ctx)
}

func (i watchedIndex) Get(ctx context.Context, kind domain.RecordKind, id string) (index.Record, error) {
	i.c.reads.Add(1)
	return i.Index.Get(ctx, kind, id)
}

func (c watchedCache) Get(ctx context.Context, key string) (cache.Entry, bool) {
	c.c.cacheReads.Add(1)
	return c.Cache.Get(ctx, key)
}

func (c watchedCache) Put(ctx context.Context, key string, e cache.Entry, ttl time.Duration) {
	c.c.cacheWrites.Add(1)
	c.Cache.Put(ctx, key, e, ttl)
}

// since answers what was done since the last call.
func (c *lookups) since() work {
	return work{c.heights.Swap(0), c.reads.Swap(0), c.cacheReads.Swap(0), c.cacheWrites.Swap(0)}
}

// TestNotThereIsOneAnswer asks for references that nobody may learn about: one that never
// was, one that is proposed and one that was rejected. Their answers are the same but for
// the reference, and cost the same look-ups, as those of an issued certificate do, and no
// call of the ledger: neither the answer nor what is done for it tells which is which.
func TestNotThereIsOneAnswer(t *testing.T) {
	w := newWorld(t)
	serial := 0
	numbered := func() service.IssueRequest {
		r := issueRequest()
		serial++
		r.Serial = fmt.Sprintf("2026%06d", serial)
		return r
	}
	other, issued := w.issue(numbered()).Value.Content.Ref, w.issue(numbered()).Value.Content.Ref
	proposed, rejected := w.propose(numbered()).Value.Content.Ref, w.propose(numbered()).Value.Content.Ref
	if _, err := w.certificates().Decide(t.Context(), policeReviewer, domain.DecideArgs{Ref: rejected, Decision: domain.RejectCertificate, Opinion: "材料不齐"}); err != nil {
		t.Fatal(err)
	}
	w.indexed()
	refs := map[string]string{"never was": strings.Repeat("0123456789abcdef", 2), "proposed": proposed, "rejected": rejected, "issued": issued}

	c := new(lookups)
	var noLedger ledger.Ledger // a call of it would panic
	v := service.NewVerification(noLedger, watchedIndex{Index: w.index, c: c}, watchedCache{Cache: w.cache, c: c}, w.anchors, w.clock.Now, w.clock.Now)
	// An issuer's record is read once at every height, for whoever asks first.
	v.Verify(t.Context(), other)
	for _, round := range []struct {
		name string
		step func()
		want work
	}{
		{"first", func() {}, work{Heights: 1, Reads: 1, CacheReads: 1, CacheWrites: 1}},
		{"again", func() {}, work{Heights: 1}},
		{"after its time", func() { w.clock.Advance(6 * time.Second) }, work{Heights: 1, Reads: 1, CacheReads: 1, CacheWrites: 1}},
	} {
		round.step()
		var absent service.Verification
		for _, name := range []string{"never was", "proposed", "rejected", "issued"} {
			c.since()
			got := v.Verify(t.Context(), refs[name])
			if diff := cmp.Diff(round.want, c.since()); diff != "" {
				t.Errorf("%s, %s: what was done (-want +got):\n%s", round.name, name, diff)
			}
			got.Ref = ""
			switch name {
			case "issued":
				if got.Verdict != service.Valid {
					t.Errorf("%s: the issued one is %s", round.name, got.Verdict)
				}
			case "never was":
				if absent = got; got.Verdict != service.NotFound {
					t.Errorf("%s: %s is %s", round.name, name, got.Verdict)
				}
			default:
				if diff := cmp.Diff(absent, got); diff != "" {
					t.Errorf("%s: %s is told from what never was:\n%s", round.name, name, diff)
				}
			}
		}
	}
}
