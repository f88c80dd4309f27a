package service

import (
	"context"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// heightsWait bounds the question to all departments how far they are. A
// department that is down must not hold up the answer about the others.
const heightsWait = 2 * time.Second

// Chain shows the channel itself: heights, blocks, transactions. It is safe for
// concurrent use.
type Chain struct {
	ledger  ledger.Ledger
	index   index.Index
	channel string
}

// ChainInfo is the state of the channel as this gateway sees it.
type ChainInfo struct {
	Channel     string
	Height      uint64       // number of blocks in this gateway's index
	LastBlock   domain.Block // the zero block when Height is 0
	Departments []ledger.DepartmentHeight
}

// NewChain returns the use cases of the chain of the channel with this name.
func NewChain(l ledger.Ledger, ix index.Index, channel string) *Chain {
	return &Chain{ledger: l, index: ix, channel: channel}
}

// Info answers the chain's head and every department's height.
func (c *Chain) Info(ctx context.Context) (ChainInfo, error) {
	info := ChainInfo{Channel: c.channel}
	var err error
	if info.Height, err = c.index.NextBlock(ctx); err != nil {
		return ChainInfo{}, fmt.Errorf("read chain height: %w", err)
	}
	if info.Height > 0 {
		if info.LastBlock, err = c.index.Block(ctx, info.Height-1); err != nil {
			return ChainInfo{}, fmt.Errorf("read last block: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, heightsWait)
	defer cancel()
	info.Departments = c.ledger.Heights(ctx)
	return info, nil
}

// Blocks answers decoded blocks, newest first, and the cursor of the next page.
func (c *Chain) Blocks(ctx context.Context, page index.Page) ([]domain.Block, string, error) {
	page, err := bounded(page)
	if err != nil {
		return nil, "", err
	}
	blocks, next, err := c.index.Blocks(ctx, page)
	if err != nil {
		return nil, "", fmt.Errorf("list blocks: %w", err)
	}
	return blocks, next, nil
}

// Block answers one decoded block.
func (c *Chain) Block(ctx context.Context, number uint64) (domain.Block, error) {
	b, err := c.index.Block(ctx, number)
	if err != nil {
		return domain.Block{}, fmt.Errorf("read block %d: %w", number, err)
	}
	return b, nil
}

// Transaction answers one transaction by its ID. This is where the outcome of a
// submit that was unknown becomes known.
func (c *Chain) Transaction(ctx context.Context, id domain.TxID) (index.TransactionRecord, error) {
	t, err := c.index.Transaction(ctx, id)
	if err != nil {
		return index.TransactionRecord{}, fmt.Errorf("read transaction %s: %w", id, err)
	}
	return t, nil
}
