package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/accesslog"
	"github.com/zhenglian/zhenglian/gateway/httpapi"
	"github.com/zhenglian/zhenglian/gateway/index/indextest"
	"github.com/zhenglian/zhenglian/gateway/memcache"
	"github.com/zhenglian/zhenglian/gateway/requestlog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlindex"
	"github.com/zhenglian/zhenglian/proof"
)

// What this program is when it is its own child: servers that are measured, and
// people who ask, have a process of their own.
const (
	serveBare   = "bare"   // a Gin handler that returns the bytes it was given
	serveLookup = "lookup" // the gateway's HTTP side over an index of generated certificates
	childPeople = "people" // asks for one path at a rate, and says at its end what it was answered
)

// child is a process of this program.
type child struct {
	url   string // where it listens; "" for one that does not
	said  string // after stop: what it said at its end
	pid   int
	stdin io.Closer
	out   *bufio.Reader
	cmd   *exec.Cmd
}

// start runs this program as its own child and waits until it listens, or asks.
func start(ctx context.Context, kind string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"-child", kind}, args...)...) //nolint:gosec // this program itself
	cmd.Stderr = os.Stderr
	// Linux shares processors between sessions before it does between processes. The
	// consortium has one of its own, and so have what it is compared with and the
	// people, who must not take from the department's client what they do not take
	// from the gateway.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{pid: cmd.Process.Pid, stdin: stdin, out: bufio.NewReader(stdout), cmd: cmd}
	line, err := c.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the child %q did not start: %w", kind, err), c.stop())
	}
	c.url = strings.TrimSpace(line)
	return c, nil
}

// stop ends the child, which lives as long as its standard input.
func (c *child) stop() error {
	err := c.stdin.Close()
	said, readErr := io.ReadAll(c.out)
	c.said = string(said)
	return errors.Join(err, readErr, c.cmd.Wait())
}

// childOptions are what a child is told.
type childOptions struct {
	kind         string
	dir          string // of a server's files
	certificates int    // of [serveLookup]
	url, path    string // that people ask for
	rate         int    // at which they do, a second
}

// shareProcessors has the session of this process come before others where processors are
// short, or after them, as nice values do from -20 to 19. It answers done false where that is
// not for this user or this kernel to say. To come last is everybody's to choose.
func shareProcessors(nice int) (done bool, err error) {
	err = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
	if errors.Is(err, fs.ErrNotExist) || nice < 0 && errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	return err == nil, err
}

// be is what the child does until its standard input ends: it says where it listens
// and serves, or asks.
func be(ctx context.Context, o childOptions, stdin io.Reader, stdout io.Writer) (err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // ends when the parent does
		end()
	}()
	var handler http.Handler
	switch o.kind {
	case childPeople:
		// People do not live on the gateway's host. What they cannot ask in time
		// counts against the run.
		if _, err := shareProcessors(19); err != nil {
			return err
		}
		fmt.Fprintln(stdout)
		asked, err := people(ctx, o.url, o.path, o.rate)
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(asked)
	case serveBare:
		handler, err = bareHandler(o.dir)
	case serveLookup:
		var closeAll func() error
		handler, closeAll, err = lookupHandler(ctx, o.dir, o.certificates)
		defer func() {
			if closeAll != nil {
				err = errors.Join(err, closeAll())
			}
		}()
	default:
		err = fmt.Errorf("there is no child %q", o.kind)
	}
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := httpapi.NewServer(handler, slog.New(slog.DiscardHandler))
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Fprintf(stdout, "http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// recordedFile holds an answer, head and body, for the bare server to repeat.
const recordedFile = "answer.http"

// bareHandler answers every request with the recorded answer, the fields of its head
// included: what Gin and net/http cost for those bytes.
func bareHandler(dir string) (http.Handler, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordedFile))
	if err != nil {
		return nil, err
	}
	recorded, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), nil)
	if err != nil {
		return nil, err
	}
	defer recorded.Body.Close()
	body, err := io.ReadAll(recorded.Body)
	if err != nil {
		return nil, err
	}
	recorded.Header.Del("Date") // every server writes its own
	media := recorded.Header.Get("Content-Type")
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.GET("/v1/verify/:ref", func(c *gin.Context) {
		h := c.Writer.Header()
		for name, values := range recorded.Header {
			h[name] = values
		}
		c.Data(recorded.StatusCode, media, body)
	})
	return e, nil
}

