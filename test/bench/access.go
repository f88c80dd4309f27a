package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/test/consortium"
)

const (
	// recordClients is how many arrays of records are under way at once: enough to
	// keep the log busy; more only add latency.
	recordClients = 8

	// chainBatch is how many records one transaction writes where records are kept on
	// the ledger itself.
	chainBatch = 500

	// receiptRate is how many records come in a second while the latency of receipts
	// is measured, receiptArray of them in each request.
	receiptRate  = 2000
	receiptArray = 10
)

// compareRecords measures access records in the log against one record per
// transaction, and against batches of them in one transaction.
func (b *bench) compareRecords(ctx context.Context, raw arm) (_ []figure, baseline []sample, err error) {
	rounds, err := b.rounds(ctx, raw, arm{"access.records", b.records}, arm{"access.chain_batch", b.chainBatches})
	if err != nil {
		return nil, nil, err
	}
	var anchored time.Duration
	for _, r := range rounds {
		baseline = append(baseline, r[0])
		anchored = max(anchored, r[1].Anchored)
	}
	transactions, batches := pairsOf(rounds, 0, 1), pairsOf(rounds, 2, 1)
	return []figure{
		ratio("access.records_vs_tx", "≥ 100", transactions),
		ratio("access.records_vs_batch", "≥ 5", batches),
		ratioOf("access.ledger_bytes_vs_tx", "≥ 100", transactions, func(s sample) float64 { return 1 / s.LedgerBytes }),
		{Name: "access.anchored_p99", Value: anchored.Seconds(), Unit: "s", Goal: "≤ 5: the anchor interval and 3 s"},
	}, baseline, nil
}

// chainBatches is the arm of records that the ledger itself keeps, a batch in each
// transaction. What counts is records, of the transactions that it holds as valid.
func (b *bench) chainBatches(ctx context.Context) (sample, error) {
	s, err := b.transactions(batchClients, func(ctx context.Context) (string, error) {
		var records []json.RawMessage
		for range chainBatch {
			record, err := domain.Canonical(b.use())
			if err != nil {
				return "", err
			}
			records = append(records, record)
		}
		return submitThrough(ctx, b.fabric, "bench:Record", records)
	})(ctx)
	s.Count *= chainBatch
	s.LedgerBytes /= chainBatch
	return s, err
}

// ledgerBytes is the size of the block files of the department's own peer.
func (b *bench) ledgerBytes() (int64, error) {
	files, err := filepath.Glob(filepath.Join(b.net.State, "departments", department, "peer", "data", "ledgersData", "chains", "chains", b.fabric.Name, "blockfile_*"))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("the peer of %s has no block files", department)
	}
	size := int64(0)
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}

// records is the arm of access records: posted in arrays, and counted only when
// an anchor on the ledger covers them; the time runs until that anchor is there.
func (b *bench) records(ctx context.Context) (sample, error) {
	size, err := b.ledgerBytes()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	l := b.followAnchors(ctx)
	defer l.end()
	_, latencies, failed, err := b.during(ctx, recordClients, func(ctx context.Context) (string, error) {
		return "", b.log(ctx, l, time.Now(), b.set.BatchSize)
	})
	if err != nil {
		return sample{}, err
	}
	s, err := b.anchored(ctx, l)
	if err != nil {
		return sample{}, err
	}
	grown, err := b.ledgerBytes()
	if err != nil {
		return sample{}, err
	}
	s.Failed, s.Seconds = failed, l.complete.Sub(began).Seconds()
	s.P50, s.P99 = quantile(latencies, 0.5), quantile(latencies, 0.99)
	s.LedgerBytes = float64(grown-size) / float64(s.Count)
	return s, b.audited(ctx)
}

// receipts measures how long a durable receipt takes when records come in small
// arrays at a fixed rate, whatever the gateway does: the times count from the moment
// at which the array should have been sent.
func (b *bench) receipts(ctx context.Context) ([]figure, error) {
	s, err := b.measure(ctx, arm{"access.receipts", func(ctx context.Context) (sample, error) {
		l := b.followAnchors(ctx)
		defer l.end()
		latencies, failed, err := b.atRate(ctx, receiptRate/receiptArray, func(ctx context.Context, intended time.Time) error {
			return b.log(ctx, l, intended, receiptArray)
		})
		if err != nil {
			return sample{}, err
		}
		s, err := b.anchored(ctx, l)
		if err == nil {
			err = b.audited(ctx)
		}
		s.Count, s.Failed, s.Seconds = (len(latencies)-failed)*receiptArray, failed, b.set.Window.Seconds()
		s.P50, s.P99 = quantile(latencies, 0.5), quantile(latencies, 0.99)
		return s, err
	}})
	if err != nil {
		return nil, err
	}
	return []figure{{
		Name: "access.receipt_p99", Value: milliseconds(s.P99), Unit: "ms", Samples: []sample{s},
		Goal: fmt.Sprintf("≤ 50 at %d records a second, %d in a request, open loop", receiptRate, receiptArray),
	}}, nil
}

