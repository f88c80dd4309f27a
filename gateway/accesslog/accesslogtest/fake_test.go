package accesslogtest_test

import (
	"errors"
	"testing"

	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
)

func TestConformance(t *testing.T) {
	accesslogtest.Run(t, func(*testing.T) accesslog.Log { return accesslogtest.New() })
}

func TestTiles(t *testing.T) {
	accesslogtest.RunTiles(t, func(*testing.T) accesslogtest.TiledLog { return accesslogtest.New() })
}

func TestFault(t *testing.T) {
	lost := errors.New("lost")
	for name, apply := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			l := accesslogtest.New()
			l.Fault = func(int) (bool, error) { return apply, lost }
			if _, err := l.Append(t.Context(), [][]byte{{1}}); !errors.Is(err, lost) {
				t.Errorf("Append = %v, want the fault", err)
			}
			want := uint64(0)
			if apply {
				want = 1
			}
			if cp, err := l.Checkpoint(t.Context()); err != nil || cp.Size != want {
				t.Errorf("size = %d, %v, want %d", cp.Size, err, want)
			}
		})
	}
}

func TestHold(t *testing.T) {
	l := accesslogtest.New()
	l.Hold(true)
	if _, err := l.Append(t.Context(), [][]byte{{1}}); err != nil {
		t.Fatal(err)
	}
	if cp, err := l.Checkpoint(t.Context()); err != nil || cp.Size != 0 {
		t.Errorf("size while held = %d, %v, want 0", cp.Size, err)
	}
	l.Hold(false)
	if cp, err := l.Checkpoint(t.Context()); err != nil || cp.Size != 1 {
		t.Errorf("size = %d, %v, want 1", cp.Size, err)
	}
}