// lookupHandler is the gateway's HTTP side with its real verification, index, cache
// and log of requests over generated certificates. Whatever else a gateway does is
// missing; a request for it would end in a panic, and none comes.
func lookupHandler(ctx context.Context, dir string, certificates int) (http.Handler, func() error, error) {
	ix, err := sqlindex.Open(ctx, filepath.Join(dir, "index.sqlite"))
	if err != nil {
		return nil, nil, err
	}
	if err := fillCertificates(ctx, ix, certificates); err != nil {
		return nil, ix.Close, err
	}
	shared, err := memcache.New(memcache.Options{})
	if err != nil {
		return nil, ix.Close, err
	}
	requests, err := requestlog.Open(requestlog.Options{Dir: filepath.Join(dir, "requests"), Department: department})
	if err != nil {
		return nil, ix.Close, err
	}
	closeAll := func() error {
		return errors.Join(requests.Close(context.WithoutCancel(ctx)), shared.Close(), ix.Close())
	}
	type nothing = struct{ http.Handler }
	endless := httpapi.Rate{PerSecond: 1e6, Burst: 1_000_000}
	handler, err := httpapi.New(httpapi.Config{
		Department: department, PublicURL: "http://127.0.0.1", Trust: []byte("{}"),
		Verification: service.NewVerification(nil, ix, shared, new(proof.Anchors), time.Now, time.Now),
		Limiter:      shared, Requests: requests.Add, Log: slog.New(slog.DiscardHandler), Tokens: noTokens{},
		AddressRate: endless, PublicRate: endless,
		Governance: struct{ httpapi.Governance }{}, Catalog: struct{ httpapi.Catalog }{}, Sharing: struct{ httpapi.Sharing }{},
		Overview: struct{ httpapi.Overview }{}, Access: struct{ httpapi.Access }{}, Tiles: struct{ accesslog.Tiles }{},
		Alarms: struct{ httpapi.Alarms }{}, Certificates: struct{ httpapi.Certificates }{}, Chain: struct{ httpapi.Chain }{},
		Readiness: struct{ httpapi.Readiness }{}, Operations: struct{ httpapi.Operations }{}, CursorKey: make([]byte, 32), Blocks: ix, Pages: struct{ httpapi.Pages }{}, AuditPage: nothing{},
		Watched: func() []service.WatchedLog { return nil },
		Gauges:  func(context.Context) httpapi.Gauges { return httpapi.Gauges{} },
	})
	return handler, closeAll, err
}

// noTokens knows nobody.
type noTokens struct{}

func (noTokens) Caller(string) (service.Caller, bool) { return service.Caller{}, false }

// refOf is the reference of the nth generated certificate. Those of one issuing batch
// share the first digits.
func refOf(n int) string {
	batch := sha256.Sum256([]byte("batch " + strconv.Itoa(n/domain.MaxBatchRows)))
	sum := sha256.Sum256([]byte("certificate " + strconv.Itoa(n)))
	return domain.BatchOf(hex.EncodeToString(batch[:])) + hex.EncodeToString(sum[:10])
}

// revokedEvery is of how many generated certificates one is revoked.
const revokedEvery = 50

// verdictOf is what a verification of the nth generated certificate must say.
func verdictOf(n int) string {
	if n%revokedEvery == 0 {
		return "revoked"
	}
	return "valid"
}

// fillCertificates applies blocks of issuing batches until the index has as many
// certificates as asked for.
func fillCertificates(ctx context.Context, ix *sqlindex.Index, certificates int) error {
	const perBlock = 20 * domain.MaxBatchRows
	issued := time.Now().UTC().Truncate(time.Second).AddDate(-1, 0, 0)
	issuer := domain.Department{Code: department, MSPID: "PoliceMSP", NameZh: "示例公安局", NameEn: "Sample Police", USCC: "11430000006122244L"}
	issuer.Schema = domain.SchemaDepartment
	records := []any{domain.KeyOf(domain.KindDepartment, department), issuer}
	var batch []domain.Certificate
	for n := range certificates {
		sum := sha256.Sum256([]byte("block " + strconv.Itoa(n/perBlock)))
		tx := domain.TxID(hex.EncodeToString(sum[:]))
		c := generated(n, issued, issuer.USCC)
		c.TxID, c.TxTime = tx, issued
		batch = append(batch, c)
		if last := n+1 == certificates; last || len(batch) == domain.MaxBatchRows {
			id, content, status := indextest.Batch(tx, department, batch...)
			records = append(records, domain.KeyOf(domain.KindIssuingBatch, id), content, domain.KeyOf(domain.KindBatchStatus, id), status)
			batch = batch[:0]
			if !last && (n+1)%perBlock != 0 {
				continue
			}
			number, err := ix.NextBlock(ctx)
			if err != nil {
				return err
			}
			written := indextest.Put(records...)
			written.ID = tx
			block := new(indextest.Chain).Add(written)
			block.Number = number
			if err := ix.ApplyBlock(ctx, block); err != nil {
				return err
			}
			records = records[:0]
		}
	}
	return nil
}

// generated is the nth certificate.
func generated(n int, issued time.Time, uscc string) domain.Certificate {
	c := domain.Certificate{
		Issuer: department, Status: domain.CertificateValid, StatusSince: issued, Seq: 2,
		Content: domain.CertificateContent{
			Ref: refOf(n), CertID: fmt.Sprintf("1.2.156.3005.2.bench.%d", n), TypeCode: uscc + "001", TypeNameZh: "示例居住证", TypeNameEn: "Sample residence permit",
			IssuerUSCC: uscc, HolderKind: "person", HolderRef: strings.Repeat("1", 64), IssuedAt: issued,
			Validity: domain.Period{From: issued, To: issued.AddDate(10, 0, 0)}, ServiceItem: "11000000000000000000000000000000",
			ContentDigest: strings.Repeat("2", 64), CheckCodeHash: strings.Repeat("3", 64), StatusIndex: n % domain.MaxStatusIndex,
		},
		Changes: []domain.StatusChange{{Status: domain.CertificateValid, Since: issued, RecordedAt: issued}},
	}
	if n%revokedEvery == 0 {
		since := issued.AddDate(0, 6, 0)
		act := &domain.StatusAct{DocumentNo: "示例2026第1号", LegalBasis: "示例条例第1条", ReasonCode: "issued_in_error", EffectiveAt: since}
		c.Changes = append(c.Changes, domain.StatusChange{Status: domain.CertificateRevoked, Since: since, RecordedAt: since, Act: act})
	}
	return c
}
