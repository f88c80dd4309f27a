package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/gateway/statuslist"
)

// StatusPurpose says what the bits of a status list mean.
type StatusPurpose string

// The purposes. A certificate whose bit is 1 is not valid, for good or for the time
// being. What was replaced or rejected never becomes valid again; what is proposed
// may still become so.
const (
	RevocationList StatusPurpose = "revocation"
	SuspensionList StatusPurpose = "suspension"
)

// listedStatuses are the stored statuses whose bit is 1.
var listedStatuses = map[StatusPurpose][]domain.CertificateStatus{
	RevocationList: {
		domain.CertificateRevoked, domain.CertificateWithdrawn, domain.CertificateCancelled,
		domain.CertificateSuperseded, domain.CertificateRejected,
	},
	SuspensionList: {domain.CertificateSuspended, domain.CertificateProposed},
}

const (
	// StatusListFor is how long a status list speaks for the present. Who keeps one
	// longer would take a certificate that was revoked since for a valid one.
	StatusListFor = domain.StatementLife

	// listReadFor is how long a list is served after it was read although blocks
	// came since: while the ledger is written to, one list costs one read of the
	// index in that time, however many download it.
	listReadFor = time.Second

	// maxLists bounds the lists in memory, of about 20 KB each.
	maxLists = 256
)

// StatusList is one status list of a department.
type StatusList struct {
	Issuer  domain.DepartmentCode
	Purpose StatusPurpose
	List    int       // status indexes from List × [domain.StatusListLength] on
	Encoded string    // encodedList of W3C Bitstring Status List
	AsOf    time.Time // the moment it speaks about
	Height  uint64    // number of blocks it was read at
}

// statusLists are the lists that were read. The zero value is ready for use.
type statusLists struct {
	mu    sync.Mutex
	lists map[string]StatusList
	reads singleflight.Group
}

// StatusList answers a list of an issuer's status bits, so that whoever downloads
// it can check a certificate and tell nobody which. A list that no certificate has
// a bit in yet is a list of zeros.
//
// A department that is not registered is [domain.NotFound], another purpose or
// number [domain.Invalid]. A gateway that has not heard from the ledger lately
// answers no list but a [*ledger.UnavailableError].
func (v *Verifier) StatusList(ctx context.Context, issuer domain.DepartmentCode, purpose StatusPurpose, list int) (StatusList, error) {
	now := v.clock().UTC()
	if heard := v.heard(); heard.IsZero() || !fresh(heard, now) {
		return StatusList{}, &ledger.UnavailableError{Err: errors.New("this gateway has not heard from the ledger lately")}
	}
	if listedStatuses[purpose] == nil || list < 0 || list > domain.MaxStatusIndex/domain.StatusListLength {
		return StatusList{}, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("status list: the purpose must be revocation or suspension, the number 0 to %d", domain.MaxStatusIndex/domain.StatusListLength)}
	}
	if _, err := get[domain.Department](ctx, v.index, domain.KindDepartment, string(issuer)); err != nil {
		return StatusList{}, err
	}
	height, err := v.index.NextBlock(ctx)
	if err != nil {
		return StatusList{}, fmt.Errorf("read the index's height: %w", err)
	}
	key := fmt.Sprintf("%s/%s/%d", issuer, purpose, list)
	v.lists.mu.Lock()
	kept, ok := v.lists.lists[key]
	v.lists.mu.Unlock()
	if age := now.Sub(kept.AsOf); ok && age >= 0 && (kept.Height == height || age < listReadFor) {
		if kept.Height == height { // nothing was written since: it speaks of now
			kept.AsOf = now
		}
		return kept, nil
	}
	result := v.lists.reads.DoChan(fmt.Sprintf("%s@%d", key, height), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		from := list * domain.StatusListLength
		places, err := v.index.StatusIndexes(ctx, issuer, listedStatuses[purpose], from, from+domain.StatusListLength)
		if err != nil {
			return nil, fmt.Errorf("read status list %s: %w", key, err)
		}
		for i := range places {
			places[i] -= from
		}
		encoded, err := statuslist.Encode(places)
		if err != nil {
			return nil, err
		}
		read := StatusList{Issuer: issuer, Purpose: purpose, List: list, Encoded: encoded, AsOf: now, Height: height}
		v.lists.keep(key, read)
		return read, nil
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return StatusList{}, r.Err
		}
		return r.Val.(StatusList), nil
	case <-ctx.Done():
		return StatusList{}, ctx.Err()
	}
}

func (l *statusLists) keep(key string, read StatusList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lists == nil || len(l.lists) >= maxLists {
		l.lists = make(map[string]StatusList) // rarely: departments have few lists
	}
	l.lists[key] = read
}
