package interchange

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// The rules of reading, besides those of [domain.CatalogContent.Validate].
const (
	ruleUnknownWord = "unknown_word" // a word that is not in the form's list
	ruleShape       = "shape"        // a cell, item or value that is not of the form's shape
	ruleRepeats     = "repeats"      // a code or name that an earlier row has
	ruleIdentifier  = "identifier"   // no identifier that a code could follow from
)

func unknownWord(field, known string) domain.Finding {
	return domain.Finding{Field: field, Rule: ruleUnknownWord, Zh: "只能是：" + known, En: "not one of " + known}
}

func shape(field, zh, en string) domain.Finding {
	return domain.Finding{Field: field, Rule: ruleShape, Zh: zh, En: en}
}

func repeats(field string, row int) domain.Finding {
	return domain.Finding{
		Field: field, Rule: ruleRepeats,
		Zh: fmt.Sprintf("与第%d行重复", row), En: fmt.Sprintf("repeats the %s of row %d", field, row),
	}
}

func noIdentifier() domain.Finding {
	return domain.Finding{
		Field: "code", Rule: ruleIdentifier,
		Zh: "没有标识符，无法生成信息资源代码", En: "the row has no identifier that a code could follow from",
	}
}

// contentFindings are the ledger's objections to the content. A field that has a
// finding already gets no second one, nor what only follows from it.
func contentFindings(c domain.CatalogContent, already []domain.Finding) []domain.Finding {
	err := c.Validate()
	if err == nil {
		return nil
	}
	known := func(field string) bool {
		return slices.ContainsFunc(already, func(f domain.Finding) bool { return f.Field == field })
	}
	var out []domain.Finding
	for _, f := range domain.Findings(err) {
		follows := known("shareType") && (strings.HasSuffix(f.Field, ".shareType") || f.Field == "shareCondition" || f.Field == "legalBasis") ||
			known("format") && (f.Field == "shareMode" || f.Field == "formatType") ||
			known("openType") && (f.Field == "openCondition" || f.Field == "level" && c.Level == 0)
		if !known(f.Field) && !follows {
			out = append(out, f)
		}
	}
	return out
}
