// Package service holds the gateway's use cases, one type each. A use case
// checks what the caller may ask, calls the ports and answers in the words of
// package domain. It knows neither HTTP nor Fabric.
package service

import (
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Written is a record that a committed transaction wrote.
type Written[T any] struct {
	Value T
	domain.Position
}

// Listed is one page of records.
type Listed[T any] struct {
	Items []Written[T]
	Next  string // cursor of the next page; "" on the last
}

// Verdict is the overall answer to "is this certificate good?". The zero value
// is no verdict: it reads as [CannotCheck].
type Verdict string

// The verdicts this version gives. What is proposed, or was rejected, was never
// issued: the public does not find it.
const (
	CannotCheck Verdict = "cannot_check"  // 无法核验
	Valid       Verdict = "valid"         // 有效
	Suspended   Verdict = "suspended"     // 暂扣
	Revoked     Verdict = "revoked"       // 已撤销
	Withdrawn   Verdict = "withdrawn"     // 已吊销
	Cancelled   Verdict = "cancelled"     // 已注销
	Superseded  Verdict = "superseded"    // 已被替代
	Expired     Verdict = "expired"       // 已失效
	NotYetValid Verdict = "not_yet_valid" // 未到生效日
	NotFound    Verdict = "not_found"     // 未找到
)

// Issued reports whether the verdict is one on a certificate that was issued.
func (v Verdict) Issued() bool {
	switch v {
	case Valid, Suspended, Revoked, Withdrawn, Cancelled, Superseded, Expired, NotYetValid:
		return true
	case CannotCheck, NotFound:
	}
	return false
}

// Reasons why a certificate cannot be checked; stable codes, put into words by
// the page.
const (
	ReasonIndexBehind = "index_behind" // the gateway has not heard from the ledger lately
	ReasonStarting    = "starting"     // the gateway has not read the ledger up to now yet
	ReasonInternal    = "internal"
)

// Verification is what is known of a certificate reference. Certificate and Issuer
// are shared with other answers and must not be written to; the same pointers mean
// the same content.
type Verification struct {
	Verdict     Verdict
	Reason      string              // with CannotCheck: one of the Reason codes
	Ref         string              // as asked, already checked to be 32 hexadecimal digits
	Certificate *domain.Certificate // nil unless it was issued
	Issuer      *domain.Department  // nil unless it was issued
	Position    domain.Position     // of the certificate's last write
	AsOf        time.Time           // the moment the answer speaks about
	Height      uint64              // number of blocks it was read at
}

// Moment is what was the case at an earlier moment, by what the ledger says now.
type Moment struct {
	At      time.Time
	Verdict Verdict              // not_found and cannot_check as in the [Verification]
	Change  *domain.StatusChange // that had last taken effect; nil before the issue
}

// Then answers what was the case at an earlier moment.
func (v Verification) Then(at time.Time) Moment {
	m := Moment{At: at, Verdict: v.Verdict}
	if v.Certificate == nil {
		return m
	}
	m.Verdict = verdictOf(v.Certificate.StatusAt(at))
	if change, ok := v.Certificate.ChangeAt(at); ok {
		m.Change = &change
	}
	return m
}

// ParseMoment reads a moment that someone asks about: a time in the form of RFC
// 3339, or a day as in 2026-01-31, which means its end in Beijing time, or now
// while the day lasts. A moment after now is refused like an unreadable one, as
// [domain.Invalid]: nobody knows it.
func ParseMoment(s string, now time.Time) (time.Time, error) {
	refused := &domain.Error{Kind: domain.Invalid, Msg: "at: must be a past time as in 2026-01-31T08:00:00Z, or a past day as in 2026-01-31"}
	if day, err := time.ParseInLocation(time.DateOnly, s, beijing); err == nil {
		if day.After(now) {
			return time.Time{}, refused
		}
		if end := day.AddDate(0, 0, 1).Add(-time.Millisecond); end.Before(now) {
			return end.UTC(), nil
		}
		return now, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil || at.After(now) || at.Year() < 1 {
		return time.Time{}, refused
	}
	return at.UTC(), nil
}

// AccessReceipts is the answer to logged accesses: the promise that each record is
// durable at its index of the log.
type AccessReceipts struct {
	Receipts []AccessReceipt // in the order of the records
	Promise  []byte          // signed note over them all, see [ReceiptText]
}

// AccessReceipt says where the record of one access lies.
type AccessReceipt struct {
	CallID   string
	Index    uint64
	LeafHash []byte

	// AnchoredSize is the size of an anchor that covers the record, 0 when none
	// was waited for.
	AnchoredSize uint64
}
