// Package credentialtest makes issuers for tests and says what a
// [credential.Store] must do.
package credentialtest

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// IssuingKey returns certificate and key of a department's issuing key, in PEM.
// They are always the same.
func IssuingKey(c *prooftest.Consortium, department domain.DepartmentCode) (certPEM, keyPEM []byte) {
	return PEM(c.Department(department).Authority.Issue("issuing", credential.IssuingUnit))
}

// PEM returns certificate and key of an identity.
func PEM(i *prooftest.Identity) (certPEM, keyPEM []byte) {
	der, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		panic(err)
	}
	return i.PEM(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// NewIssuer returns the issuer of a department of the consortium.
func NewIssuer(c *prooftest.Consortium, department domain.DepartmentCode) *credential.Issuer {
	cert, key := IssuingKey(c, department)
	issuer, err := credential.NewIssuer(c.Anchors(), department, cert, key)
	if err != nil {
		panic(err)
	}
	return issuer
}

// Store is a [credential.Store] in memory. Its zero value is empty.
type Store struct {
	// Fail, if not nil, is asked before every call and its error answered.
	Fail func(operation string) error

	mu      sync.Mutex
	records map[string]credential.Record
}

var _ credential.Store = (*Store)(nil)

func (s *Store) enter(ctx context.Context, operation string) error {
	if s.Fail != nil {
		if err := s.Fail(operation); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Put is [credential.Store].
func (s *Store) Put(ctx context.Context, records ...credential.Record) error {
	if err := s.enter(ctx, "put"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := make(map[string]credential.Record)
	for _, r := range records {
		for _, kept := range []map[string]credential.Record{s.records, fresh} {
			if old, ok := kept[r.Ref]; ok && old != r {
				return &domain.Error{Kind: domain.Exists, Msg: "another credential of certificate " + r.Ref + " is kept already"}
			}
		}
		fresh[r.Ref] = r
	}
	if s.records == nil {
		s.records = make(map[string]credential.Record)
	}
	for ref, r := range fresh {
		s.records[ref] = r
	}
	return nil
}

// Get is [credential.Store].
func (s *Store) Get(ctx context.Context, ref string) (credential.Record, error) {
	if err := s.enter(ctx, "get"); err != nil {
		return credential.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[ref]
	if !ok {
		return credential.Record{}, &domain.Error{Kind: domain.NotFound, Msg: "no credential of certificate " + ref + " is kept"}
	}
	return r, nil
}

// Delete is [credential.Store].
func (s *Store) Delete(ctx context.Context, refs ...string) error {
	if err := s.enter(ctx, "delete"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range refs {
		delete(s.records, ref)
	}
	return nil
}

// Len returns how many records are kept.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records)
}

// Record returns a record to keep, always the same for a number.
func Record(n int) credential.Record {
	ref := fmt.Sprintf("%032x", n)
	return credential.Record{Ref: ref, Credential: "header.payload." + ref + "~", CheckCode: fmt.Sprintf("CODE%06d", n), Sealed: fmt.Sprintf("\x00\xff%d", n)}
}

// Run runs the conformance suite of a store. open answers an empty one and sees
// to its being closed.
func Run(t *testing.T, open func(t *testing.T) credential.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, credential.Store)
	}{
		{"put and get", testPutGet},
		{"all or none", testAllOrNone},
		{"delete", testDelete},
		{"concurrent use", testConcurrent},
		{"cancelled", testCancelled},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func wantKept(t *testing.T, s credential.Store, want credential.Record) {
	t.Helper()
	got, err := s.Get(t.Context(), want.Ref)
	if err != nil {
		t.Fatalf("Get %s: %v", want.Ref, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Get %s (-want +got):\n%s", want.Ref, diff)
	}
}

func wantAbsent(t *testing.T, s credential.Store, ref string) {
	t.Helper()
	if got, err := s.Get(t.Context(), ref); domain.KindOf(err) != domain.NotFound || got != (credential.Record{}) {
		t.Errorf("Get %s = %v, %v, want not_found", ref, got, err)
	}
}

func testPutGet(t *testing.T, s credential.Store) {
	wantAbsent(t, s, Record(1).Ref)
	var many []credential.Record
	for n := range 500 {
		many = append(many, Record(n))
	}
	for _, put := range [][]credential.Record{nil, many[:1], many, many[7:9]} {
		if err := s.Put(t.Context(), put...); err != nil {
			t.Fatalf("Put %d records: %v", len(put), err)
		}
	}
	for _, r := range many {
		wantKept(t, s, r)
	}
}

func testAllOrNone(t *testing.T, s credential.Store) {
	if err := s.Put(t.Context(), Record(1)); err != nil {
		t.Fatal(err)
	}
	other := Record(1)
	other.Credential = "other.payload.signature~"
	err := s.Put(t.Context(), Record(2), other, Record(3))
	if domain.KindOf(err) != domain.Exists {
		t.Fatalf("Put of another credential: %v, want exists", err)
	}
	if strings.Contains(err.Error(), "payload") || strings.Contains(err.Error(), "CODE") {
		t.Errorf("the error tells what is kept: %v", err)
	}
	wantKept(t, s, Record(1))
	wantAbsent(t, s, Record(2).Ref)
	wantAbsent(t, s, Record(3).Ref)
	twin := Record(4)
	twin.CheckCode = "OTHER"
	resealed := Record(4)
	resealed.Sealed = ""
	for _, second := range []credential.Record{twin, resealed} {
		if err := s.Put(t.Context(), Record(4), second); domain.KindOf(err) != domain.Exists {
			t.Errorf("Put of two under one reference: %v, want exists", err)
		}
	}
	wantAbsent(t, s, Record(4).Ref)
}

func testDelete(t *testing.T, s credential.Store) {
	if err := s.Put(t.Context(), Record(1), Record(2), Record(3)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Delete(t.Context(), Record(1).Ref, Record(9).Ref, Record(3).Ref); err != nil {
			t.Fatal(err)
		}
		wantAbsent(t, s, Record(1).Ref)
		wantKept(t, s, Record(2))
		wantAbsent(t, s, Record(3).Ref)
	}
	if err := s.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Put(t.Context(), Record(1)); err != nil {
		t.Fatal(err)
	}
	wantKept(t, s, Record(1))
}

func testConcurrent(t *testing.T, s credential.Store) {
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range 25 {
				r, gone := Record(worker*100+n), Record(worker*100+n+50)
				if err := errors.Join(s.Put(t.Context(), r, gone), s.Delete(t.Context(), gone.Ref)); err != nil {
					t.Errorf("worker %d: %v", worker, err)
				}
				if got, err := s.Get(t.Context(), r.Ref); err != nil || got != r {
					t.Errorf("worker %d: Get = %v, %v", worker, got.Ref, err)
				}
			}
		})
	}
	wg.Wait()
}

func testCancelled(t *testing.T, s credential.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, Record(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	if _, err := s.Get(ctx, Record(1).Ref); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Delete(ctx, Record(1).Ref); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete: %v", err)
	}
	wantAbsent(t, s, Record(1).Ref)
}
