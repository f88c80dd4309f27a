// Package service holds the gateway's use cases, one type each. A use case
// checks what the caller may ask, calls the ports and answers in the words of
// package domain. It knows neither HTTP nor Fabric.
package service

import (
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
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

// The verdicts this version gives.
const (
	CannotCheck Verdict = "cannot_check"  // 无法核验
	Valid       Verdict = "valid"         // 有效
	Revoked     Verdict = "revoked"       // 已撤销
	Expired     Verdict = "expired"       // 已失效
	NotYetValid Verdict = "not_yet_valid" // 未到生效日
	NotFound    Verdict = "not_found"     // 未找到
)

// Reasons why a certificate cannot be checked; stable codes, put into words by
// the page.
const (
	ReasonIndexBehind = "index_behind" // the gateway has not heard from the ledger lately
	ReasonStarting    = "starting"     // the gateway has not read the ledger up to now yet
	ReasonInternal    = "internal"
)

// Verification is what is known of a certificate reference.
type Verification struct {
	Verdict     Verdict
	Reason      string              // with CannotCheck: one of the Reason codes
	Ref         string              // as asked, already checked to be 32 hexadecimal digits
	Certificate *domain.Certificate // nil unless on the ledger
	Issuer      *domain.Department  // nil unless on the ledger
	Position    domain.Position     // of the certificate's last write
	AsOf        time.Time           // the moment the answer speaks about
	Height      uint64              // number of blocks it was read at
	Proof       *proof.Verdict      // nil until a proof was asked for
}

// AccessReceipt is the answer to one logged access: the promise that the record
// is durable at Index of the log.
type AccessReceipt struct {
	CallID   string
	Index    uint64
	LeafHash []byte
	Promise  []byte // signed note, see [ReceiptText]

	// AnchoredSize is the size of an anchor that covers the record, 0 when none
	// was waited for.
	AnchoredSize uint64
}
