package indextest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// SmallContent answers the content of the nth of many small catalog entries: that of
// the benchmark of the whole system. Their names have no order, as if few resources of a
// catalog were called alike.
func SmallContent(n int) domain.CatalogContent {
	at := uint64(n) * 0x9E3779B97F4A7C15 >> 32 //nolint:gosec // to mix them
	subject, form := subjects[at%uint64(len(subjects))], forms[at/64%uint64(len(forms))]
	return domain.CatalogContent{
		Code: fmt.Sprintf("306009/%010d", n), Name: fmt.Sprintf("%s%05d%s %d", subject, at%100_000, form, n), Abstract: "用于基准测试的目录条目。",
		ProviderUSCC: "11990000A0000002XT", Classification: "测试", Format: "api",
		Items:     []domain.CatalogItem{{Name: "status", Type: "C", Level: 1, ShareType: domain.Unconditional}},
		ShareType: domain.Unconditional, LegalBasis: []string{}, ShareMode: "platform_api", OpenType: domain.NotOpen, UpdateCycle: "daily",
		RelatedCodes: []string{}, DutyRef: "benchmark", SystemRef: "benchmark", RegionCode: "370200", Level: 1, PersonalData: "none",
	}
}

// StoredBatch is the transaction by which a department registers contents, as its
// block carries it: entries, names and their event as their keys hold them, in order
// of their keys. at is its time; the review is due ten days later.
func StoredBatch(provider domain.DepartmentCode, at time.Time, contents ...domain.CatalogContent) domain.Transaction {
	id := domain.TxID(digest("batch of %s", contents[0].Code))
	event := domain.CatalogEvent{
		Meta:     domain.Meta{Department: provider, Role: domain.RoleOperator, TxID: id, TxTime: at},
		Provider: provider, Reviewer: domain.SideLead, Event: "submit",
		Review: &domain.Clock{Event: domain.DeadlineCatalogReview, Calendars: []domain.CalendarRef{}, Limit: 10, StartedAt: at, DueAt: at.Truncate(24*time.Hour).AddDate(0, 0, 10)},
	}
	var writes []any
	for _, c := range contents {
		event.Entries = append(event.Entries, domain.CatalogStep{Code: c.Code, Seq: 1, State: domain.CatalogRegPending, Version: 1, LastVersion: 1})
		writes = append(writes,
			domain.KeyOf(domain.KindCatalogEntry, c.Code), domain.StoredCatalogEntry{TxID: id, Provider: provider, Content: c},
			domain.KeyOf(domain.KindCatalogName, domain.CatalogNameID(provider, c.Name)), c.Code)
	}
	t := Put(append(writes, domain.KeyOf(domain.KindCatalogEvent, domain.CatalogEventID(id, provider)), event.Stored())...)
	slices.SortFunc(t.Writes, func(a, b domain.Write) int { return strings.Compare(a.Key, b.Key) })
	t.ID, t.Time, t.Contract, t.Name, t.Arguments = id, at, "catalog", "RegisterBatch", []string{`{"argumentDigest":"` + digest("argument %s", id) + `"}`}
	return t
}
