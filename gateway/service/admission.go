package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

const (
	// grantFresh is how old what is known of a grant may be when a release is
	// admitted under it: the longest that a revoked grant goes on being used.
	// What the ledger is asked instead of the index takes at most grantReadWait
	// and serves for grantReadFor.
	grantFresh    = 2 * time.Second
	grantReadWait = 1500 * time.Millisecond
	grantReadFor  = grantFresh - grantReadWait

	// headPause is how long the own peer is given to take a block that others
	// have.
	headPause = 50 * time.Millisecond

	// gradeAnchored is the data grade (数据分级) from which on releases are
	// acknowledged only once they are anchored.
	gradeAnchored = 3

	// noNonce is for statements that nobody signs.
	noNonce = "00000000000000000000000000000000"

	// knownVersions bounds the catalog versions whose grades are kept.
	knownVersions = 1024
)

// grants reads the grants that the fresh records of b name, and writes into each
// record which step of its grant it is decided on. While the index is not known
// to be current they come from the ledger, or not at all.
func (a *Access) grants(ctx context.Context, b *batch) error {
	read := a.indexedGrants.get
	if age := a.clock().Sub(a.heard()); age > grantFresh {
		read = a.ledgerGrants.get
	}
	b.grants = make(map[string]*domain.Grant)
	for _, i := range b.fresh {
		r := &b.records[i]
		grant, ok := b.grants[r.GrantID]
		if !ok {
			var err error
			if grant, err = read(ctx, r.GrantID); err != nil {
				return err
			}
			b.grants[r.GrantID] = grant
		}
		if grant != nil {
			r.GrantSeq = grant.Seq
		}
	}
	return nil
}

// indexedGrants reads grants from the index, each once while no block comes in: small
// batches under one grant come hundreds of times a second.
type indexedGrants struct {
	index index.Index

	mu    sync.Mutex
	asOf  uint64 // blocks that the index had when the first of known was read
	known map[string]*domain.Grant
}

func (g *indexedGrants) get(ctx context.Context, id string) (*domain.Grant, error) {
	blocks, err := g.index.NextBlock(ctx) // before the grant is read: it is as of then or later
	if err != nil {
		return nil, fmt.Errorf("read grant %s: %w", id, err)
	}
	g.mu.Lock()
	grant, ok := g.known[id]
	ok = ok && g.asOf == blocks
	g.mu.Unlock()
	if ok {
		return grant, nil
	}
	if grant, err = find[domain.Grant](ctx, g.index, domain.KindGrant, id); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asOf < blocks || g.known == nil {
		g.asOf, g.known = blocks, make(map[string]*domain.Grant)
	}
	if g.asOf == blocks && grant != nil { // of those that are not there anybody could make many
		g.known[id] = grant
	}
	return grant, nil
}

// ledgerGrants reads grants from the ledger, each at most once in grantReadFor.
type ledgerGrants struct {
	department domain.DepartmentCode
	ledger     ledger.Ledger
	clock      func() time.Time

	flights singleflight.Group
	mu      sync.Mutex
	known   map[string]ledgerGrant
}

// ledgerGrant is a grant, nil for none, as it stood at a moment or later.
type ledgerGrant struct {
	grant *domain.Grant
	at    time.Time
}

func (l *ledgerGrants) get(ctx context.Context, id string) (*domain.Grant, error) {
	if g, ok := l.recent(id); ok {
		return g, nil
	}
	// The flight is shared: one caller that leaves must not end it.
	flight := l.flights.DoChan(id, func() (any, error) { return l.read(context.WithoutCancel(ctx), id) })
	select {
	case r := <-flight:
		if r.Err != nil {
			return nil, &ledger.UnavailableError{Err: fmt.Errorf("the index is behind and grant %s cannot be read from the ledger: %w", id, r.Err)}
		}
		return r.Val.(*domain.Grant), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("read grant %s: %w", id, ctx.Err())
	}
}

func (l *ledgerGrants) recent(id string) (*domain.Grant, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, ok := l.known[id]
	if age := l.clock().Sub(g.at); !ok || age < 0 || age > grantReadFor {
		return nil, false
	}
	return g.grant, true
}

// read asks the own peer, once it has all blocks that enough departments have: a
// peer that is cut off would answer for the past.
func (l *ledgerGrants) read(ctx context.Context, id string) (*domain.Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, grantReadWait)
	defer cancel()
	at := l.clock()
	if err := l.awaitHead(ctx); err != nil {
		return nil, err
	}
	grant, err := evaluate[domain.Grant](ctx, l.ledger, "sharing:GetGrant", domain.IDArgs{ID: id})
	if err != nil && domain.KindOf(err) != domain.NotFound {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, g := range l.known {
		if at.Sub(g.at) > grantReadFor {
			delete(l.known, id)
		}
	}
	l.known[id] = ledgerGrant{grant, at}
	return grant, nil
}

