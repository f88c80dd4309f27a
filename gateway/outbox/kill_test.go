package outbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/ledger/ledgertest"
)

// The test binary becomes a process with an outbox in the folder of dirEnv over the
// ledger behind the socket of socketEnv. It takes up what is left there, submits
// what runEnv names, says "done NAME" or "accepted NAME" when it got that answer, and
// kills itself at the point of pointEnv. Without one it waits until nothing is left; at
// "told" it submits what its input names (see submitTold).
const (
	dirEnv    = "ZHENGLIAN_TEST_OUTBOX_DIR"
	socketEnv = "ZHENGLIAN_TEST_OUTBOX_SOCKET"
	runEnv    = "ZHENGLIAN_TEST_OUTBOX_RUN"
	pointEnv  = "ZHENGLIAN_TEST_OUTBOX_POINT"
)

// points are the moments at which the process dies, in the order of the states.
var points = []string{
	"accepted",  // the request is stored, and told to be
	"endorsing", // nobody has seen the proposal
	"endorsed",  // the transaction is signed, and not stored
	"stored",    // not handed over
	"ordered",   // committed, and the process has not heard of it
	"committed", // heard of, and not recorded
	"answered",  // recorded and answered
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirEnv); dir != "" {
		if err := submitProcess(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// remote is the ledger of another process. It ends this process when it has come to
// its point for the write that is under test.
type remote struct {
	ledger.Reader // nil: the outbox reads nothing
	client        *rpc.Client
	name, point   string

	mine atomic.Value // the domain.TxID of that write
}

func (r *remote) at(point string, mine bool) {
	if r.point == point && mine {
		die()
	}
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func (r *remote) Endorse(_ context.Context, q ledger.Request) (tx ledger.Transaction, err error) {
	mine := string(q.Argument) == r.name
	r.at("endorsing", mine)
	err = said(r.client.Call("Chain.Endorse", q, &tx))
	if mine {
		r.mine.Store(tx.ID)
	}
	r.at("endorsed", mine)
	return tx, err
}

func (r *remote) Order(_ context.Context, tx ledger.Transaction, _ bool) (receipt ledger.Receipt, err error) {
	mine := r.mine.Load() == tx.ID
	r.at("stored", mine)
	hung := Wish{Transaction: tx, Hang: r.point == "ordered" && mine}
	if hung.Hang {
		go func() { // the answer never comes
			var done bool
			_ = r.client.Call("Chain.Await", tx.ID, &done)
			die()
		}()
	}
	err = said(r.client.Call("Chain.Order", hung, &receipt))
	r.at("committed", mine)
	return receipt, err
}

// said makes a refusal that came as text a refusal again.
func said(err error) error {
	if err == nil {
		return nil
	}
	_, text, _ := strings.Cut(err.Error(), "refused ")
	if e, ok := domain.ParseError(text); ok {
		return e
	}
	return err
}

// Chain is the ledger as the parent process serves it.
type Chain struct {
	l *ledgertest.Ledger

	mu      sync.Mutex
	ordered map[domain.TxID]chan struct{}
}

// Wish asks for a transaction to be ordered. With Hang the answer never comes.
type Wish struct {
	Transaction ledger.Transaction
	Hang        bool
}

func (c *Chain) Endorse(q ledger.Request, tx *ledger.Transaction) (err error) {
	*tx, err = c.l.Endorse(context.Background(), q)
	return c.refused(err)
}

func (c *Chain) Order(w Wish, receipt *ledger.Receipt) (err error) {
	*receipt, err = c.l.Order(context.Background(), w.Transaction, false)
	if w.Hang {
		close(c.orderedOf(w.Transaction.ID))
		select {}
	}
	return c.refused(err)
}

func (c *Chain) Await(id domain.TxID, done *bool) error {
	<-c.orderedOf(id)
	*done = true
	return nil
}

func (c *Chain) orderedOf(id domain.TxID) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ordered[id] == nil {
		c.ordered[id] = make(chan struct{})
	}
	return c.ordered[id]
}

func (*Chain) refused(err error) error {
	if e := (*domain.Error)(nil); errors.As(err, &e) {
		return errors.New("refused " + e.Error())
	}
	return err
}

func submitProcess(dir string) error {
	client, err := rpc.Dial("unix", os.Getenv(socketEnv))
	if err != nil {
		return err
	}
	name, point := os.Getenv(runEnv), os.Getenv(pointEnv)
	o := quick
	o.Logger = slog.New(slog.DiscardHandler)
	b, err := Open(context.Background(), filepath.Join(dir, "outbox.sqlite"), &remote{client: client, name: name, point: point}, o)
	if err != nil {
		return err
	}
	switch point {
	case "":
		b.work.Wait()
		return b.Close()
	case "told":
		submitTold(b)
		return nil
	}
	ctx := context.Background()
	operation := ""
	if number, keyed := strings.CutPrefix(name, "keyed"); keyed {
		operation = fmt.Sprintf("%032s", number)
	}
	if point == "accepted" {
		ctx = ledger.WithWait(ctx, 0)
	}
	_, err = b.Submit(ctx, ledger.Request{Role: role, Transaction: createTx, Argument: []byte(name), Operation: operation})
	var unknown *ledger.OutcomeUnknownError
	switch {
	case errors.As(err, &unknown):
		fmt.Println("accepted", name)
	case err == nil:
		fmt.Println("done", name)
	default:
		return err
	}
	die()
	return nil
}

// serve offers a ledger to processes, behind a socket in dir, until the test ends.
func serve(t *testing.T, dir string, chain *ledgertest.Chain) (socket string) {
	t.Helper()
	socket = filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	server := rpc.NewServer()
	if err := server.RegisterName("Chain", &Chain{l: chain.Ledger(department), ordered: make(map[domain.TxID]chan struct{})}); err != nil {
		t.Fatal(err)
	}
	go server.Accept(listener)
	return socket
}

// TestKilled kills a process at each point of a write, fifty times, and has the next
// one take up what it left: nothing that was answered is lost, nothing happens twice,
// and nothing stays open.
func TestKilled(t *testing.T) {
	const times = 50
	for i, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			chain := newChain()
			dir := t.TempDir()
			socket := serve(t, dir, chain)

			run := func(name, point string) (said string, err error) {
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), dirEnv+"="+dir, socketEnv+"="+socket, runEnv+"="+name, pointEnv+"="+point)
				var out, errs strings.Builder
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err = cmd.Run(); err != nil && errs.Len() > 0 {
					err = errors.New(errs.String())
				}
				return out.String(), err
			}
			names := make([]string, times)
			promised := make(map[string]bool)
			for n := range names {
				names[n] = fmt.Sprintf("keyed%d", 1000*(i+1)+n)
				if n%5 == 4 && point != "accepted" {
					names[n] = fmt.Sprintf("plain%d", 1000*(i+1)+n)
				}
				out, err := run(names[n], point)
				if killed := (*exec.ExitError)(nil); !errors.As(err, &killed) || killed.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("%s: the process ended with %v and said %q; it was to die at %s", names[n], err, out, point)
				}
				for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
					_, name, _ := strings.Cut(lines.Text(), " ")
					promised[name] = true
				}
			}
			if _, err := run("", ""); err != nil {
				t.Fatal(err)
			}
			stored := point != "endorsing" && point != "endorsed"
			for _, name := range names {
				want := 0
				if stored { // whether the caller heard of it or not
					want = 1
				}
				if got := effects(t, chain, name); got != want {
					t.Errorf("%s: %d effects, want %d", name, got, want)
				}
			}
			if answers := point == "accepted" || point == "answered"; answers != (len(promised) == times) {
				t.Errorf("%d of %d writes were answered", len(promised), times)
			}
			s, left, err := openStore(t.Context(), filepath.Join(dir, "outbox.sqlite"), func() (never time.Time) { return })
			if err != nil {
				t.Fatal(err)
			}
			if len(left) != 0 {
				t.Errorf("%d writes stay open", len(left))
			}
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
