package chaincode

import (
	"fmt"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// RegisterBatch records many resources; see [domain.RegisterCatalogBatch].
func (*catalog) RegisterBatch(t *transaction, arg string) (string, error) {
	return submitContent(t, arg, func(args domain.RegisterBatchArgs) (any, error) {
		if len(args.Contents) > domain.MaxBatch {
			return nil, args.Validate()
		}
		known, call, err := t.registered(args.Contents...)
		if err != nil {
			return nil, err
		}
		changes, err := domain.RegisterCatalogBatch(known.entries, known.taken, known.missing, call, args)
		if err != nil {
			return nil, err
		}
		return t.putBatch(changes)
	})
}

// ReviewBatch records one decision on many entries; see [domain.ReviewCatalog].
func (*catalog) ReviewBatch(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.ReviewBatchArgs) (any, error) {
		return t.changeEntries(args.Codes, func(code string, entry *domain.CatalogEntry, call domain.Call) (domain.CatalogChange, error) {
			return t.review(entry, call, domain.ReviewCatalogArgs{Code: code, Decision: args.Decision, Opinion: args.Opinion})
		})
	})
}

// PublishBatch submits many entries for publication; see
// [domain.PublishCatalog].
func (*catalog) PublishBatch(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.CodesArgs) (any, error) {
		return t.changeEntries(args.Codes, func(code string, entry *domain.CatalogEntry, call domain.Call) (domain.CatalogChange, error) {
			return domain.PublishCatalog(entry, call, domain.CodeArgs{Code: code})
		})
	})
}

// changeEntries runs a rule on many entries. All of them change, or none: a
// refusal names every entry that stands in the way.
func (t *transaction) changeEntries(codes []string, rule func(string, *domain.CatalogEntry, domain.Call) (domain.CatalogChange, error)) (any, error) {
	entries, err := t.entries(codes)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if id, changing := pendingVersion(entry); changing {
			t.want(domain.KindCatalogVersion, id)
		}
	}
	call, err := t.call(clocksOf(entries...)...)
	if err != nil {
		return nil, err
	}
	changes := make([]domain.CatalogChange, len(codes))
	var found domain.Refusals
	for i, code := range codes {
		if changes[i], err = rule(code, entries[i], call); err != nil && !found.Add(fmt.Sprintf("codes[%d]", i), err) {
			return nil, err
		}
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	return t.putBatch(changes)
}

// putBatch writes changes of different entries and sums them up.
func (t *transaction) putBatch(changes []domain.CatalogChange) (any, error) {
	result := domain.BatchResult{State: changes[0].Entry.State}
	var digests []string
	if err := t.putCatalog(changes...); err != nil {
		return nil, err
	}
	for _, change := range changes {
		if change.Entry.State != result.State {
			result.State = ""
		}
		result.Codes = append(result.Codes, change.Entry.Content.Code)
		digests = append(digests, change.Entry.Digest)
	}
	result.Digest = domain.Digest([]byte(strings.Join(digests, "\n")))
	return result, nil
}
