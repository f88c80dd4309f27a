package httpapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/telemetry"
)

type outerKey struct{}

// TestPassageEnds waits for a request's context, and for one made of it, to end at
// the deadline, with the connection and with the request, whoever asks first.
func TestPassageEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name string
			stop func(p *passage, hangUp func())
			want error
		}{
			{"deadline", func(*passage, func()) { time.Sleep(time.Second) }, context.DeadlineExceeded},
			{"connection", func(_ *passage, hangUp func()) { hangUp() }, context.Canceled},
			{"request", func(p *passage, _ func()) { p.end() }, context.Canceled},
		} {
			for _, early := range []bool{true, false} {
				outer, hangUp := context.WithCancel(context.WithValue(t.Context(), outerKey{}, "outer"))
				p := &passage{outer: outer, deadline: time.Now().Add(time.Second)}
				if got := p.Value(outerKey{}); got != "outer" {
					t.Errorf("%s: value %v", tt.name, got)
				}
				var child context.Context
				end := context.CancelFunc(func() {})
				if early {
					child, end = context.WithCancel(p)
					if p.Err() != nil || child.Err() != nil {
						t.Errorf("%s: over before it began: %v, %v", tt.name, p.Err(), child.Err())
					}
				}
				tt.stop(p, hangUp)
				if !early {
					child, end = context.WithCancel(p)
				}
				<-p.Done()
				<-child.Done()
				if !errors.Is(p.Err(), tt.want) || !errors.Is(child.Err(), tt.want) {
					t.Errorf("%s, early %t: %v, and of its child %v, want %v", tt.name, early, p.Err(), child.Err(), tt.want)
				}
				if at, ok := p.Deadline(); !ok || at != p.deadline {
					t.Errorf("%s: deadline %v, %t", tt.name, at, ok)
				}
				if got := child.Value(outerKey{}); got != "outer" {
					t.Errorf("%s: value %v after its end", tt.name, got)
				}
				end()
				p.end()
				hangUp()
			}
		}
	})
}

// TestPassageNotesTransactions notes a transaction by way of a context made of the
// request's.
func TestPassageNotesTransactions(t *testing.T) {
	p := &passage{outer: t.Context(), deadline: time.Now().Add(time.Minute)}
	defer p.end()
	ctx, cancel := context.WithCancel(p)
	defer cancel()
	telemetry.Note(ctx, testTx)
	if got := p.noted.TxID(); got != domain.TxID(testTx) {
		t.Errorf("noted %q", got)
	}
}