func (l *ledgerGrants) awaitHead(ctx context.Context) error {
	for {
		heights := l.ledger.Heights(ctx)
		head, _, err := agreedHead(heights)
		if err != nil {
			return err
		}
		own := slices.IndexFunc(heights, func(h ledger.DepartmentHeight) bool { return h.Department == l.department })
		if own < 0 || heights[own].Err != nil {
			return errors.New("the own peer does not tell its height")
		}
		if heights[own].Height >= head {
			return nil
		}
		if !pause(ctx, headPause) {
			return fmt.Errorf("the own peer has %d of %d blocks", heights[own].Height, head)
		}
	}
}

// evaluate answers what a transaction that only reads answers.
func evaluate[T any](ctx context.Context, l ledger.Ledger, transaction string, args any) (*T, error) {
	argument, err := domain.Canonical(args)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", transaction, err)
	}
	result, err := l.Evaluate(ctx, domain.RoleGateway, transaction, argument)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", transaction, err)
	}
	value := new(T)
	if err := domain.ParseCanonical(result, value); err != nil {
		return nil, fmt.Errorf("%s: the answer is unreadable: %v", transaction, err) //nolint:errorlint // drops the kind
	}
	return value, nil
}

// grades knows the data grades of catalog versions, which never change.
type grades struct {
	index  index.Index
	ledger ledger.Ledger
	known  *lru.Cache[string, versionGrades]
}

// versionGrades are the grades of one catalog version: of the entry as a whole,
// and of its items.
type versionGrades struct {
	entry int
	items map[string]int
}

func newGrades(ix index.Index, l ledger.Ledger) *grades {
	known, err := lru.New[string, versionGrades](knownVersions)
	if err != nil {
		panic(err) // a size that is not above 0
	}
	return &grades{index: ix, ledger: l, known: known}
}

// of answers the highest grade of items of a catalog version. An item that the
// version does not list has the grade of the whole.
func (g *grades) of(ctx context.Context, code string, version int, items []string) (int, error) {
	id := domain.VersionID(code, version)
	v, ok := g.known.Get(id)
	if !ok {
		content, err := g.read(ctx, code, version)
		if err != nil {
			return 0, err
		}
		v = versionGrades{entry: content.Level, items: make(map[string]int, len(content.Items))}
		for _, item := range content.Items {
			v.items[item.Name] = item.Level
		}
		g.known.Add(id, v)
	}
	highest := 0
	for _, item := range items {
		grade, ok := v.items[item]
		if !ok {
			grade = v.entry
		}
		highest = max(highest, grade)
	}
	return highest, nil
}

// read reads a version of a catalog entry from the index, and one that it does not
// have yet from the ledger. The entry itself holds the version in force.
func (g *grades) read(ctx context.Context, code string, version int) (domain.CatalogContent, error) {
	id := domain.VersionID(code, version)
	entry, err := find[domain.CatalogEntry](ctx, g.index, domain.KindCatalogEntry, code)
	if err != nil {
		return domain.CatalogContent{}, err
	}
	if entry != nil && entry.Version == version {
		return entry.Content, nil
	}
	indexed, err := find[domain.CatalogVersion](ctx, g.index, domain.KindCatalogVersion, id)
	if err != nil {
		return domain.CatalogContent{}, err
	}
	if indexed != nil {
		return indexed.Content, nil
	}
	ctx, cancel := context.WithTimeout(ctx, grantReadWait)
	defer cancel()
	// The index is behind: what the ledger says of the entry comes first here, too.
	if entry, err = attested[domain.CatalogEntry](ctx, g.ledger, domain.KindCatalogEntry, code); err == nil && entry.Version == version {
		return entry.Content, nil
	}
	recorded, err := attested[domain.CatalogVersion](ctx, g.ledger, domain.KindCatalogVersion, id)
	if err != nil {
		return domain.CatalogContent{}, &ledger.UnavailableError{Err: fmt.Errorf("the grades of catalog version %s cannot be read: %w", id, err)}
	}
	return recorded.Content, nil
}

// attested reads a record from the ledger itself, by the statement that
// departments sign, unsigned.
func attested[T any](ctx context.Context, l ledger.Ledger, kind domain.RecordKind, id string) (*T, error) {
	statement, err := evaluate[domain.Statement](ctx, l, "evidence:Attest", domain.AttestArgs{Kind: kind, ID: id, Nonce: noNonce})
	if err != nil {
		return nil, err
	}
	if !statement.Found {
		return nil, fmt.Errorf("the ledger has no %s %s", kind, id)
	}
	value := new(T)
	if err := domain.ParseCanonical([]byte(statement.Record), value); err != nil {
		return nil, fmt.Errorf("%s %s on the ledger is unreadable: %v", kind, id, err) //nolint:errorlint // drops the kind
	}
	return value, nil
}
