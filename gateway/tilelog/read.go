package tilelog

import (
	"context"
	"fmt"

	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	"github.com/zhenglian/zhenglian/domain"
)

// tile reads a tile as wide as the tree allows now and ignores the width that
// the tree of some earlier size would have. A wider tile begins with the same
// hashes; the narrow one may never have been written, or be what a process left
// that was killed before the tree took it in.
func (l *Log) tile(ctx context.Context, level, index uint64, _ uint8) ([]byte, error) {
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return nil, err
	}
	return l.reader.ReadTile(ctx, level, index, layout.PartialTileSize(level, index, size))
}

// published refuses what lies beyond the published checkpoint: nobody could
// check it yet.
func (l *Log) published(ctx context.Context, what string, size uint64) error {
	cp, err := l.Checkpoint(ctx)
	if err != nil {
		return err
	}
	if size > cp.Size {
		return &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("%s %d is beyond the checkpoint of size %d", what, size, cp.Size)}
	}
	return nil
}

// Entries implements [accesslog.Log]. It answers the entries of one bundle, up
// to 256.
func (l *Log) Entries(ctx context.Context, from, to uint64) ([][]byte, error) {
	if from >= to {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("the range from %d to %d is empty", from, to)}
	}
	if err := l.published(ctx, "the range's end", to); err != nil {
		return nil, err
	}
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return nil, fmt.Errorf("read entries of %s: %w", l.origin, err)
	}
	number := from / layout.EntryBundleWidth
	bundle, err := client.GetEntryBundle(ctx, l.reader.ReadEntryBundle, number, size)
	if err != nil {
		return nil, fmt.Errorf("read entries of %s: %w", l.origin, err)
	}
	start := number * layout.EntryBundleWidth
	end := min(to, start+layout.EntryBundleWidth) - start
	if uint64(len(bundle.Entries)) < end {
		return nil, fmt.Errorf("read entries of %s: bundle %d holds %d entries, want %d", l.origin, number, len(bundle.Entries), end)
	}
	return bundle.Entries[from-start : end], nil
}

// InclusionProof implements [accesslog.Log].
func (l *Log) InclusionProof(ctx context.Context, index, size uint64) ([][]byte, error) {
	if index >= size {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("index %d is not in a tree of size %d", index, size)}
	}
	if err := l.published(ctx, "size", size); err != nil {
		return nil, err
	}
	builder, err := client.NewProofBuilder(ctx, size, l.tile)
	if err != nil {
		return nil, fmt.Errorf("prove entry %d of %s: %w", index, l.origin, err)
	}
	proof, err := builder.InclusionProof(ctx, index)
	if err != nil {
		return nil, fmt.Errorf("prove entry %d of %s: %w", index, l.origin, err)
	}
	return proof, nil
}

// ConsistencyProof implements [accesslog.Log]. Between equal sizes the proof is
// empty.
func (l *Log) ConsistencyProof(ctx context.Context, from, to uint64) ([][]byte, error) {
	if from == 0 || from > to {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("there is no consistency proof from size %d to %d", from, to)}
	}
	if err := l.published(ctx, "size", to); err != nil {
		return nil, err
	}
	builder, err := client.NewProofBuilder(ctx, to, l.tile)
	if err != nil {
		return nil, fmt.Errorf("prove consistency of %s from %d to %d: %w", l.origin, from, to, err)
	}
	proof, err := builder.ConsistencyProof(ctx, from, to)
	if err != nil {
		return nil, fmt.Errorf("prove consistency of %s from %d to %d: %w", l.origin, from, to, err)
	}
	return proof, nil
}
