package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/tileclient"
	"github.com/zhenglian/zhenglian/proof"
)

// logFlags say which logs to read and whom to ask for the ledger's anchors.
type logFlags struct {
	Trust       string        `placeholder:"FILE" xor:"trust" required:"" help:"Trust file (consortium.json) that you have pinned."`
	Log         []string      `sep:"none" placeholder:"DEPARTMENT=URL,token-file=FILE" help:"A department's gateway, with the file of an auditor's access token for it; repeat for each log."`
	AnchorsFrom string        `placeholder:"URL,token-file=FILE" help:"Gateway to ask for the ledger's anchors; the one of the first log if not given."`
	State       string        `placeholder:"FOLDER" xor:"trust" required:"" help:"Instead of --trust and --log: all departments of the consortium on this machine, with its state folder."`
	Patience    time.Duration `default:"2m" help:"How long one step may wait for the gateway with the anchors."`
}

// auditSources are what is audited.
type auditSources struct {
	trust       *proof.Anchors
	departments []domain.DepartmentCode // in the order given
	logs        map[domain.DepartmentCode]remotelog.Log
	anchors     *gatewayAnchors
}

// logAddress is a gateway with an access token for it.
type logAddress struct{ url, token string }

// sources reads the flags.
func (f *logFlags) sources() (*auditSources, error) {
	s := &auditSources{logs: make(map[domain.DepartmentCode]remotelog.Log)}
	var from logAddress
	add := func(department domain.DepartmentCode, at logAddress) error {
		if _, ok := s.logs[department]; ok {
			return fmt.Errorf("the log of %s is given twice", department)
		}
		if !slices.ContainsFunc(s.trust.Departments, func(d proof.Department) bool { return d.Code == department }) {
			return fmt.Errorf("the trust file does not name the department %q", department)
		}
		log, err := tileclient.New(at.url, at.token, department, nil)
		if err != nil {
			return fmt.Errorf("log of %s: %w", department, err)
		}
		s.departments, s.logs[department] = append(s.departments, department), log
		if from.url == "" {
			from = at
		}
		return nil
	}
	read := f.readFlags
	if f.State != "" {
		read = f.readState
	}
	if err := read(s, add); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	if f.AnchorsFrom != "" {
		var err error
		if from, err = parseAddress(f.AnchorsFrom); err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--anchors-from: %w", err)}
		}
	}
	client, err := newGatewayClient(from.url, from.token, f.Patience)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	s.anchors = &gatewayAnchors{client: client, trust: s.trust, all: make(map[domain.DepartmentCode][]domain.Anchor)}
	return s, nil
}

// readFlags reads the trust file and --log.
func (f *logFlags) readFlags(s *auditSources, add func(domain.DepartmentCode, logAddress) error) error {
	var err error
	if s.trust, err = readAnchors(f.Trust); err != nil {
		return err
	}
	if len(f.Log) == 0 {
		return errors.New("no log is given: --log DEPARTMENT=URL,token-file=FILE")
	}
	for _, text := range f.Log {
		department, rest, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("--log %s: must be DEPARTMENT=URL,token-file=FILE", text)
		}
		at, err := parseAddress(rest)
		if err == nil {
			err = add(domain.DepartmentCode(department), at)
		}
		if err != nil {
			return fmt.Errorf("--log %s: %w", department, err)
		}
	}
	return nil
}

