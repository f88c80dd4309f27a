package service_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func TestReadiness(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(op string) (bool, error)
		part  string // of the error, "" when ready
	}{
		{"all well", nil, ""},
		{"peer unreachable", func(op string) (bool, error) {
			return true, failOn(op, "evaluate", &ledger.UnavailableError{Err: errors.New("refused")})
		}, "query the ledger"},
		{"chaincode broken", func(op string) (bool, error) {
			return true, failOn(op, "evaluate", errors.New("chaincode: internal: panic"))
		}, "query the ledger"},
		{"contract refuses", func(op string) (bool, error) {
			return true, failOn(op, "evaluate", &domain.Error{Kind: domain.Forbidden, Msg: "not registered"})
		}, ""},
		{"no heights", func(op string) (bool, error) { return true, failOn(op, "heights", errors.New("down")) }, "ledger's height"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.indexed()
			w.ledger.SetFault(tt.fault)
			err := service.NewReadiness(w.ledger, w.index, w.clock.Now).Check(t.Context())
			if got := fmt.Sprint(err); (err == nil) != (tt.part == "") || !strings.Contains(got, tt.part) {
				t.Errorf("error is %v, want %q", err, tt.part)
			}
		})
	}
}

func failOn(op, prefix string, err error) error {
	if strings.HasPrefix(op, prefix) {
		return err
	}
	return nil
}

func TestReadinessLag(t *testing.T) {
	w := newWorld(t)
	ready := service.NewReadiness(w.ledger, newIndex(t), w.clock.Now) // an index that nobody fills
	if err := ready.Check(t.Context()); err != nil {
		t.Errorf("%d blocks behind: %v", w.chain.Height(), err)
	}
	for range 10 {
		w.chain.Append()
	}
	w.clock.Advance(2 * time.Second)
	if err := ready.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "the index has 0 of") {
		t.Errorf("%d blocks behind: error is %v", w.chain.Height(), err)
	}
}

// TestReadinessIsRemembered checks that probes share a query for 2 s, and that a
// failure is never remembered.
func TestReadinessIsRemembered(t *testing.T) {
	w := newWorld(t)
	w.indexed()
	queries := 0
	var fail error
	w.ledger.SetFault(func(op string) (bool, error) {
		if strings.HasPrefix(op, "evaluate") {
			queries++
			return true, fail
		}
		return true, nil
	})
	ready := service.NewReadiness(w.ledger, w.index, w.clock.Now)
	check := func(wantQueries int, wantOK bool) {
		t.Helper()
		if err := ready.Check(t.Context()); (err == nil) != wantOK {
			t.Errorf("error is %v, want ok %v", err, wantOK)
		}
		if queries != wantQueries {
			t.Errorf("%d queries, want %d", queries, wantQueries)
		}
	}
	check(1, true)
	check(1, true)
	w.clock.Advance(2*time.Second - time.Millisecond)
	check(1, true)
	fail = errors.New("down")
	w.clock.Advance(time.Millisecond)
	check(2, false)
	check(3, false)
	fail = nil
	check(4, true)
}
