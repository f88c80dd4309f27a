package httpapi

import (
	"context"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func (s *server) GetChain(ctx context.Context, _ api.GetChainRequestObject) (api.GetChainResponseObject, error) {
	ctx, _ = inbound(ctx)
	info, err := s.Chain.Info(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range info.Departments {
		if d.Err != nil {
			s.Log.WarnContext(ctx, "height of a department is unknown", "department", d.Department, "error", redact(d.Err.Error()))
		}
	}
	out, err := chainInfo(info)
	return api.GetChain200JSONResponse(out), err
}

func chainInfo(info service.ChainInfo) (api.ChainInfo, error) {
	out := api.ChainInfo{
		Channel: info.Channel, Height: int64(info.Height),
		Departments: make([]api.DepartmentHeight, 0, len(info.Departments)),
	}
	if info.Height > 0 {
		b := info.LastBlock
		signers, err := api.Convert[[]string](b.Signers)
		if err != nil {
			return api.ChainInfo{}, err
		}
		out.LastBlock = &api.BlockHeader{
			Number: int64(b.Number), Hash: b.Hash, PreviousHash: b.PreviousHash, DataHash: b.DataHash, Signers: signers,
		}
	}
	for _, d := range info.Departments {
		item := api.DepartmentHeight{Department: string(d.Department)}
		if d.Err == nil { // why a height is unknown names hosts, and stays in the log
			height := int64(d.Height)
			item.Height = &height
		}
		out.Departments = append(out.Departments, item)
	}
	return out, nil
}

func (s *server) ListBlocks(ctx context.Context, r api.ListBlocksRequestObject) (api.ListBlocksResponseObject, error) {
	ctx, _ = inbound(ctx)
	blocks, next, err := s.Chain.Blocks(ctx, page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	items, err := api.Convert[[]api.Block](blocks)
	return api.ListBlocks200JSONResponse{Items: items, Next: s.cursors.seal(next)}, err
}

func (s *server) GetBlock(ctx context.Context, r api.GetBlockRequestObject) (api.GetBlockResponseObject, error) {
	ctx, _ = inbound(ctx)
	b, err := s.Chain.Block(ctx, uint64(r.Number))
	if err != nil {
		return nil, err
	}
	return api.Convert[api.GetBlock200JSONResponse](b)
}

func (s *server) GetTransaction(ctx context.Context, r api.GetTransactionRequestObject) (api.GetTransactionResponseObject, error) {
	ctx, _ = inbound(ctx)
	t, err := s.Chain.Transaction(ctx, domain.TxID(r.ID))
	if err != nil {
		return nil, err
	}
	transaction, err := api.Convert[api.Transaction](t.Transaction)
	return api.GetTransaction200JSONResponse{Block: int64(t.Block), Transaction: transaction}, err
}
