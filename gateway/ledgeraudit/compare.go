package ledgeraudit

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/zhenglian/zhenglian/domain"
)

// Copy is a department's copy of the ledger.
type Copy struct {
	Department domain.DepartmentCode
	Source     Source
}

// Head is how far a department's copy goes.
type Head struct {
	Department domain.DepartmentCode `json:"department"`
	Height     uint64                `json:"height"`          // 0 when it did not answer
	Hash       string                `json:"hash,omitempty"`  // of its last block that the audit reached
	Error      string                `json:"error,omitempty"` // why it did not answer
}

// Compare compares the other departments' copies with the one that chain has
// checked, up to the last block checked. It answers the heights, the audited
// department's first, and findings of rule fork or state at the first block that
// differs. Since each block names the one before, and each commit hash covers the
// one before, equal last blocks are equal ledgers; where they differ, the first
// difference is searched for by halves.
func (c *Chain) Compare(ctx context.Context, audited Copy, others []Copy) ([]Head, []Finding, error) {
	var heads []Head
	var found []Finding
	for i, other := range slices.Concat([]Copy{audited}, others) {
		head := Head{Department: other.Department}
		height, err := other.Source.Height(ctx)
		if err == nil {
			head.Height = height
			if n := min(height, c.state.Next); n > 0 {
				var last *common.Block
				if last, err = other.Source.Block(ctx, n-1); err == nil {
					head.Hash = hex.EncodeToString(Hash(last))
					if i > 0 {
						var f *Finding
						if f, err = c.difference(ctx, audited, other, n); f != nil {
							found = append(found, *f)
						}
					}
				}
			}
		}
		if ctx.Err() != nil {
			return heads, found, ctx.Err()
		}
		if err != nil {
			head.Error = err.Error()
		}
		heads = append(heads, head)
	}
	return heads, found, nil
}

// difference answers how two copies differ in their first n blocks, nil if they do
// not.
func (c *Chain) difference(ctx context.Context, audited, other Copy, n uint64) (*Finding, error) {
	both := func(number uint64) (a, b *common.Block, err error) {
		if a, err = audited.Source.Block(ctx, number); err == nil {
			b, err = other.Source.Block(ctx, number)
		}
		return a, b, err
	}
	last, theirs, err := both(n - 1)
	if err != nil {
		return nil, err
	}
	rule, same := RuleFork, sameBlock
	if sameBlock(last, theirs) {
		if sameResult(last, theirs) {
			return nil, nil
		}
		rule, same = RuleState, sameResult
	}
	low, high := uint64(0), n-1 // the first difference is from low to high
	for low < high {
		middle := low + (high-low)/2
		a, b, err := both(middle)
		if err != nil {
			return nil, err
		}
		if same(a, b) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	a, b, err := both(low)
	if err != nil {
		return nil, err
	}
	f := Finding{Block: low, Transaction: -1, Rule: rule}
	if rule == RuleState {
		f.Text = fmt.Sprintf("%s and %s hold the same block with different results", audited.Department, other.Department)
		if !sameFilter(a, b) {
			f.Text += ": validation codes " + filterText(a) + " and " + filterText(b)
		}
		return &f, nil
	}
	f.Text = fmt.Sprintf("%s holds %x, %s holds %x", audited.Department, Hash(a), other.Department, Hash(b))
	f.Text += "; " + c.whoForked(ctx, audited, a, b)
	return &f, nil
}

// whoForked says who is to answer for two different blocks under one number.
func (c *Chain) whoForked(ctx context.Context, audited Copy, a, b *common.Block) string {
	if blockNumber(b) != blockNumber(a) || checkData(b) != nil {
		return "the second is no block of this number with data of its own"
	}
	config, err := c.configurationFor(ctx, audited, blockNumber(a))
	if err != nil {
		return "the configuration then in force cannot be read"
	}
	ignore := func(error) {}
	first, _, errA := config.blockSigners(a, ignore)
	second, _, errB := config.blockSigners(b, ignore)
	if errA != nil || errB != nil || len(second) < config.Quorum() {
		return fmt.Sprintf("only %d orderers signed the second, %d are required", len(second), config.Quorum())
	}
	var twice []uint32
	for _, n := range first {
		if slices.Contains(second, n) {
			twice = append(twice, n)
		}
	}
	var names []string
	for _, id := range config.ordererNames(twice) {
		names = append(names, string(id))
	}
	return "orderers that signed both: " + strings.Join(names, ", ")
}

// configurationFor reads the configuration in force for a block of the audited
// copy.
func (c *Chain) configurationFor(ctx context.Context, audited Copy, number uint64) (*Configuration, error) {
	if c.config != nil && c.config.Block < number {
		return c.config, nil
	}
	at := uint64(0)
	for _, change := range c.state.Changes {
		if change.Block < number {
			at = max(at, change.Block)
		}
	}
	b, err := audited.Source.Block(ctx, at)
	if err != nil {
		return nil, err
	}
	if err := checkData(b); err != nil {
		return nil, err
	}
	config, _, err := readConfiguration(b)
	return config, err
}

func sameBlock(a, b *common.Block) bool { return bytes.Equal(Hash(a), Hash(b)) }

// sameResult reports whether two copies came to the same results: a commit hash
// covers the validation codes and writes of all blocks up to its own.
func sameResult(a, b *common.Block) bool {
	first, second := metadata(a, common.BlockMetadataIndex_COMMIT_HASH), metadata(b, common.BlockMetadataIndex_COMMIT_HASH)
	return sameBlock(a, b) && sameFilter(a, b) && bytes.Equal(first, second)
}

// filterText spells validation codes, the first few of them.
func filterText(b *common.Block) string {
	filter := metadata(b, common.BlockMetadataIndex_TRANSACTIONS_FILTER)
	var out []string
	for _, code := range filter[:min(len(filter), 8)] {
		out = append(out, codeName(int32(code)))
	}
	if len(filter) > 8 {
		out = append(out, "…")
	}
	return strings.Join(out, " ")
}
