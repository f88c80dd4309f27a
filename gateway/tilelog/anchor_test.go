package tilelog_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog/accesslogtest"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
	"github.com/zhenglian/zhenglian/proof"
)

const origin = "zhenglian.example/log/police"

// oneLog is a ledger that knows nothing but the last anchor of a log.
type oneLog struct {
	ledger.Ledger
	registration domain.LogRegistration
}

func (o *oneLog) Evaluate(context.Context, domain.Role, string, []byte) ([]byte, error) {
	record, err := domain.Canonical(o.registration)
	if err != nil {
		return nil, err
	}
	return domain.Canonical(domain.Statement{Found: true, Record: string(record)})
}

// Submit holds an anchor against the last one, as the chaincode does.
func (o *oneLog) Submit(_ context.Context, r ledger.Request) (ledger.Receipt, error) {
	var args domain.AnchorArgs
	if err := domain.ParseCanonical(r.Argument, &args); err != nil {
		return ledger.Receipt{}, err
	}
	next, err := proof.OpenCheckpoint([]byte(args.Checkpoint), o.registration.Origin, o.registration.VerifierKey)
	if err != nil {
		return ledger.Receipt{}, err
	}
	root, err := base64.StdEncoding.DecodeString(o.registration.Root)
	if err != nil {
		return ledger.Receipt{}, err
	}
	var hashes [][]byte
	for _, text := range args.Proof {
		h, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return ledger.Receipt{}, err
		}
		hashes = append(hashes, h)
	}
	if err := proof.VerifyConsistency(o.registration.Size, next.Size, [32]byte(root), next.Root, hashes); err != nil {
		return ledger.Receipt{}, err
	}
	result, err := domain.Canonical(domain.Anchor{Size: next.Size})
	return ledger.Receipt{Result: result}, err
}

// anyIndex is an index that has all entries and counts none.
type anyIndex struct{ index.Index }

func (anyIndex) NextAccess(context.Context) (uint64, error) { return 1 << 62, nil }

func (anyIndex) Get(context.Context, domain.RecordKind, string) (index.Record, error) {
	return index.Record{}, &domain.Error{Kind: domain.NotFound, Msg: "nothing is indexed"}
}

func (anyIndex) GrantCounts(context.Context, uint64, uint64) ([]domain.GrantCount, error) {
	return nil, nil
}

func (anyIndex) WaitBlock(context.Context, uint64) error { return nil }

// The ledger remembers the last anchor. A folder put back from an older copy, and
// one with another history under the same key, are never anchored, and the
// gateway says why.
func TestAnchoring(t *testing.T) {
	key, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	open := func(t *testing.T, keep, n int) *tilelog.Log {
		t.Helper()
		l, err := tilelog.Open(t.Context(), tilelog.Options{
			Dir: filepath.Join(t.TempDir(), "log"), Origin: origin, Key: key,
			CheckpointInterval: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Close(context.Background()); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		for i := range n {
			text := fmt.Sprintf("entry %d", i)
			if i >= keep {
				text = "other " + text
			}
			if _, err := l.Append(t.Context(), [][]byte{[]byte(text)}); err != nil {
				t.Fatal(err)
			}
		}
		accesslogtest.AwaitSize(t, l, uint64(n))
		return l
	}
	anchored, err := open(t, 5, 5).Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		keep, n int
		want    string // that the anchorer says
	}{
		{"grown", 9, 9, "msg=anchored size=9"},
		{"rolled back", 3, 3, "the ledger anchors 5 entries and the log holds 3"},
		{"forked, same size", 3, 5, "different entries at size 5"},
		{"forked, grown", 3, 9, "not shown to extend"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := open(t, test.keep, test.n)
			stub := &oneLog{registration: domain.LogRegistration{
				Owner: "police", Origin: origin, VerifierKey: l.VerifierKey(), Size: anchored.Size, Root: base64.StdEncoding.EncodeToString(anchored.Root),
			}}
			said, out := io.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = service.NewAnchorer("police", stub, anyIndex{}, l, 10*time.Millisecond, slog.New(slog.NewTextHandler(out, nil))).Run(ctx) // ends with ctx
			}()
			late := time.AfterFunc(30*time.Second, func() { _ = out.CloseWithError(context.DeadlineExceeded) })
			defer late.Stop()
			var text strings.Builder
			for lines := bufio.NewScanner(said); !strings.Contains(text.String(), test.want); {
				if !lines.Scan() {
					t.Errorf("the anchorer says %q, want %q; %v", text.String(), test.want, lines.Err())
					break
				}
				text.WriteString(lines.Text() + "\n")
			}
			cancel()
			_ = said.Close() // what it still says is of no interest
			<-ended
		})
	}
}