// atRate calls call rate times a second for the warm-up and then the window, each at
// its time, and answers the latencies of the window's calls from that time on, sorted.
func (b *bench) atRate(ctx context.Context, rate int, call func(ctx context.Context, intended time.Time) error) (latencies []time.Duration, failed int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var firstErr error
	began := time.Now()
	start, end := began.Add(b.set.WarmUp), began.Add(b.set.WarmUp+b.set.Window)
	for n := 0; ctx.Err() == nil; n++ {
		intended := began.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if intended.After(end) {
			break
		}
		time.Sleep(time.Until(intended))
		wg.Go(func() {
			err := call(ctx, intended)
			took := time.Since(intended)
			mu.Lock()
			defer mu.Unlock()
			if intended.Before(start) {
				return
			}
			if err != nil { // it got no receipt: the slowest of all
				failed, firstErr, took = failed+1, cmp.Or(firstErr, err), end.Sub(began)
			}
			latencies = append(latencies, took)
		})
	}
	wg.Wait()
	if failed > 0 && failed == len(latencies) {
		return nil, failed, fmt.Errorf("no call succeeded: %w", firstErr)
	}
	if firstErr != nil {
		fmt.Fprintln(b.progress, "bench: first failure:", firstErr)
	}
	slices.Sort(latencies)
	return latencies, failed, ctx.Err()
}

// log logs n records that should have been sent at a moment.
func (b *bench) log(ctx context.Context, l *anchorLine, intended time.Time, n int) error {
	records := make([]map[string]any, n)
	for i := range records {
		records[i] = input(b.use())
	}
	var answer struct {
		Receipts []struct {
			Index uint64 `json:"index"`
		} `json:"receipts"`
	}
	if err := b.net.Gateway(department).Call(ctx, "operator", "POST", "/v1/access-records", map[string]any{"records": records}, 201, &answer); err != nil {
		return err
	}
	last := uint64(0)
	for _, r := range answer.Receipts {
		last = max(last, r.Index)
	}
	l.add(post{intended, last, len(answer.Receipts)})
	return nil
}

// post is an array of records that was acknowledged.
type post struct {
	at   time.Time
	last uint64 // index in the log
	n    int
}

// anchorLine follows, as another department sees it, how far the ledger anchors the
// log, and knows the records that wait for it.
type anchorLine struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	posts    []post
	anchors  []post    // at: when it was seen; last: the last entry covered
	complete time.Time // when the last of posts was seen anchored; zero before
}

// anchorPoll is how often the other department is asked: more often than it hears.
const anchorPoll = 50 * time.Millisecond

func (b *bench) followAnchors(ctx context.Context) *anchorLine {
	ctx, cancel := context.WithCancel(ctx)
	l := &anchorLine{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for ctx.Err() == nil {
			if size, err := b.anchoredSize(ctx); err == nil && size > 0 { // an error shows when nothing is anchored
				l.see(time.Now(), size-1)
			}
			select {
			case <-ctx.Done():
			case <-time.After(anchorPoll):
			}
		}
	}()
	return l
}

func (l *anchorLine) end() {
	l.cancel()
	<-l.ended
}

func (l *anchorLine) add(p post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts = append(l.posts, p)
}

func (l *anchorLine) see(at time.Time, last uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.anchors); n == 0 || l.anchors[n-1].last < last {
		l.anchors = append(l.anchors, post{at: at, last: last})
	}
}

// latencies answers how long each post took to be anchored, sorted, or false when
// some are not.
func (l *anchorLine) latencies() ([]time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []time.Duration
	for _, p := range l.posts {
		i, _ := slices.BinarySearchFunc(l.anchors, p.last, func(a post, last uint64) int { return cmp.Compare(a.last, last) })
		if i == len(l.anchors) {
			return nil, false
		}
		all = append(all, l.anchors[i].at.Sub(p.at))
		if l.anchors[i].at.After(l.complete) {
			l.complete = l.anchors[i].at
		}
	}
	slices.Sort(all)
	return all, true
}

// anchored waits until the ledger anchors all that was posted, verifies the
// inclusion of a spread of it, and answers how much it is and how long it took.
func (b *bench) anchored(ctx context.Context, l *anchorLine) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		if latencies, all := l.latencies(); all {
			var s sample
			last := uint64(0)
			for _, p := range l.posts {
				s.Count += p.n
				last = max(last, p.last)
			}
			s.Anchored = quantile(latencies, 0.99)
			return s, b.checkInclusion(ctx, last)
		}
		select {
		case <-ctx.Done():
			return sample{}, errors.New("not all records are anchored")
		case <-time.After(anchorPoll):
		}
	}
}

// audited waits until the lead's auditor has read what the ledger anchors of the log:
// the arm that comes next finds a network that has caught up, and what that took is
// among what this one used.
func (b *bench) audited(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		var logs struct {
			Items []struct {
				Department domain.DepartmentCode `json:"department"`
				Anchored   uint64                `json:"anchoredSize"`
				Audited    struct {
					Size uint64 `json:"size"`
				} `json:"audited"`
			} `json:"items"`
		}
		if err := b.net.Gateway("bigdata").Call(ctx, "auditor", "GET", "/v1/audit/logs", nil, 200, &logs); err != nil {
			return err
		}
		for _, l := range logs.Items {
			if l.Department == department && l.Audited.Size >= l.Anchored {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("the lead's auditor does not catch up")
		case <-time.After(anchorPoll):
		}
	}
}

