package service_test

import (
	"errors"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func TestChain(t *testing.T) {
	w := newWorld(t)
	w.indexed()
	ctx := t.Context()
	chain := service.NewChain(w.ledger, w.index, "zhenglian")
	w.chain.SetDown("market", errors.New("connection refused"))

	info, err := chain.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info.Channel != "zhenglian" || info.Height != w.chain.Height() || info.LastBlock.Number != info.Height-1 {
		t.Errorf("info is %+v", info)
	}
	for _, d := range info.Departments {
		if down := d.Department == "market"; (d.Err != nil) != down {
			t.Errorf("%s: error is %v", d.Department, d.Err)
		}
	}
	if len(info.Departments) != 4 {
		t.Errorf("%d departments, want 4", len(info.Departments))
	}

	blocks, next, err := chain.Blocks(ctx, index.Page{Limit: 2})
	if err != nil || len(blocks) != 2 || blocks[0].Number != info.Height-1 || next == "" {
		t.Errorf("Blocks answers %d blocks, next %q, %v", len(blocks), next, err)
	}
	block, err := chain.Block(ctx, 1)
	if err != nil || block.Number != 1 {
		t.Fatalf("Block(1) answers %+v, %v", block, err)
	}
	tx, err := chain.Transaction(ctx, block.Transactions[0].ID)
	if err != nil || tx.Block != 1 || tx.Transaction.Name != "RegisterDepartment" {
		t.Errorf("Transaction answers %+v, %v", tx, err)
	}
	_, err = chain.Block(ctx, info.Height)
	wantKind(t, err, domain.NotFound, "")
	_, err = chain.Transaction(ctx, "ab")
	wantKind(t, err, domain.NotFound, "")
	_, _, err = chain.Blocks(ctx, index.Page{Limit: 500})
	wantKind(t, err, domain.Invalid, "limit")
}

func TestChainBeforeFirstBlock(t *testing.T) {
	w := newWorld(t)
	info, err := service.NewChain(w.ledger, newIndex(t), "zhenglian").Info(t.Context())
	if err != nil || info.Height != 0 {
		t.Errorf("Info answers %+v, %v, want height 0", info, err)
	}
}