// readState reads where the gateways of the consortium on this machine are.
func (f *logFlags) readState(s *auditSources, add func(domain.DepartmentCode, logAddress) error) error {
	if len(f.Log) > 0 {
		return errors.New("--state and --log exclude one another")
	}
	r := &sampleRun{folder: f.State, patience: f.Patience}
	if err := r.load(); err != nil {
		return err
	}
	s.trust = r.anchors
	for _, d := range s.trust.Departments {
		token, err := readToken(r.departments[d.Code].tokens, string(domain.RoleAuditor))
		if err == nil {
			err = add(d.Code, logAddress{r.departments[d.Code].url, token})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseAddress reads "URL" or "URL,token-file=FILE".
func parseAddress(text string) (logAddress, error) {
	url, rest, found := strings.Cut(text, ",")
	if !found {
		return logAddress{url: url}, nil
	}
	file, ok := strings.CutPrefix(rest, "token-file=")
	if !ok {
		return logAddress{}, errors.New("after the URL must follow ,token-file=FILE")
	}
	token, err := readToken(file, string(domain.RoleAuditor))
	return logAddress{url, token}, err
}

// gatewayAnchors asks a gateway for anchors. It believes the departments'
// signatures only, not the gateway.
type gatewayAnchors struct {
	client *gatewayClient
	trust  *proof.Anchors

	mu  sync.Mutex
	all map[domain.DepartmentCode][]domain.Anchor // by size
}

var _ service.AnchorSource = (*gatewayAnchors)(nil)

// After implements [service.AnchorSource]. The gateway lists anchors in no order
// of size, so that all are read, once.
func (g *gatewayAnchors) After(ctx context.Context, department domain.DepartmentCode, size uint64) ([]domain.Anchor, error) {
	g.mu.Lock()
	all, ok := g.all[department]
	g.mu.Unlock()
	if !ok {
		params := api.ListAnchorsParams{Department: pointer(string(department)), Limit: pointer(200)}
		for {
			var page list[domain.Anchor]
			err := g.client.read(ctx, func(ctx context.Context) (*http.Response, error) { return g.client.ListAnchors(ctx, &params) }, &page)
			if err != nil {
				return nil, err
			}
			for _, item := range page.Items {
				all = append(all, item.Record)
			}
			if page.Next == "" {
				break
			}
			params.Cursor = pointer(page.Next)
		}
		slices.SortStableFunc(all, func(a, b domain.Anchor) int { return int(max(-1, min(1, int64(a.Size)-int64(b.Size)))) })
		g.mu.Lock()
		g.all[department] = all
		g.mu.Unlock()
	}
	i := slices.IndexFunc(all, func(a domain.Anchor) bool { return a.Size > size })
	if i < 0 {
		return nil, nil
	}
	return all[i:], nil
}

// Get implements [service.AnchorSource].
func (g *gatewayAnchors) Get(ctx context.Context, department domain.DepartmentCode, size uint64) (domain.Anchor, error) {
	_, anchor, err := g.signed(ctx, department, size)
	return anchor, err
}

// newest answers the size of a log's newest anchor as the gateway says, 0 when
// there is none.
func (g *gatewayAnchors) newest(ctx context.Context, department domain.DepartmentCode) (uint64, error) {
	params := api.ListLogsParams{Limit: pointer(200)}
	for {
		var page list[domain.LogRegistration]
		err := g.client.read(ctx, func(ctx context.Context) (*http.Response, error) { return g.client.ListLogs(ctx, &params) }, &page)
		if err != nil {
			return 0, err
		}
		for _, l := range page.Items {
			if l.Record.Owner == department {
				return l.Record.Size, nil
			}
		}
		if page.Next == "" {
			return 0, nil
		}
		params.Cursor = pointer(page.Next)
	}
}

// signed asks for the departments' signed read of an anchor and verifies it.
func (g *gatewayAnchors) signed(ctx context.Context, department domain.DepartmentCode, size uint64) ([]byte, domain.Anchor, error) {
	id := domain.AnchorID(department, size)
	var bundle []byte
	err := g.client.read(ctx, func(ctx context.Context) (*http.Response, error) {
		return g.client.GetProof(ctx, api.PathKind(domain.KindAnchor), id)
	}, &bundle)
	if err != nil {
		return nil, domain.Anchor{}, err
	}
	verdict := proof.Verify(bundle, g.trust, proof.Options{})
	switch s := verdict.Statement; {
	case verdict.Overall == proof.CannotCheck:
		return nil, domain.Anchor{}, fmt.Errorf("signed read of anchor %s: %s", id, verdict.Reason)
	case verdict.Overall == proof.BadProof:
		return nil, domain.Anchor{}, &service.UnconfirmedError{Reason: verdict.Reason}
	case s.Kind != domain.KindAnchor || s.ID != id:
		return nil, domain.Anchor{}, &service.UnconfirmedError{Reason: "the gateway answers another proof"}
	case !s.Found:
		return nil, domain.Anchor{}, &service.UnconfirmedError{Reason: "the departments sign that the ledger has no such anchor"}
	}
	var anchor domain.Anchor
	if err := domain.ParseCanonical([]byte(verdict.Statement.Record), &anchor); err != nil {
		return nil, domain.Anchor{}, &service.UnconfirmedError{Reason: err.Error()}
	}
	return bundle, anchor, nil
}

// confirm compares an anchor with what the departments sign.
func (g *gatewayAnchors) confirm(ctx context.Context, anchor domain.Anchor) error {
	_, signed, err := g.signed(ctx, anchor.Owner, anchor.Size)
	if err != nil {
		return err
	}
	told, err := domain.Canonical(anchor)
	if err != nil {
		return err
	}
	if want, err := domain.Canonical(signed); err != nil || string(told) != string(want) {
		return &service.UnconfirmedError{Reason: "the departments sign another anchor of this size than the gateway told"}
	}
	return nil
}