// anchoredSize is how many entries of the log the ledger anchors, as another
// department's peer sees it.
func (b *bench) anchoredSize(ctx context.Context) (uint64, error) {
	var logs struct {
		Items []consortium.Written[domain.LogRegistration] `json:"items"`
	}
	if err := b.net.Gateway("civil").Call(ctx, "auditor", "GET", "/v1/logs?limit=200", nil, 200, &logs); err != nil {
		return 0, err
	}
	for _, l := range logs.Items {
		if l.Record.Owner == department {
			return l.Record.Size, nil
		}
	}
	return 0, nil
}

// use is a new use of the grant, as the log would record it.
func (b *bench) use() domain.AccessRecord {
	n := b.sequence.Add(1)
	digest := domain.Digest([]byte(strconv.FormatInt(n, 10)))
	at := time.Now().UTC().Truncate(time.Millisecond)
	return domain.AccessRecord{
		Schema: domain.SchemaAccessRecord, Direction: domain.DirectionProvider, CallID: fmt.Sprintf("bench-%020d", n),
		GrantID: b.grant.ID, GrantSeq: b.grant.Seq, CatalogCode: b.grant.CatalogCode, CatalogVersion: b.grant.CatalogVersion, Items: b.grant.Items,
		Provider: b.grant.Provider, Consumer: b.grant.Consumer, Purpose: b.grant.Purpose, LegalBasis: "benchmark", ServiceItem: b.grant.ServiceItem,
		System: "benchmark", Operator: "op-1", OperatorRole: "clerk", RecordCount: 1, RequestDigest: digest, ResponseDigest: digest,
		Channel: domain.ChannelAPI, At: at, RespondedAt: at, Result: domain.ResultOK, LoggedAt: at,
	}
}

// input is what a caller says of a use.
func input(r domain.AccessRecord) map[string]any {
	return map[string]any{
		"direction": r.Direction, "callId": r.CallID, "grantId": r.GrantID, "catalogCode": r.CatalogCode, "catalogVersion": r.CatalogVersion,
		"items": r.Items, "provider": r.Provider, "consumer": r.Consumer, "purpose": r.Purpose, "legalBasis": r.LegalBasis,
		"serviceItem": r.ServiceItem, "caseRef": r.CaseRef, "system": r.System, "operator": r.Operator, "operatorRole": r.OperatorRole,
		"subjectRef": r.SubjectRef, "recordCount": r.RecordCount, "requestDigest": r.RequestDigest, "responseDigest": r.ResponseDigest,
		"channel": r.Channel, "at": r.At, "respondedAt": r.RespondedAt, "result": r.Result,
	}
}

// checkInclusion verifies the inclusion of a spread of records against an
// anchored checkpoint.
func (b *bench) checkInclusion(ctx context.Context, last uint64) error {
	var trust proof.Anchors
	if err := b.net.Gateway("civil").Call(ctx, "", "GET", "/v1/trust", nil, 200, &trust); err != nil {
		return err
	}
	i := slices.IndexFunc(trust.Departments, func(d proof.Department) bool { return d.Code == department })
	g := b.net.Gateway(department)
	for step := range uint64(20) {
		index := last - last*step/20
		var entry struct {
			Record domain.AccessRecord `json:"record"`
		}
		path := fmt.Sprintf("/v1/access-records/%s/%d", department, index)
		if err := g.Call(ctx, "auditor", "GET", path, nil, 200, &entry); err != nil {
			return err
		}
		// Another department's gateway has seen the anchor; this one may be behind.
		var text []byte
		if err := retry(ctx, func() error {
			res, err := g.Do(ctx, "auditor", "GET", path+"/proof", nil)
			if err == nil && res.Status != http.StatusOK {
				err = fmt.Errorf("%s/proof: status %d: %.300s", path, res.Status, res.Body)
			}
			text = res.Body
			return err
		}); err != nil {
			return err
		}
		if err := verifyInclusion(entry.Record, index, text, trust.Departments[i]); err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
	}
	return nil
}

// verifyInclusion checks a C2SP tlog-proof of one record.
func verifyInclusion(record domain.AccessRecord, index uint64, text []byte, department proof.Department) error {
	head, note, ok := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != fmt.Sprintf("index %d", index) {
		return fmt.Errorf("not a proof of index %d: %.100s", index, text)
	}
	var path [][]byte
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return err
		}
		path = append(path, hash)
	}
	checkpoint, err := proof.OpenCheckpoint([]byte(note), department.LogOrigin, department.LogKey)
	if err != nil {
		return err
	}
	leaf, err := domain.Canonical(record)
	if err != nil {
		return err
	}
	return proof.VerifyInclusion(proof.LeafHash(leaf), index, checkpoint.Size, checkpoint.Root, path)
}
