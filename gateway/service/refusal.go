package service

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// Refusal says why one record of a batch of access records was refused.
type Refusal struct {
	Record int           // its place in the batch, from 0
	Err    *domain.Error // the rule it breaks
}

// RefusedError says that a batch of access records was refused: none of it was
// logged as presented. It is a [*domain.Error] to [errors.As].
type RefusedError struct {
	Refusals []Refusal // in order of place, at least one
}

// refusal is a [Refusal] with what the grant had been used at the time.
type refusal struct {
	record int
	err    *domain.Error
	used   domain.Used
}

// namedRefusals bounds how many refusals an error's text names.
const namedRefusals = 20

func (e *RefusedError) Error() string { return e.summary().Error() }

// Unwrap returns all refusals as one error of the kind of the first.
func (e *RefusedError) Unwrap() error { return e.summary() }

func (e *RefusedError) summary() *domain.Error {
	var parts []string
	for i, r := range e.Refusals {
		if i == namedRefusals {
			parts = append(parts, fmt.Sprintf("and %d more", len(e.Refusals)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("record %d: %s", r.Record, r.Err.Msg))
	}
	return &domain.Error{Kind: e.Refusals[0].Err.Kind, Msg: strings.Join(parts, "; ")}
}

// Results of refusals that no single field of a record explains.
const (
	refusedSuspended = "refused_suspended"
	refusedRevoked   = "refused_revoked"
	refusedQuota     = "refused_quota"
	refusedFrequency = "refused_frequency"
	refusedBacklog   = "refused_backlog"
)

// ownRefusal reports whether a result is one that this gateway writes itself: of
// a call that may be presented again.
func ownRefusal(result string) bool {
	switch result {
	case refusedSuspended, refusedRevoked, refusedQuota, refusedFrequency, refusedBacklog:
		return true
	}
	return slices.ContainsFunc(refusalRules, func(r refusalRule) bool { return r.result == result })
}

// refusalRule is a rule that a release can break by itself and how to carry what
// it judges from the record presented into one that keeps all rules.
type refusalRule struct {
	result string
	carry  func(kept *domain.AccessRecord, presented domain.AccessRecord)
}

var refusalRules = []refusalRule{
	{"refused_period", func(k *domain.AccessRecord, p domain.AccessRecord) { k.At = p.At }},
	{"refused_catalog", func(k *domain.AccessRecord, p domain.AccessRecord) {
		k.CatalogCode, k.CatalogVersion = p.CatalogCode, p.CatalogVersion
	}},
	{"refused_items", func(k *domain.AccessRecord, p domain.AccessRecord) { k.Items = p.Items }},
	{"refused_purpose", func(k *domain.AccessRecord, p domain.AccessRecord) { k.Purpose = p.Purpose }},
	{"refused_service_item", func(k *domain.AccessRecord, p domain.AccessRecord) { k.ServiceItem = p.ServiceItem }},
}

// refusalResult answers the result code of the record of a refusal: the state
// of a grant that is not in use, the first rule that the presented record breaks
// by itself, or else the frequency or the quota.
func refusalResult(grant domain.Grant, presented domain.AccessRecord, used domain.Used) string {
	switch grant.State {
	case domain.GrantSuspended:
		return refusedSuspended
	case domain.GrantRevoked:
		return refusedRevoked
	case domain.GrantActive, domain.GrantPending, domain.GrantExpired: // the latter two are never stored
	}
	from := grant.Period.From
	if from.Before(grant.GrantedAt) {
		from = grant.GrantedAt
	}
	kept := domain.AccessRecord{
		GrantID: grant.ID, Provider: grant.Provider, Consumer: grant.Consumer,
		CatalogCode: grant.CatalogCode, CatalogVersion: grant.CatalogVersion, Items: grant.Items,
		Purpose: grant.Purpose, ServiceItem: grant.ServiceItem, At: from, Result: domain.ResultOK,
	}
	for _, rule := range refusalRules {
		probe := kept
		rule.carry(&probe, presented)
		if domain.Admit(grant, probe, domain.Used{}) != nil {
			return rule.result
		}
	}
	used.LastMinute = 0
	if domain.Admit(grant, kept, used) == nil {
		return refusedFrequency
	}
	return refusedQuota
}
