package service_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
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
		}, "does not answer a query"},
		{"chaincode broken", func(op string) (bool, error) {
			return true, failOn(op, "evaluate", errors.New("chaincode: internal: panic"))
		}, "does not answer a query"},
		{"contract refuses", func(op string) (bool, error) {
			return true, failOn(op, "evaluate", &domain.Error{Kind: domain.Forbidden, Msg: "not registered"})
		}, ""},
		{"no heights", func(op string) (bool, error) { return true, failOn(op, "heights", errors.New("down")) }, "how many blocks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.indexed()
			ready := service.NewReadiness(w.ledger, w.index, w.anchors.Quorum, w.clock.Now)
			if err := ready.Check(t.Context()); err != nil {
				t.Fatalf("before the fault: %v", err)
			}
			w.clock.Advance(2 * time.Second)
			w.ledger.SetFault(tt.fault)
			err := ready.Check(t.Context())
			if got := fmt.Sprint(err); (err == nil) != (tt.part == "") || !strings.Contains(got, tt.part) {
				t.Errorf("error is %v, want %q", err, tt.part)
			}
			var reason *service.NotReadyError
			if err != nil && !errors.As(err, &reason) {
				t.Errorf("error is a %T, want a NotReadyError", err)
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
	ix := newIndex(t) // filled once, and by nobody afterwards
	head := w.chain.Height()
	full := errors.New("full")
	err := w.ledger.Blocks(t.Context(), 0, func(b domain.Block) error {
		if err := ix.ApplyBlock(t.Context(), b); err != nil || b.Number+1 < head {
			return err
		}
		return full
	})
	if !errors.Is(err, full) {
		t.Fatal(err)
	}
	ready := service.NewReadiness(w.ledger, ix, w.anchors.Quorum, w.clock.Now)
	for range 5 {
		w.chain.Append()
	}
	if err := ready.Check(t.Context()); err != nil {
		t.Errorf("%d blocks behind: %v", w.chain.Height()-head, err)
	}
	for range 10 {
		w.chain.Append()
	}
	w.clock.Advance(2 * time.Second)
	if err := ready.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "the index has ") {
		t.Errorf("%d blocks behind: error is %v", w.chain.Height()-head, err)
	}
}

// TestFirstReadinessNeedsSigners checks that a gateway is not ready until as many
// departments as a write needs have signed a read together, once, and that it
// then stays ready without them.
func TestFirstReadinessNeedsSigners(t *testing.T) {
	w := newWorld(t)
	w.indexed()
	ready := service.NewReadiness(w.ledger, w.index, w.anchors.Quorum, w.clock.Now)
	check := func(when, part string) {
		t.Helper()
		err := ready.Check(t.Context())
		if (err == nil) != (part == "") || !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("%s: error is %v, want %q", when, err, part)
		}
		w.clock.Advance(2 * time.Second)
	}
	none := errors.New("no combination of peers can be derived")
	var signing error
	w.ledger.SetFault(func(op string) (bool, error) { return true, failOn(op, "signedread", signing) })
	signing = none
	check("just started", "3 departments have not signed a read together yet: "+none.Error())
	signing = &domain.Error{Kind: domain.Forbidden, Msg: "not registered"}
	check("refused by the contract", "")
	signing = none
	check("a refusal is no signature", none.Error())
	signing = nil
	check("signed", "")
	signing = none
	check("later", "")
}

// TestReadinessNeedsStorage checks that a gateway whose disk is full is not ready, at
// once, and is ready again when there is room.
func TestReadinessNeedsStorage(t *testing.T) {
	w := newWorld(t)
	w.indexed()
	ready := service.NewReadiness(w.ledger, w.index, w.anchors.Quorum, w.clock.Now)
	var full error
	ready.Writes = func() error { return full }
	if err := ready.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	full = errors.New("database or disk is full")
	var not *service.NotReadyError
	if err := ready.Check(t.Context()); !errors.As(err, &not) || not.Reason != "no write can be stored" || !errors.Is(err, full) {
		t.Errorf("with a full disk: %v", err)
	}
	full = nil
	if err := ready.Check(t.Context()); err != nil {
		t.Errorf("with room: %v", err)
	}
}

// TestReadinessIsShared checks that probes which come while a check is under way
// wait for it, each no longer than it wants to, and start none of their own.
func TestReadinessIsShared(t *testing.T) {
	w := newWorld(t)
	w.indexed()
	var checks atomic.Int64
	held := make(chan struct{})
	w.ledger.SetFault(func(op string) (bool, error) {
		if op == "signedread" {
			checks.Add(1)
			<-held
		}
		return true, nil
	})
	ready := service.NewReadiness(w.ledger, w.index, w.anchors.Quorum, w.clock.Now)
	first := make(chan error)
	go func() { first <- ready.Check(t.Context()) }()
	await(t, "the check", func() bool { return checks.Load() == 1 })
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if err := ready.Check(impatient); !errors.Is(err, context.Canceled) {
			t.Fatalf("error is %v, want %v", err, context.Canceled)
		}
	}
	close(held)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n := checks.Load(); n != 1 {
		t.Errorf("%d checks, want 1", n)
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
	ready := service.NewReadiness(w.ledger, w.index, w.anchors.Quorum, w.clock.Now)
	if err := ready.Check(t.Context()); err != nil { // the first check is a signed read
		t.Fatal(err)
	}
	w.clock.Advance(2 * time.Second)
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
