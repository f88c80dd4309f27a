package remotelogtest

import (
	"context"
	"sync"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
)

// Fake reads a log of the same process. It is safe for concurrent use.
type Fake struct {
	tiles accesslog.Tiles

	mu    sync.Mutex
	fault func(ctx context.Context, what string) error
}

var _ remotelog.Log = (*Fake)(nil)

// New returns what others see of tiles.
func New(tiles accesslog.Tiles) *Fake { return &Fake{tiles: tiles} }

// SetFault has every read ask fault first: its error, unless nil, is the answer.
// What is "checkpoint", "tile" or "bundle".
func (f *Fake) SetFault(fault func(ctx context.Context, what string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *Fake) strike(ctx context.Context, what string) error {
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(ctx, what)
}

// Checkpoint implements [remotelog.Log].
func (f *Fake) Checkpoint(ctx context.Context) ([]byte, error) {
	if err := f.strike(ctx, "checkpoint"); err != nil {
		return nil, err
	}
	c, err := f.tiles.Checkpoint(ctx)
	return c.Note, err
}

// Tile implements [remotelog.Log].
func (f *Fake) Tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error) {
	if err := f.strike(ctx, "tile"); err != nil {
		return nil, err
	}
	return f.tiles.Tile(ctx, level, index, width)
}

// EntryBundle implements [remotelog.Log].
func (f *Fake) EntryBundle(ctx context.Context, index uint64, width uint8) ([]byte, error) {
	if err := f.strike(ctx, "bundle"); err != nil {
		return nil, err
	}
	return f.tiles.EntryBundle(ctx, index, width)
}
