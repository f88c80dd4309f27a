package sqlindex

import (
	"hash/maphash"
	"math/bits"
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
	case isIdeograph(r), unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul):
		return han
	case unicode.In(r, unicode.L, unicode.N, unicode.M):
		return other
	}
	return noWord
}

// isIdeograph reports whether r is one of the Chinese characters that nearly all text
// is made of, without a look into tables.
func isIdeograph(r rune) bool { return r >= 0x4e00 && r <= 0x9fa5 }

// foldRune takes width and case from a character.
func foldRune(r rune) rune {
	if isIdeograph(r) {
		return r
	}
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
func tokensOf(normal, facets string) []string { return new(tokenizer).tokens(normal, facets) }

// tokenizer lists the tokens of many texts, one after the other.
type tokenizer struct {
	seed  maphash.Seed
	slots []slot // an open hash table, as long as a power of two
	text  uint64 // the number of the text, so that nothing needs to be cleared
	list  []string
}

// slot holds a token of the text with that number.
type slot struct {
	text  uint64
	token string
}

// tokens is [tokensOf]. The list is good until the next call.
func (t *tokenizer) tokens(normal, facets string) []string {
	// No text has as many tokens as bytes: half of the slots stay free, and more.
	if most := 2 * (len(normal) + 1); len(t.slots) < most {
		t.seed, t.slots, t.text = maphash.MakeSeed(), make([]slot, 1<<bits.Len(uint(most))), 0
	}
	t.text++
	t.list = t.list[:0]
	for word := range strings.FieldsSeq(normal) {
		chinese := isHan(word)
		length, previous := 0, 0 // characters so far; where the last one started
		for at, r := range word {
			end := at + utf8.RuneLen(r)
			if chinese {
				t.add(word[at:end])
				if at > 0 {
					t.add(word[previous:end])
				}
				previous = at
				continue
			}
			if length++; length > maxPrefix {
				break
			}
			t.add(word[:end])
		}
	}
	for token := range strings.FieldsSeq(facets) {
		t.list = append(t.list, token)
	}
	return t.list
}

// add adds a token unless the text had it before.
func (t *tokenizer) add(token string) {
	mask := uint64(len(t.slots) - 1)
	for at := maphash.String(t.seed, token); ; at++ {
		s := &t.slots[at&mask]
		if s.text != t.text {
			*s = slot{t.text, token}
			t.list = append(t.list, token)
			return
		}
		if s.token == token {
			return
		}
	}
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
