package trail

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// Both sides of a call log it under the same call identifier. Reconciliation
// pairs the two records; a pair has one identifier, provider and consumer, so
// that no third department's record can disturb it.

// CallState is what the two logs say of a call.
type CallState string

// The states.
const (
	CallBoth          CallState = "both"          // both logged it, and agree
	CallProviderOnly  CallState = "provider_only" // the consumer's record is missing
	CallConsumerOnly  CallState = "consumer_only" // the provider's record is missing
	CallContradicting CallState = "contradicting" // both logged it and differ, or one logged it again
)

// Tolerance is how far apart the two sides may say that a call was.
const Tolerance = domain.ClockTolerance

// FieldRepeated is the field that contradicts when a side logged a call more than
// once; the first record that is no refusal is the one compared. Refusals before it
// repeat nothing: a log that refuses a release notes that, and the same call may
// then be presented again. Where there are only refusals, the last is compared.
const FieldRepeated = "repeated"

// Refused says whether a result is one with which a log notes that it refused a
// release itself.
func Refused(result string) bool { return strings.HasPrefix(result, "refused_") }

// ReconcileFilter narrows a reconciliation; zero fields do not filter.
type ReconcileFilter struct {
	Provider domain.DepartmentCode
	Consumer domain.DepartmentCode
	FromDay  string // first day
	ToDay    string // last day
	// Settled gives the other side time: a one-sided call made at this time or
	// later is waiting, not missing. Zero: none is waiting.
	Settled time.Time
}

// PairDay counts the calls of two departments on a day: the day of the provider's
// record, or of the consumer's where there is no other.
type PairDay struct {
	Provider      domain.DepartmentCode
	Consumer      domain.DepartmentCode
	Day           string
	Both          int64
	ProviderOnly  int64
	ConsumerOnly  int64
	Contradicting int64
	Waiting       int64 // one-sided and not settled; not among ProviderOnly and ConsumerOnly
}

// Reconciliation is one page of counts.
type Reconciliation struct {
	Items []PairDay
	Next  string
}

// Discrepancy is a call that only one side logged or on which the sides differ.
type Discrepancy struct {
	CallID   string
	Provider domain.DepartmentCode
	Consumer domain.DepartmentCode
	Day      string
	State    CallState
	Fields   []string // that contradict, as in the record's canonical form, and [FieldRepeated]; none when one-sided
	// The record of each side that is compared, nil where there is none.
	ProviderEntry *Entry
	ConsumerEntry *Entry
}

// Discrepancies is one page of discrepancies.
type Discrepancies struct {
	Items []Discrepancy
	Next  string
}

type fact struct{ field, value string }

// facts are the fields, besides the time, that both sides must agree on.
func facts(r domain.AccessRecord) []fact {
	items := slices.Clone(r.Items)
	slices.Sort(items)
	var list []byte
	for _, item := range items {
		list = appendText(list, item)
	}
	return []fact{
		{"grantId", r.GrantID},
		{"catalogCode", r.CatalogCode},
		{"catalogVersion", strconv.Itoa(r.CatalogVersion)},
		{"items", string(list)},
		{"purpose", r.Purpose},
		{"serviceItem", r.ServiceItem},
		{"recordCount", strconv.FormatInt(r.RecordCount, 10)},
		{"requestDigest", r.RequestDigest},
		{"responseDigest", r.ResponseDigest},
		{"result", r.Result},
	}
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// Facts is what both sides of a call must say alike, as bytes: they are equal
// for two records that contradict each other in nothing but the time.
func Facts(r domain.AccessRecord) []byte {
	b := make([]byte, 0, 512)
	for _, f := range facts(r) {
		b = appendText(b, f.value)
	}
	return b
}

// Apart says whether two sides' times of a call, in milliseconds, are too far
// apart.
func Apart(a, b int64) bool {
	return max(a, b)-min(a, b) > Tolerance.Milliseconds()
}

// Contradictions names the fields in which two records of one call contradict
// each other, in the record's order.
func Contradictions(provider, consumer domain.AccessRecord) []string {
	var fields []string
	other := facts(consumer)
	for i, f := range facts(provider) {
		if f != other[i] {
			fields = append(fields, f.field)
		}
	}
	if Apart(provider.At.UnixMilli(), consumer.At.UnixMilli()) {
		fields = append(fields, "at")
	}
	return fields
}

var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

// Day is the day of t.
func Day(t time.Time) string { return t.In(shanghai).Format(time.DateOnly) }
