package domain

import (
	"errors"
	"regexp"
	"strings"
)

// Finding is one thing that is wrong with an argument, for people and programs.
type Finding struct {
	Field string // its JSON name, as in "content.items[3].shareType"; "" for the argument as a whole
	Rule  string // stable identifier of the rule that is broken, as in "looser-than-resource"
	Zh    string // what the rule says, in Chinese
	En    string // what the rule says, as in the error's text
}

// RuleOther is the rule of a finding whose text no rule here has: one that a
// newer chaincode made.
const RuleOther = "other"

// Findings recovers what an [Error] of kind [Invalid] in err's chain found, in
// order. An error crosses the ledger as text only, so the rules are told by their
// text. It is nil for any other error.
func Findings(err error) []Finding {
	var e *Error
	if !errors.As(err, &e) || e.Kind != Invalid {
		return nil
	}
	var list []Finding
	for _, part := range strings.Split(e.Msg, "; ") {
		field, text := splitField(part)
		id, zh := ruleOf(text)
		list = append(list, Finding{Field: field, Rule: id, Zh: zh, En: text})
	}
	return list
}

// fieldShape is a field's name in front of a rule.
var fieldShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(?:\[[0-9]+\])*(?:\.[A-Za-z][A-Za-z0-9]*(?:\[[0-9]+\])*)*: `)

// splitField splits a finding into the field and the rule's text.
func splitField(s string) (field, text string) {
	at := fieldShape.FindString(s)
	return strings.TrimSuffix(at, ": "), s[len(at):]
}

// ruleOf finds the rule with a text, and what it says in Chinese.
func ruleOf(text string) (id, zh string) {
	for _, r := range rules {
		values := r.values(text)
		if values == nil {
			continue
		}
		next := 0
		return r.id, parameterShape.ReplaceAllStringFunc(r.zh, func(string) string {
			next++
			return values[next]
		})
	}
	// A part of a field, as of a certificate identifier, has its own rule.
	if part, rest := splitField(text); part != "" {
		id, zh := ruleOf(rest)
		return id, part + "：" + zh
	}
	return RuleOther, "不符合要求：" + text
}

// rule is a rule with its text in both languages. %d stands for a number, %s for
// a list or a word, in the same order in both.
type rule struct {
	id, en, zh string
	shape      *regexp.Regexp // of the English text; nil when it has no parameters
}

// values matches the English text: the whole and the parameters, nil when it is
// not this rule's.
func (r rule) values(text string) []string {
	if r.shape != nil {
		return r.shape.FindStringSubmatch(text)
	}
	if r.en == text {
		return []string{text}
	}
	return nil
}

var parameterShape = regexp.MustCompile(`%[ds]`)

// rules are all rules, those without parameters first: they say more.
var rules = func() []rule {
	var plain, patterns []rule
	for _, t := range ruleTexts {
		r := rule{id: t[0], en: t[1], zh: t[2]}
		if !parameterShape.MatchString(r.en) {
			plain = append(plain, r)
			continue
		}
		shape := regexp.QuoteMeta(r.en)
		shape = strings.ReplaceAll(shape, "%d", "(-?[0-9]+)")
		shape = strings.ReplaceAll(shape, "%s", "(.*)")
		r.shape = regexp.MustCompile("^" + shape + "$")
		patterns = append(patterns, r)
	}
	return append(plain, patterns...)
}()
