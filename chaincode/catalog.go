package chaincode

import (
	"slices"

	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
)

// catalog holds the transactions about catalog entries 目录条目.
type catalog struct{ contractapi.Contract }

// Register records a resource; see [domain.RegisterCatalog].
func (*catalog) Register(t *transaction, arg string) (string, error) {
	return submitContent(t, arg, func(args domain.RegisterCatalogArgs) (any, error) {
		known, call, err := t.registered(args.Content)
		if err != nil {
			return nil, err
		}
		change, err := domain.RegisterCatalog(known.entries[0], known.taken[0], known.missing, call, args)
		if err != nil {
			return nil, err
		}
		return change.Entry, t.putCatalog(change)
	})
}

// Submit submits a draft; see [domain.SubmitCatalog].
func (*catalog) Submit(t *transaction, arg string) (string, error) {
	return changeEntry(t, arg, byCode, domain.SubmitCatalog)
}

// Review records a reviewer's decision; see [domain.ReviewCatalog].
func (*catalog) Review(t *transaction, arg string) (string, error) {
	return changeEntry(t, arg, func(a domain.ReviewCatalogArgs) string { return a.Code }, t.review)
}

// Publish submits an entry for publication; see [domain.PublishCatalog].
func (*catalog) Publish(t *transaction, arg string) (string, error) {
	return changeEntry(t, arg, byCode, domain.PublishCatalog)
}

// Change submits new content of a published entry; see [domain.ChangeCatalog].
func (*catalog) Change(t *transaction, arg string) (string, error) {
	return submitContent(t, arg, func(args domain.ChangeCatalogArgs) (any, error) {
		known, call, err := t.registered(args.Content)
		if err != nil {
			return nil, err
		}
		change, err := domain.ChangeCatalog(known.entries[0], known.taken[0], known.missing, call, args)
		if err != nil {
			return nil, err
		}
		return change.Entry, t.putCatalog(change)
	})
}

// Retire takes an entry offline or withdraws it; see [domain.RetireCatalog].
func (*catalog) Retire(t *transaction, arg string) (string, error) {
	return changeEntry(t, arg, func(a domain.RetireCatalogArgs) string { return a.Code }, domain.RetireCatalog)
}

// RequireUpdate starts the time limit of an update; see
// [domain.RequireCatalogUpdate].
func (*catalog) RequireUpdate(t *transaction, arg string) (string, error) {
	return changeEntry(t, arg, func(a domain.RequireUpdateArgs) string { return a.Code }, domain.RequireCatalogUpdate)
}

// MarkOverdue records that a review or an update is overdue; see
// [domain.MarkCatalogOverdue].
func (*catalog) MarkOverdue(t *transaction, arg string) (string, error) {
	return changeEntry(t, arg, byCode, domain.MarkCatalogOverdue)
}

// Get answers an entry.
func (*catalog) Get(t *transaction, arg string) (string, error) {
	return get[domain.CatalogEntry](t, arg, domain.KindCatalogEntry, byCode)
}

func byCode(a domain.CodeArgs) string { return a.Code }

// changeEntry runs a rule on one catalog entry.
func changeEntry[A argument](t *transaction, arg string, code func(A) string, rule func(*domain.CatalogEntry, domain.Call, A) (domain.CatalogChange, error)) (string, error) {
	return submit(t, arg, func(args A) (any, error) {
		entry, err := t.entry(code(args))
		if err != nil {
			return nil, err
		}
		call, err := t.call(clocksOf(entry)...)
		if err != nil {
			return nil, err
		}
		change, err := rule(entry, call, args)
		if err != nil {
			return nil, err
		}
		return change.Entry, t.putCatalog(change)
	})
}

// review is [domain.ReviewCatalog] with the version under review.
func (t *transaction) review(entry *domain.CatalogEntry, call domain.Call, args domain.ReviewCatalogArgs) (domain.CatalogChange, error) {
	var pending *domain.CatalogVersion
	if id, changing := pendingVersion(entry); changing {
		var err error
		if pending, err = load[domain.CatalogVersion](t, domain.KindCatalogVersion, id); err != nil {
			return domain.CatalogChange{}, err
		}
	}
	return domain.ReviewCatalog(entry, pending, call, args)
}

