package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// The department whose gateway and peer are measured.
const department = "police"

// arm is one side of a comparison.
type arm struct {
	name string
	run  func(context.Context) (sample, error)
}

type bench struct {
	net      *consortium.Consortium
	set      settings
	progress io.Writer

	callers  callers            // of the gateway's writes
	operator string             // the header by which the gateway knows the operator
	fabric   *consortium.Fabric // the operator's; its Ledger is the referee
	reviewer *consortium.Fabric

	sequence atomic.Int64
	refs     []string
	issued   domain.CertificateContent // one of refs
	grant    domain.Grant

	alone map[string]int // processes whose usage is counted apart, by the name it gets
}

// newBench connects to the department's peer as a client of fabric-gateway with
// the same identity that the gateway uses for the operator, and loads the sample.
func newBench(ctx context.Context, net *consortium.Consortium, set settings, progress io.Writer) (*bench, error) {
	b := &bench{net: net, set: set, progress: progress}
	b.sequence.Store(time.Now().Unix() % 100_000 * 10_000)
	if _, err := net.Run(ctx, "zhenglian", "sample", "--state", net.State); err != nil {
		return nil, err
	}
	if err := b.connect(); err != nil {
		return nil, err
	}
	return b, b.prepare(ctx)
}

func (b *bench) connect() error {
	file, err := b.net.TokenFile(department, "operator")
	if err != nil {
		return err
	}
	token, err := os.ReadFile(file) //nolint:gosec // of the benchmark's own consortium
	if err != nil {
		return err
	}
	b.operator = "Authorization: Bearer " + strings.TrimSpace(string(token)) + "\r\n"
	if b.fabric, err = b.net.Fabric(department, "operator"); err != nil {
		return err
	}
	b.reviewer, err = b.net.Fabric(department, "reviewer")
	return err
}

// Close ends the connection.
func (b *bench) Close() {
	b.fabric.Close()
	b.reviewer.Close()
	b.callers.close()
}

// prepare finds the sample's certificate and grant, which the arms use.
func (b *bench) prepare(ctx context.Context) error {
	g := b.net.Gateway(department)
	var certificates struct {
		Items []consortium.Written[domain.Certificate] `json:"items"`
	}
	if err := g.Call(ctx, "auditor", "GET", "/v1/certificates?limit=200", nil, 200, &certificates); err != nil {
		return err
	}
	for _, c := range certificates.Items {
		b.refs, b.issued = append(b.refs, c.Record.Content.Ref), c.Record.Content
	}
	if len(b.refs) == 0 {
		return errors.New("the sample has no certificate")
	}
	return b.makeGrant(ctx)
}

