package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"golang.org/x/sync/errgroup"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// historyPage is how many of the oldest uses are asked for.
const historyPage = 100

// compareHistory measures who used a resource first: 100 records from the middle of
// a grant's uses, as the gateway's trace answers them, over the oldest 100 versions of
// one key of as many versions as the settings say, as GetHistoryForKey does. Both go
// by one client, one call after the other.
//
// The peers of the network keep no history database. One is configured to, restarted,
// and makes it from its blocks; nothing is measured after this.
func (b *bench) compareHistory(ctx context.Context) ([]figure, error) {
	key := fmt.Sprintf("use~version-%d", b.sequence.Add(1))
	if err := b.writeVersions(ctx, key, b.set.Versions); err != nil {
		return nil, fmt.Errorf("write %d versions: %w", b.set.Versions, err)
	}
	trace, err := b.deepTrace(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.keepHistory(ctx); err != nil {
		return nil, fmt.Errorf("have the peer of %s keep a history: %w", department, err)
	}
	set := b.set
	b.set.Clients, b.set.WarmUp, b.set.Window = 1, min(set.WarmUp, time.Second), min(set.Window, 4*time.Second)
	if set.Versions > 1000 { // a call takes seconds
		b.set.Window = 15 * time.Second
	}
	defer func() { b.set = set }()
	pairs, err := b.abba(ctx, arm{"GetHistoryForKey", b.calls(b.readHistory(key))}, arm{"trace", b.calls(trace)})
	if err != nil {
		return nil, err
	}
	return []figure{ratio("access.trace_vs_history", fmt.Sprintf("≥ 50 at 10,000 versions; here %d", set.Versions), pairs)}, nil
}

// writeVersions writes n versions of a key, each in a transaction of its own: a
// transaction leaves one.
func (b *bench) writeVersions(ctx context.Context, key string, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.set.Clients)
	for range n {
		group.Go(func() error {
			value, err := domain.Canonical(b.use())
			if err != nil {
				return err
			}
			_, err = submitArguments(ctx, b.fabric, "bench:Write", []byte(key), value)
			return err
		})
	}
	return group.Wait()
}

// readHistory reads the oldest versions of a key.
func (b *bench) readHistory(key string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		data, err := b.fabric.Contract.EvaluateWithContext(ctx, "bench:History", client.WithArguments(key, fmt.Sprint(historyPage)))
		if err != nil {
			return "", err
		}
		var answer struct {
			Versions int               `json:"versions"`
			Oldest   []json.RawMessage `json:"oldest"`
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			return "", err
		}
		if answer.Versions != b.set.Versions || len(answer.Oldest) != min(historyPage, b.set.Versions) {
			return "", fmt.Errorf("the history has %d versions, want %d", answer.Versions, b.set.Versions)
		}
		return "", nil
	}
}

// deepTrace answers a call that asks for a page of the grant's uses which lies behind
// as many others as the history has versions.
func (b *bench) deepTrace(ctx context.Context) (func(context.Context) (string, error), error) {
	g := b.net.Gateway(department)
	// The grant must have been used often enough; the other arms did, unless they were left out.
	l := b.followAnchors(ctx)
	defer l.end()
	for written := 0; written < b.set.Versions+2*historyPage; written += b.set.BatchSize {
		if err := b.log(ctx, l, time.Now(), b.set.BatchSize); err != nil {
			return nil, err
		}
	}
	if _, err := b.anchored(ctx, l); err != nil {
		return nil, err
	}
	path := "/v1/audit/trace?grantId=" + b.grant.ID + "&limit="
	var page struct {
		Items []struct {
			Index  uint64              `json:"index"`
			Record domain.AccessRecord `json:"record"`
		} `json:"items"`
		Next string `json:"next"`
	}
	after := ""
	for depth := 0; depth < b.set.Versions; depth += len(page.Items) {
		page.Items, page.Next = nil, ""
		if err := g.Call(ctx, "auditor", "GET", path+"200"+after, nil, 200, &page); err != nil {
			return nil, err
		}
		if page.Next == "" {
			return nil, errors.New("the trace ended before it was deep enough")
		}
		after = "&cursor=" + url.QueryEscape(page.Next)
	}
	path += fmt.Sprint(historyPage) + after
	return func(ctx context.Context) (string, error) {
		var page anyPage
		if err := g.Call(ctx, "auditor", "GET", path, nil, 200, &page); err != nil {
			return "", err
		}
		if len(page.Items) != historyPage {
			return "", fmt.Errorf("%d uses on a page of %d", len(page.Items), historyPage)
		}
		return "", nil
	}, nil
}

// anyPage is a page of a list, its items unread.
type anyPage struct {
	Items []json.RawMessage `json:"items"`
}

// keepHistory has the department's peer make a history database.
func (b *bench) keepHistory(ctx context.Context) error {
	path := filepath.Join(b.net.State, "departments", department, "peer", "core.yaml")
	config, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	without, with := []byte("enableHistoryDatabase: false"), []byte("enableHistoryDatabase: true")
	if !bytes.Contains(config, without) {
		return fmt.Errorf("%s does not say %q", path, without)
	}
	if err := os.WriteFile(path, bytes.Replace(config, without, with, 1), 0o600); err != nil {
		return err
	}
	if err := b.net.Kill(department, consortium.Peer); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		if _, err = b.fabric.Contract.EvaluateWithContext(ctx, "bench:History", client.WithArguments("use~none", "1")); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}