// pendingVersion is the id of the version under review while a change is.
func pendingVersion(entry *domain.CatalogEntry) (id string, changing bool) {
	if entry == nil || entry.Pending == 0 {
		return "", false
	}
	return domain.VersionID(entry.Content.Code, entry.Pending), true
}

// clocksOf are the time limits that may run on catalog entries, nil ones too.
func clocksOf(entries ...*domain.CatalogEntry) []*domain.Clock {
	var clocks []*domain.Clock
	for _, e := range entries {
		if e != nil {
			clocks = append(clocks, e.Review, e.Update)
		}
	}
	return clocks
}

// knownContent is what the ledger holds about contents that are to be recorded.
type knownContent struct {
	entries []*domain.CatalogEntry // under the same codes, in order
	taken   []string               // by which codes the caller's department has the same names, in order; "" where it has not
	missing []string               // related codes that are neither recorded nor among the contents
}

// registered reads what the ledger holds about contents, with one message. The
// contents are not validated yet: where there are too many of something, the rule
// refuses them and the records do not matter.
func (t *transaction) registered(contents ...domain.CatalogContent) (known knownContent, _ domain.Call, err error) {
	var codes, names, related []string
	for _, c := range contents {
		codes = append(codes, c.Code)
		names = append(names, domain.CatalogNameID(t.who.Department, c.Name))
	}
	for _, c := range contents {
		if len(c.RelatedCodes) > domain.MaxRelated {
			continue
		}
		for _, code := range c.RelatedCodes {
			if !slices.Contains(codes, code) && !slices.Contains(related, code) {
				related = append(related, code)
				t.want(domain.KindCatalogEntry, code)
			}
		}
	}
	for _, name := range names {
		t.want(domain.KindCatalogName, name)
	}
	if known.entries, err = t.entries(codes); err != nil {
		return known, domain.Call{}, err
	}
	taken, err := loadAll[string](t, domain.KindCatalogName, names)
	if err != nil {
		return known, domain.Call{}, err
	}
	known.taken = make([]string, len(taken))
	for i, code := range taken {
		if code != nil {
			known.taken[i] = *code
		}
	}
	for _, code := range related {
		value, err := t.read(domain.KindCatalogEntry, code)
		if err != nil {
			return known, domain.Call{}, err
		}
		if value == nil {
			known.missing = append(known.missing, code)
		}
	}
	call, err := t.call(clocksOf(known.entries...)...)
	return known, call, err
}

// putCatalog writes changes of different catalog entries. Their records are the
// provider's own: they do not change without its peer. Names may: they say nothing
// that the entries do not say, and who could take one back could have taken it first.
func (t *transaction) putCatalog(changes ...domain.CatalogChange) error {
	for _, change := range changes {
		if err := t.putEntry(change); err != nil {
			return err
		}
	}
	events, err := domain.CatalogEvents(domain.Call{Who: t.who, Tx: t.tx}, changes...)
	if err != nil {
		return err
	}
	for _, event := range events {
		own, err := t.endorsedBy(event.Provider)
		if err != nil {
			return err
		}
		if err := t.create(domain.KindCatalogEvent, domain.CatalogEventID(event.TxID, event.Provider), event.Stored(), own); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) putEntry(change domain.CatalogChange) error {
	entry := change.Entry
	own, err := t.endorsedBy(entry.Provider)
	if err != nil {
		return err
	}
	code := entry.Content.Code
	if entry.Seq == 1 {
		err = t.create(domain.KindCatalogEntry, code, entry.Stored(), own)
	} else {
		err = t.put(domain.KindCatalogEntry, code, entry.Stored())
	}
	if err != nil {
		return err
	}
	for _, v := range change.Versions {
		if err := t.create(domain.KindCatalogVersion, domain.VersionID(code, v.Version), v, own); err != nil {
			return err
		}
	}
	if change.FreedName != "" {
		if err := t.free(domain.KindCatalogName, change.FreedName); err != nil {
			return err
		}
	}
	if change.TakenName == "" {
		return nil
	}
	return t.put(domain.KindCatalogName, change.TakenName, code)
}
