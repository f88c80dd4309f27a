package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// eventually calls condition until it is true, and fails with what it last said
// after limit.
func eventually(ctx context.Context, limit time.Duration, what string, condition func() (ok bool, said string)) error {
	deadline := time.Now().Add(limit)
	for {
		ok, said := condition()
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s: %s", what, limit, said)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// observer reads from every department's peer, past the gateways, what the
// checks are made on. It decodes blocks by itself: a mistake in the gateway's
// decoding must not hide what the gateway did.
type observer struct {
	net   *consortium.Consortium
	peers map[string]*consortium.Fabric
	chain ledgerFacts
	view  uint64 // of the ordering service, in the last block read
}

func newObserver(net *consortium.Consortium) (*observer, error) {
	o := &observer{net: net, peers: map[string]*consortium.Fabric{}, chain: ledgerFacts{effects: map[string][]effect{}}}
	for _, department := range net.Departments() {
		f, err := net.Fabric(department, "auditor")
		if err != nil {
			return nil, errors.Join(err, o.close())
		}
		o.peers[department] = f
	}
	return o, nil
}

func (o *observer) close() error {
	for _, f := range o.peers {
		f.Close()
	}
	return nil
}

// height is how many blocks a department's peer has.
func (o *observer) height(ctx context.Context, department string) (uint64, error) {
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	f := o.peers[department]
	result, err := f.Ledger.EvaluateWithContext(limited, "GetChainInfo", client.WithArguments(f.Name))
	if err != nil {
		return 0, err
	}
	var info common.BlockchainInfo
	err = proto.Unmarshal(result, &info)
	return info.GetHeight(), err
}

// caughtUp waits until every peer has the blocks that one of them has now: under
// load they are level for moments only.
func (o *observer) caughtUp(ctx context.Context, limit time.Duration) error {
	var highest uint64
	return eventually(ctx, limit, "every peer catches up", func() (bool, string) {
		lowest, said := ^uint64(0), ""
		first := highest == 0
		for _, department := range o.net.Departments() {
			h, err := o.height(ctx, department)
			if err != nil {
				return false, department + ": " + err.Error()
			}
			if first {
				highest = max(highest, h)
			}
			lowest = min(lowest, h)
			said += fmt.Sprintf("%s %d ", department, h)
		}
		return lowest >= highest, fmt.Sprintf("%sof %d", said, highest)
	})
}

// follow waits until every orderer has the blocks that a peer has now. One that does
// not is missed by nobody: peers read from the others, until one of these fails too.
func (o *observer) follow(ctx context.Context, limit time.Duration) error {
	return eventually(ctx, limit, "every orderer catches up", func() (bool, string) {
		var status struct {
			Keep     bool `json:"orderersKeep"`
			Heights  []struct{ Height uint64 }
			Orderers []struct {
				Department, Error string
				Height            uint64
			}
		}
		// Its exit says whether all is well, and more than this may be amiss.
		out, err := o.net.Run(ctx, "zhenglian-network", "status", "--json", "--state", o.net.State)
		if jsonErr := json.Unmarshal(out, &status); jsonErr != nil {
			return false, fmt.Sprint(cmp.Or(err, jsonErr))
		}
		return status.Keep, fmt.Sprintf("peers %v, orderers %v", status.Heights, status.Orderers)
	})
}

// level waits until all peers have equally many blocks and answers how many.
func (o *observer) level(ctx context.Context, limit time.Duration) (height uint64, err error) {
	err = eventually(ctx, limit, "the peers have equally many blocks", func() (bool, string) {
		heights, equal := "", true
		height = 0
		for _, department := range o.net.Departments() {
			h, err := o.height(ctx, department)
			if err != nil {
				return false, department + ": " + err.Error()
			}
			equal = equal && (height == 0 || h == height)
			height = h
			heights += fmt.Sprintf("%s %d ", department, h)
		}
		return equal, heights
	})
	return height, err
}

// fingerprint is what of a block all departments must have alike: the header,
// each transaction's validation code, and the commit hash, in which Fabric
// chains the codes and the state written by all blocks so far.
type fingerprint struct{ previous, data, codes, commit string }

// observe reads the blocks up to height that were not read before from every
// peer, compares them, and keeps what operations they record: promise D.
func (o *observer) observe(ctx context.Context, height uint64) (findings []finding, err error) {
	var first map[uint64]fingerprint
	for i, department := range o.net.Departments() {
		prints := map[uint64]fingerprint{}
		err := o.blocks(ctx, department, height, func(b *common.Block) error {
			slots := b.GetMetadata().GetMetadata()
			if len(slots) <= int(common.BlockMetadataIndex_COMMIT_HASH) {
				return fmt.Errorf("block %d of %s has no commit hash", b.GetHeader().GetNumber(), department)
			}
			print := fingerprint{
				hex.EncodeToString(b.GetHeader().GetPreviousHash()), hex.EncodeToString(b.GetHeader().GetDataHash()),
				hex.EncodeToString(slots[common.BlockMetadataIndex_TRANSACTIONS_FILTER]), hex.EncodeToString(slots[common.BlockMetadataIndex_COMMIT_HASH]),
			}
			prints[b.GetHeader().GetNumber()] = print
			if i > 0 {
				if want := first[b.GetHeader().GetNumber()]; print != want {
					findings = append(findings, found(diverged, "block %d: %s has %+v, %s %+v", b.GetHeader().GetNumber(), o.net.Departments()[0], want, department, print))
				}
				return nil
			}
			return o.record(b)
		})
		if err != nil {
			return nil, fmt.Errorf("blocks of %s: %w", department, err)
		}
		if i == 0 {
			first = prints
		}
	}
	o.chain.upTo = height
	return findings, nil
}

// blocks calls yield with each block of a peer from the first that was not
// observed yet to height.
func (o *observer) blocks(ctx context.Context, department string, height uint64, yield func(*common.Block) error) error {
	if height == o.chain.upTo {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	stream, err := o.peers[department].Channel.BlockEvents(ctx, client.WithStartBlock(o.chain.upTo))
	if err != nil {
		return err
	}
	for next := o.chain.upTo; next < height; next++ {
		b, ok := <-stream
		if !ok {
			return fmt.Errorf("the stream ended before block %d: %w", next, cmp.Or(context.Cause(ctx), io.ErrUnexpectedEOF))
		}
		if b.GetHeader().GetNumber() != next {
			return fmt.Errorf("block %d came in place of %d", b.GetHeader().GetNumber(), next)
		}
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

// record keeps which operations a block records as done.
func (o *observer) record(b *common.Block) error {
	number, codes := b.GetHeader().GetNumber(), b.GetMetadata().GetMetadata()[common.BlockMetadataIndex_TRANSACTIONS_FILTER]
	o.view = viewOf(b)
	for i, data := range b.GetData().GetData() {
		if number == 0 || peer.TxValidationCode(codes[i]) != peer.TxValidationCode_VALID {
			continue
		}
		keys, header, err := writesOf(data)
		if err != nil {
			return fmt.Errorf("block %d, transaction %d: %w", number, i, err)
		}
		for _, key := range keys {
			if strings.HasPrefix(key, "op~") {
				e := effect{Block: number, TxID: header.GetTxId(), Time: header.GetTimestamp().AsTime()}
				o.chain.effects[key] = append(o.chain.effects[key], e)
			}
		}
	}
	return nil
}

// lead keeps which view of the ordering service made a block, and nothing else.
func (o *observer) lead(b *common.Block) error {
	o.view = viewOf(b)
	return nil
}

// writesOf answers the keys that a transaction wrote, none for a configuration.
func writesOf(data []byte) (keys []string, header *common.ChannelHeader, err error) {
	var (
		envelope common.Envelope
		payload  common.Payload
		tx       peer.Transaction
		action   peer.ChaincodeActionPayload
		response peer.ProposalResponsePayload
		outcome  peer.ChaincodeAction
		sets     rwset.TxReadWriteSet
	)
	header = &common.ChannelHeader{}
	if err := errors.Join(proto.Unmarshal(data, &envelope), proto.Unmarshal(envelope.GetPayload(), &payload)); err != nil {
		return nil, nil, err
	}
	if err := proto.Unmarshal(payload.GetHeader().GetChannelHeader(), header); err != nil {
		return nil, nil, err
	}
	if common.HeaderType(header.GetType()) != common.HeaderType_ENDORSER_TRANSACTION {
		return nil, header, nil
	}
	if err := proto.Unmarshal(payload.GetData(), &tx); err != nil {
		return nil, nil, err
	}
	for _, a := range tx.GetActions() {
		err := errors.Join(proto.Unmarshal(a.GetPayload(), &action),
			proto.Unmarshal(action.GetAction().GetProposalResponsePayload(), &response),
			proto.Unmarshal(response.GetExtension(), &outcome), proto.Unmarshal(outcome.GetResults(), &sets))
		if err != nil {
			return nil, nil, err
		}
		for _, set := range sets.GetNsRwset() {
			var kv kvrwset.KVRWSet
			if err := proto.Unmarshal(set.GetRwset(), &kv); err != nil {
				return nil, nil, err
			}
			for _, w := range kv.GetWrites() {
				keys = append(keys, w.GetKey())
			}
		}
	}
	return keys, header, nil
}

// viewOf reads the number of the ordering service's view from a block's
// metadata: field 1 of SmartBFT's ViewMetadata. The orderers take turns by it.
func viewOf(b *common.Block) uint64 {
	var slot common.Metadata
	var ordering common.OrdererBlockMetadata
	if proto.Unmarshal(b.GetMetadata().GetMetadata()[common.BlockMetadataIndex_SIGNATURES], &slot) != nil || proto.Unmarshal(slot.GetValue(), &ordering) != nil {
		return 0
	}
	for rest := ordering.GetConsenterMetadata(); len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return 0
		}
		rest = rest[n:]
		if number == 1 && kind == protowire.VarintType {
			view, _ := protowire.ConsumeVarint(rest)
			return view
		}
		if n = protowire.ConsumeFieldValue(number, kind, rest); n < 0 {
			return 0
		}
		rest = rest[n:]
	}
	return 0
}

// logs reads the records of the load from the police's access log, with their
// inclusion under an anchor of the ledger.
func (o *observer) logs(ctx context.Context, c *clients, operations []*operation) (logFacts, error) {
	facts := logFacts{}
	var most uint64
	for _, op := range operations {
		if op.Kind == kindAccess && op.Outcome == committed {
			most = max(most, op.Index+1)
		}
	}
	if err := o.awaitAnchor(ctx, c, most); err != nil {
		return nil, err
	}
	included, err := o.included(ctx, c)
	if err != nil {
		return nil, err
	}
	for cursor := ""; ; {
		var page struct {
			Items []struct {
				Record domain.AccessRecord `json:"record"`
				Index  uint64              `json:"index"`
			} `json:"items"`
			Next string `json:"next"`
		}
		if err := c.get(ctx, "police", "auditor", nextPage("/v1/audit/trace?limit=200", cursor), &page); err != nil {
			return nil, err
		}
		for _, row := range page.Items {
			if !strings.HasPrefix(row.Record.CallID, "call-") || row.Record.Result != domain.ResultOK {
				continue
			}
			entry, err := domain.Canonical(row.Record)
			if err != nil {
				return nil, err
			}
			leaf := proof.LeafHash(entry)
			facts[row.Record.CallID] = append(facts[row.Record.CallID], logged{
				Index: row.Index, Leaf: hex.EncodeToString(leaf[:]), Included: included(row.Index, leaf),
			})
		}
		if cursor = page.Next; cursor == "" {
			return facts, nil
		}
	}
}

// awaitAnchor waits until the ledger has an anchor of the police's log of at
// least size.
func (o *observer) awaitAnchor(ctx context.Context, c *clients, size uint64) error {
	return eventually(ctx, 90*time.Second, "an anchor covers every receipt", func() (bool, string) {
		a, err := o.anchor(ctx, c)
		return err == nil && a.Size >= size, fmt.Sprintf("anchored up to %d of %d: %v", a.Size, size, err)
	})
}

// anchor is the greatest anchor of the police's log.
func (o *observer) anchor(ctx context.Context, c *clients) (last domain.Anchor, err error) {
	for cursor := ""; ; {
		var page struct {
			Items []consortium.Written[domain.Anchor] `json:"items"`
			Next  string                              `json:"next"`
		}
		if err := c.get(ctx, "bigdata", "auditor", nextPage("/v1/anchors?department=police&limit=200", cursor), &page); err != nil {
			return last, err
		}
		for _, a := range page.Items {
			if a.Record.Size > last.Size {
				last = a.Record
			}
		}
		if cursor = page.Next; cursor == "" {
			return last, nil
		}
	}
}

// nextPage is the path of a list from a cursor on.
func nextPage(path, cursor string) string {
	if cursor == "" {
		return path
	}
	return path + "&cursor=" + url.QueryEscape(cursor)
}

// included answers a check of leaves against the tree that the greatest anchor
// names: the entries below its size are hashed to its root.
func (o *observer) included(ctx context.Context, c *clients) (func(index uint64, leaf [32]byte) bool, error) {
	anchor, err := o.anchor(ctx, c)
	if err != nil {
		return nil, err
	}
	var leaves [][32]byte
	for bundle := uint64(0); bundle*256 < anchor.Size; bundle++ {
		hashes, err := o.hashes(ctx, bundle, min(256, anchor.Size-bundle*256))
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, hashes...)
	}
	root := rootOf(leaves)
	want, err := base64.StdEncoding.DecodeString(anchor.Root)
	if err != nil {
		return nil, fmt.Errorf("root of anchor %d: %w", anchor.Size, err)
	}
	if !bytes.Equal(root[:], want) {
		return nil, fmt.Errorf("the log's first %d leaves have the root %x, and its anchor names %x", anchor.Size, root, want)
	}
	return func(index uint64, leaf [32]byte) bool { return index < anchor.Size && leaves[index] == leaf }, nil
}

// hashes reads n leaf hashes of one tile of the police's log.
func (o *observer) hashes(ctx context.Context, tile, n uint64) ([][32]byte, error) {
	name := fmt.Sprintf("%03d", tile%1000)
	for rest := tile / 1000; rest > 0; rest /= 1000 {
		name = fmt.Sprintf("x%03d/%s", rest%1000, name)
	}
	if n < 256 {
		name += fmt.Sprintf(".p/%d", n)
	}
	res, err := o.net.Gateway("police").Do(ctx, "", "GET", "/v1/logs/police/tile/0/"+name, nil)
	if err != nil {
		return nil, err
	}
	if res.Status != 200 || uint64(len(res.Body)) != n*sha256.Size {
		return nil, fmt.Errorf("tile %s: status %d, %d bytes", name, res.Status, len(res.Body))
	}
	hashes := make([][32]byte, n)
	for i := range hashes {
		hashes[i] = [32]byte(res.Body[i*sha256.Size:])
	}
	return hashes, nil
}

// rootOf is the root of RFC 6962's Merkle tree over leaf hashes, computed as the
// RFC defines it.
func rootOf(leaves [][32]byte) [32]byte {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	left, right := rootOf(leaves[:k]), rootOf(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// checkIndex stops a department's gateway, has its index compared with one that
// is built from block 0, and starts it again: promise E.
func (o *observer) checkIndex(ctx context.Context, department string) (findings []finding, err error) {
	process := "gateway-" + department
	if err := o.net.Halt(ctx, process); err != nil {
		return nil, err
	}
	err = eventually(ctx, 20*time.Second, process+" ends", func() (bool, string) {
		pids, err := o.net.Processes(department, consortium.GatewayOf)
		return err == nil && len(pids) == 0, fmt.Sprint(pids, err)
	})
	if err != nil {
		return nil, err
	}
	if out, err := o.net.Run(ctx, "zhenglian", "index", "rebuild", "--check", "--department", department, "--state", o.net.State); err != nil {
		findings = append(findings, found(indexDiffers, "%s: %v: %s", department, err, out))
	}
	return findings, o.net.Resume(ctx, process)
}

// ready waits until every gateway says that it can do real work.
func (o *observer) ready(ctx context.Context, limit time.Duration) error {
	return eventually(ctx, limit, "every gateway is ready", func() (bool, string) {
		for _, department := range o.net.Departments() {
			limited, cancel := context.WithTimeout(ctx, 5*time.Second)
			res, err := o.net.Gateway(department).Do(limited, "", "GET", "/readyz", nil)
			cancel()
			if err != nil {
				return false, department + ": " + err.Error()
			}
			if res.Status != 200 {
				var why struct {
					Detail string `json:"detail"`
				}
				_ = json.Unmarshal(res.Body, &why) // then the status alone says it
				return false, fmt.Sprintf("%s: %d %s", department, res.Status, why.Detail)
			}
		}
		return true, ""
	})
}
