package sqlindex

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/domain"
)

// The words of a text are its runs of Chinese characters and its runs of other
// letters and digits, in lower case and half width. Their normal form is each
// between spaces.
//
// A run of Chinese characters has no borders of words in it, so its tokens are
// its characters and its pairs of neighbours: any part of it of one or two
// characters is a token, a longer part is in the text only if all its pairs are.
// The tokens of another word are its beginnings.

// maxPrefix is the longest beginning of a word that is a token, in characters.
const maxPrefix = 20

// maxQueryTokens bounds the tokens that a search asks the index for; the words of
// a longer query are compared with the text as well.
const maxQueryTokens = 48

// normalWords is the normal form of the words of texts.
func normalWords(texts ...string) string {
	var b strings.Builder
	b.WriteByte(' ')
	last := noWord
	for _, text := range texts {
		for _, r := range text {
			r = foldRune(r)
			class := classOf(r)
			if class != last && last != noWord {
				b.WriteByte(' ')
			}
			if class != noWord {
				b.WriteRune(r)
			}
			last = class
		}
		if last != noWord {
			b.WriteByte(' ')
		}
		last = noWord
	}
	return b.String()
}

// class says to which kind of word a character belongs.
type class int

const (
	noWord class = iota
	han          // Chinese, and the scripts of its neighbours
	other
)

func classOf(r rune) class {
	switch {
	case r < utf8.RuneSelf:
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' {
			return other
		}
		return noWord
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul):
		return han
	case unicode.In(r, unicode.L, unicode.N, unicode.M):
		return other
	}
	return noWord
}

// foldRune takes width and case from a character.
func foldRune(r rune) rune {
	if r >= '！' && r <= '～' { // the full-width forms of ASCII
		r -= '！' - '!'
	}
	return unicode.ToLower(r)
}

// isHan reports whether a word of the normal form is one of Chinese characters.
func isHan(word string) bool {
	r, _ := utf8.DecodeRuneInString(word)
	return classOf(r) == han
}

// tokensOf lists the tokens of a normal form, each once, and the facets.
func tokensOf(normal, facets string) []string {
	most := len(normal)/3 + len(facets)/4 // so that neither grows: tokens of Chinese, or of short words
	seen := make(map[string]bool, most)
	tokens := make([]string, 0, most)
	add := func(token string) {
		if !seen[token] {
			seen[token] = true
			tokens = append(tokens, token)
		}
	}
	for word := range strings.FieldsSeq(normal) {
		chinese := isHan(word)
		length, previous := 0, 0 // characters so far; where the last one started
		for at, r := range word {
			end := at + utf8.RuneLen(r)
			if chinese {
				add(word[at:end])
				if at > 0 {
					add(word[previous:end])
				}
				previous = at
				continue
			}
			if length++; length > maxPrefix {
				break
			}
			add(word[:end])
		}
	}
	return append(tokens, strings.Fields(facets)...)
}

// wordQuery is a search: the tokens that an entry must have, the parts that its
// normal form must contain, and those of them that the tokens do not tell for
// certain.
type wordQuery struct {
	tokens, parts, unsure []string
}

// parseQuery answers what a text asks for; ok is false when it asks for nothing.
func parseQuery(text string) (q wordQuery, ok bool) {
	for word := range strings.FieldsSeq(normalWords(text)) {
		runes := []rune(word)
		part, certain := " "+word, len(runes) <= maxPrefix
		switch {
		case !isHan(word):
			q.tokens = append(q.tokens, string(runes[:min(len(runes), maxPrefix)]))
		case len(runes) == 1:
			part = word
			q.tokens = append(q.tokens, word)
		default:
			part, certain = word, len(runes) == 2
			for i := range len(runes) - 1 {
				q.tokens = append(q.tokens, string(runes[i:i+2]))
			}
		}
		q.parts = append(q.parts, part)
		if !certain {
			q.unsure = append(q.unsure, part)
		}
	}
	slices.Sort(q.tokens)
	q.tokens = slices.Compact(q.tokens)
	if len(q.tokens) > maxQueryTokens {
		q.tokens, q.unsure = q.tokens[:maxQueryTokens], q.parts
	}
	return q, len(q.tokens) > 0
}

// match is the query in the language of FTS5. Tokens hold letters, digits, "="
// and "_" only, so quotes hold them.
func (q wordQuery) match() string { return `"` + strings.Join(q.tokens, `" AND "`) + `"` }

// facet is a filter as a token; "" when the value cannot be one, which no value
// of the ledger's rules is.
func facet(name, value string) string {
	if value == "" || len(value) > 64 {
		return ""
	}
	for _, c := range []byte(value) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return ""
		}
	}
	return name + "=" + value
}

// searched is what a search for words reads of an entry.
func searched(c domain.CatalogContent) string {
	texts := []string{c.Name, c.Code, c.Abstract, c.Classification, c.SystemRef, c.DutyRef}
	for _, item := range c.Items {
		texts = append(texts, item.Name)
	}
	return normalWords(texts...)
}