// makeGrant has a resource of the department granted to another with a quota
// that no run exhausts.
func (b *bench) makeGrant(ctx context.Context) error {
	owner, lead, consumer := b.net.Gateway(department), b.net.Gateway("bigdata"), b.net.Gateway("civil")
	c := b.content()
	entry := "/v1/catalog/entries/" + url.PathEscape(c.Code)
	if err := owner.Call(ctx, "operator", "POST", "/v1/catalog/entries", c, 201, nil); err != nil {
		return err
	}
	review := func() error {
		return lead.Call(ctx, "reviewer", "POST", entry+"/actions/review", map[string]any{"decision": "approve", "opinion": "benchmark"}, 200, nil)
	}
	for _, step := range []func() error{
		review,
		func() error { return owner.Call(ctx, "operator", "POST", entry+"/actions/publish", nil, 200, nil) },
		review,
	} {
		if err := retry(ctx, step); err != nil {
			return err
		}
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	from := time.Now().UTC().Truncate(time.Second).Add(-time.Minute)
	request := domain.ShareRequestContent{
		ID: hex.EncodeToString(random), CatalogCode: c.Code, Items: []string{"status"}, Purpose: "benchmark", UseBasis: "benchmark",
		ServiceItem: "000000000000", ShareMode: c.ShareMode, Period: domain.Period{From: from, To: from.AddDate(1, 0, 0)},
		Quota: domain.Quota{Total: 1 << 40, PerDay: 1 << 40, PerMinute: 1 << 40}, LetterDigest: domain.Digest([]byte("letter")), SecurityMeasures: "benchmark",
	}
	if err := retry(ctx, func() error { return consumer.Call(ctx, "operator", "POST", "/v1/requests", request, 201, nil) }); err != nil {
		return err
	}
	// The resource is unconditional: acceptance grants it.
	if err := retry(ctx, func() error {
		return lead.Call(ctx, "reviewer", "POST", "/v1/requests/"+request.ID+"/actions/accept", map[string]any{"decision": "accept", "reason": ""}, 200, nil)
	}); err != nil {
		return err
	}
	var grant consortium.Written[domain.Grant]
	err := retry(ctx, func() error {
		return owner.Call(ctx, "operator", "GET", "/v1/grants/"+request.ID, nil, 200, &grant)
	})
	b.grant = grant.Record
	return err
}

// retry calls f until it succeeds: another department's gateway sees a record
// only after it read the block.
func retry(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// content is one record per transaction: a small catalog entry with a new code.
func (b *bench) content() domain.CatalogContent {
	n := b.sequence.Add(1)
	return domain.CatalogContent{
		Code: fmt.Sprintf("306009/%010d", n), Name: resourceName(n), Abstract: "用于基准测试的目录条目。",
		ProviderUSCC: "11990000A0000002XT", Classification: "测试", Format: "api",
		Items:     []domain.CatalogItem{{Name: "status", Type: "C", Level: 1, ShareType: domain.Unconditional}},
		ShareType: domain.Unconditional, LegalBasis: []string{}, ShareMode: "platform_api", OpenType: domain.NotOpen, UpdateCycle: "daily",
		RelatedCodes: []string{}, DutyRef: "benchmark", SystemRef: "benchmark", RegionCode: "370200", Level: 1, PersonalData: "none",
	}
}

var (
	nameSubjects = strings.Fields("企业 车辆 船舶 房屋 土地 学校 医院 道路 桥梁 管网 药品 食品 社会组织 个体工商户 建设项目 排污口 水库 林地 渔港 文物")
	nameKinds    = strings.Fields("登记信息 许可证 年检结果 处罚决定 抽查结果 备案信息 信用评价 统计月报 变更记录 注销公告 检测报告 巡查记录")
)

// resourceName is a name that no other resource has. A catalog's names do not come in
// their order, and few begin alike: what is looked up by name lies anywhere.
func resourceName(n int64) string {
	at := uint64(n) * 0x9E3779B97F4A7C15 >> 32 //nolint:gosec // to mix them
	subject, kind := nameSubjects[at%uint64(len(nameSubjects))], nameKinds[at/64%uint64(len(nameKinds))]
	return fmt.Sprintf("%s%05d%s %d", subject, at%100_000, kind, n)
}

// figures measures everything.
func (b *bench) figures(ctx context.Context) ([]figure, error) {
	raw := arm{"tx.raw", b.transactions(b.set.Clients, b.submitRaw)}
	rest := arm{"gateway.rest", b.transactions(b.set.Clients, b.submitREST)}
	batch := arm{"catalog.batch", b.batches}
	certificate, certificates := b.certificateArms()

	// The baseline of the arms that follow, too.
	var baseline []sample
	compare := func(name, goal string, times int, first, second arm) step {
		return step{name, func(ctx context.Context) ([]figure, error) {
			var pairs [][2]sample
			for range times {
				more, err := b.abba(ctx, first, second)
				if err != nil {
					return nil, err
				}
				pairs = append(pairs, more...)
			}
			if first.name == raw.name {
				for _, p := range pairs {
					baseline = append(baseline, p[0])
				}
			}
			return []figure{ratio(name, goal, pairs)}, nil
		}}
	}
	steps := []step{
		// Twice: pairs differ by more than what is asked about.
		compare("gateway.rest_vs_raw", "≥ 0.95", 2, raw, rest),
		{"gateway.added", b.added},
		{"verify.cached_vs_uncached", b.cachedVersusUncached},
		{"verify.cached_vs_bare", b.cachedVersusBare},
		{"verify.single_flight", b.singleFlight},
		{"verify.knee", b.knee},
		{"verify.lookup_p99", b.lookups},
		{"verify.offline", b.offline},
		{"gateway.overload", b.overload},
		{"access.records_vs_tx", func(ctx context.Context) ([]figure, error) {
			figures, transactions, err := b.compareRecords(ctx, raw)
			baseline = append(baseline, transactions...)
			return figures, err
		}},
		{"access.receipt_p99", b.receipts},
		compare("catalog.batch_vs_single", "≥ 20", 1, raw, batch),
		compare("certificate.batch_vs_single", "≥ 50", 1, certificate, certificates),
		{"catalog.search", func(ctx context.Context) ([]figure, error) { return b.search(ctx, b.set.Entries) }},
		{"access.proof_p99", b.proofs},
		{"access.trace_p99", b.traces},
		// Last: it changes the configuration of a peer.
		{"access.trace_vs_history", b.compareHistory},
	}
	var taken []figure
	for _, s := range steps {
		if !b.set.wants(s.name) {
			continue
		}
		figures, err := s.take(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		taken = append(taken, figures...)
	}
	if len(taken) == 0 {
		return nil, fmt.Errorf("no figure's name begins with %s", strings.Join(b.set.Figures, " or "))
	}
	if len(baseline) > 0 {
		taken = append([]figure{value(raw.name, "tx/s", "fabric-gateway client, the baseline", baseline)}, taken...)
	}
	return taken, nil
}

// step takes the figures whose names begin with its own.
type step struct {
	name string
	take func(ctx context.Context) ([]figure, error)
}

// during runs call from clients goroutines, for the warm-up and then the
// window, and answers the latencies of the calls that ended within the window.
// A result is nil where the call failed.
func (b *bench) during(ctx context.Context, clients int, call func(context.Context) (string, error)) (ids []string, latencies []time.Duration, failed int, err error) {
	return b.duringSpan(ctx, span{b.set.WarmUp, b.set.Window}, clients, call)
}

// span is how long an arm runs.
type span struct{ warmUp, window time.Duration }

// ledgerSpan is how long transactions are made. They end by the block, tens of them or
// thousands of entries at a time, and only those that end within the window count: of four
// seconds one block more or less is several percent.
func (b *bench) ledgerSpan() span {
	return span{max(b.set.WarmUp, 4*time.Second), max(b.set.Window, 12*time.Second)}
}

func (b *bench) duringSpan(ctx context.Context, s span, clients int, call func(context.Context) (string, error)) (ids []string, latencies []time.Duration, failed int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var firstErr error
	start := time.Now().Add(s.warmUp)
	end := start.Add(s.window)
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				if began.After(end) {
					return
				}
				id, err := call(ctx)
				ended := time.Now()
				if ended.Before(start) || ended.After(end) {
					continue
				}
				mu.Lock()
				if err != nil {
					failed++
					if firstErr == nil {
						firstErr = err
					}
				} else {
					ids, latencies = append(ids, id), append(latencies, ended.Sub(began))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(ids) == 0 {
		return nil, nil, failed, fmt.Errorf("no call succeeded: %w", firstErr)
	}
	if firstErr != nil {
		fmt.Fprintln(b.progress, "bench: first failure:", firstErr)
	}
	slices.Sort(latencies)
	return ids, latencies, failed, ctx.Err()
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// transactions makes an arm of submitted transactions. What counts is what the
// ledger holds as valid of the acknowledged ones.
func (b *bench) transactions(clients int, submit func(context.Context) (string, error)) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		from, err := b.height()
		if err != nil {
			return sample{}, err
		}
		size, err := b.ledgerBytes()
		if err != nil {
			return sample{}, err
		}
		ids, latencies, failed, err := b.duringSpan(ctx, b.ledgerSpan(), clients, submit)
		if err != nil {
			return sample{}, err
		}
		to, err := b.height()
		if err != nil {
			return sample{}, err
		}
		grown, err := b.ledgerBytes()
		if err != nil {
			return sample{}, err
		}
		valid, err := b.validTransactions(ctx, from, to)
		if err != nil {
			return sample{}, err
		}
		count := 0
		for _, id := range ids {
			if valid[id] {
				count++
			}
		}
		if count != len(ids) {
			return sample{}, fmt.Errorf("%d transactions were acknowledged, the ledger holds %d of them as valid", len(ids), count)
		}
		if err := b.indexed(ctx, to); err != nil {
			return sample{}, err
		}
		return sample{
			Count: count, Failed: failed, Seconds: b.ledgerSpan().window.Seconds(), P50: quantile(latencies, 0.5), P99: quantile(latencies, 0.99),
			LedgerBytes: float64(grown-size) / float64(len(valid)),
		}, nil
	}
}

// indexed waits until the index of every department's gateway has the blocks below
// a height: what they still had to do would be told of the next arm, which would
// be slower for it.
func (b *bench) indexed(ctx context.Context, height uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	header := http.Header{"Min-Block": {strconv.FormatUint(height-1, 10)}}
	for _, department := range b.net.Departments() {
		for {
			// It answers when it has the block, after 5 s that it does not.
			res, err := b.net.Gateway(department).DoWith(ctx, "auditor", "GET", "/v1/chain/blocks?limit=1", nil, header)
			if err != nil {
				return fmt.Errorf("the index of %s does not catch up: %w", department, err)
			}
			if res.Status == http.StatusOK {
				break
			}
			if res.Status != http.StatusServiceUnavailable {
				return fmt.Errorf("chain of %s: status %d: %.1000s", department, res.Status, res.Body)
			}
		}
	}
	return nil
}

func (b *bench) height() (uint64, error) {
	data, err := b.fabric.Ledger.EvaluateTransaction("GetChainInfo", b.fabric.Name)
	if err != nil {
		return 0, fmt.Errorf("chain info: %w", err)
	}
	var info common.BlockchainInfo
	if err := proto.Unmarshal(data, &info); err != nil {
		return 0, err
	}
	return info.GetHeight(), nil
}

// validTransactions answers the IDs of the valid transactions in the blocks from
// ≤ number < to.
func (b *bench) validTransactions(ctx context.Context, from, to uint64) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	valid := map[string]bool{}
	if from >= to {
		return valid, nil
	}
	blocks, err := b.fabric.Channel.FilteredBlockEvents(ctx, client.WithStartBlock(from))
	if err != nil {
		return nil, err
	}
	for block := range blocks {
		for _, tx := range block.GetFilteredTransactions() {
			if tx.GetTxValidationCode() == peer.TxValidationCode_VALID {
				valid[tx.GetTxid()] = true
			}
		}
		if block.GetNumber()+1 >= to {
			return valid, nil
		}
	}
	return nil, fmt.Errorf("the block stream ended before block %d", to-1)
}

func (b *bench) submitRaw(ctx context.Context) (string, error) {
	return b.submit(ctx, "catalog:Register", domain.RegisterCatalogArgs{Content: b.content()})
}

// submit runs a transaction past the gateway and answers its ID once it is
// committed.
func (b *bench) submit(ctx context.Context, transaction string, args any) (string, error) {
	return submitThrough(ctx, b.fabric, transaction, args)
}

func submitArguments(ctx context.Context, f *consortium.Fabric, transaction string, arguments ...[]byte) (string, error) {
	return submitProposal(ctx, f, transaction, client.WithBytesArguments(arguments...))
}

func submitProposal(ctx context.Context, f *consortium.Fabric, transaction string, options ...client.ProposalOption) (string, error) {
	proposal, err := f.Contract.NewProposal(transaction, options...)
	if err != nil {
		return "", err
	}
	tx, err := proposal.EndorseWithContext(ctx)
	if err != nil {
		return "", err
	}
	commit, err := tx.SubmitWithContext(ctx)
	if err != nil {
		return "", err
	}
	status, err := commit.StatusWithContext(ctx)
	if err != nil {
		return "", err
	}
	if !status.Successful {
		return "", fmt.Errorf("transaction %s: %s", status.TransactionID, status.Code)
	}
	return status.TransactionID, nil
}

// batchClients is how many batches are under way at once. More only wait: one
// batch keeps four peers busy for longer than a block takes to be ordered.
const batchClients = 4

// batches is the arm of catalog registrations in batches of the greatest size.
// What counts is entries, of the batches that the ledger holds as valid.
func (b *bench) batches(ctx context.Context) (sample, error) {
	s, err := b.transactions(batchClients, func(ctx context.Context) (string, error) {
		args := domain.RegisterBatchArgs{Contents: make([]domain.CatalogContent, domain.MaxBatch)}
		for i := range args.Contents {
			args.Contents[i] = b.content()
		}
		return b.submit(ctx, "catalog:RegisterBatch", args)
	})(ctx)
	s.Count *= domain.MaxBatch
	return s, err
}

// submitREST registers one entry through the gateway, over a connection of its own while it
// waits.
func (b *bench) submitREST(ctx context.Context) (string, error) {
	c, err := b.callers.take(ctx, b.net.Gateway(department).URL)
	if err != nil {
		return "", err
	}
	id, err := b.submitOver(c)
	if err != nil {
		closeAll([]*connection{c})
		return "", err
	}
	b.callers.give(c)
	return id, nil
}

func (b *bench) submitOver(c *connection) (string, error) {
	const path = "/v1/catalog/entries"
	content, err := json.Marshal(b.content())
	if err != nil {
		return "", err
	}
	status, _, body, err := c.send("POST", path, b.operator, content)
	if err != nil {
		return "", fmt.Errorf("POST %s: %w", path, err)
	}
	if status != http.StatusCreated {
		return "", fmt.Errorf("POST %s: status %d: %.1000s", path, status, body)
	}
	var w consortium.Written[json.RawMessage]
	err = json.Unmarshal(body, &w)
	return w.TxID, err
}

// calls makes an arm of reads.
func (b *bench) calls(call func(context.Context) (string, error)) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		ids, latencies, failed, err := b.during(ctx, b.set.Clients, call)
		if err != nil {
			return sample{}, err
		}
		return sample{Count: len(ids), Failed: failed, Seconds: b.set.Window.Seconds(), P50: quantile(latencies, 0.5), P99: quantile(latencies, 0.99)}, nil
	}
}
