package remotelogtest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/remotelog/remotelogtest"
)

func TestConformance(t *testing.T) {
	remotelogtest.Run(t, func(*testing.T) (accesslogtest.TiledLog, remotelog.Log) {
		l := accesslogtest.NewNamed("zhenglian.example/log/police")
		return l, remotelogtest.New(l)
	})
}

func TestFault(t *testing.T) {
	f := remotelogtest.New(accesslogtest.NewNamed("zhenglian.example/log/police"))
	down := errors.New("down")
	f.SetFault(func(_ context.Context, what string) error {
		if what == "checkpoint" {
			return down
		}
		return nil
	})
	if _, err := f.Checkpoint(t.Context()); !errors.Is(err, down) {
		t.Errorf("got %v, want the fault", err)
	}
	f.SetFault(nil)
	if _, err := f.Checkpoint(t.Context()); err != nil {
		t.Errorf("got %v after the fault", err)
	}
}
