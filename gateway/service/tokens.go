package service

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/zhenglian/zhenglian/domain"
)

// TokensFormat names the format of a token file:
//
//	{"format":"zhenglian-tokens/1","tokens":[{"role":"operator","sha256":"<64 hexadecimal digits>"}]}
//
// where sha256 is the digest of the token's text. A token is a long random
// string, so a plain digest suffices: there is nothing to guess.
const TokensFormat = "zhenglian-tokens/1"

// Tokens knows a department's access tokens by their digests. It is read-only
// and safe for concurrent use.
type Tokens struct {
	department domain.DepartmentCode
	entries    []tokenEntry
}

type tokenEntry struct {
	sum  [sha256.Size]byte
	role domain.Role
}

// tokenRoles are the roles that people and systems hold. The role "gateway" is
// the service's own and has no token.
var tokenRoles = []domain.Role{domain.RoleAdmin, domain.RoleOperator, domain.RoleReviewer, domain.RoleAuditor}

// NewTokens reads the contents of a token file (see [TokensFormat]) of
// department. It refuses unknown fields and roles, malformed digests, one digest
// named twice and a file without tokens.
func NewTokens(department domain.DepartmentCode, file []byte) (*Tokens, error) {
	var doc struct {
		Format string `json:"format"`
		Tokens []struct {
			Role   domain.Role `json:"role"`
			SHA256 string      `json:"sha256"`
		} `json:"tokens"`
	}
	dec := json.NewDecoder(bytes.NewReader(file))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("read tokens: bytes follow the JSON object")
	}
	if doc.Format != TokensFormat {
		return nil, fmt.Errorf("read tokens: format is %q, want %q", doc.Format, TokensFormat)
	}
	if len(doc.Tokens) == 0 {
		return nil, errors.New("read tokens: there are none")
	}
	t := &Tokens{department: department}
	for i, e := range doc.Tokens {
		if !slices.Contains(tokenRoles, e.Role) {
			return nil, fmt.Errorf("read tokens: token %d: role %q has no token", i, e.Role)
		}
		sum, err := hex.DecodeString(e.SHA256)
		if err != nil || len(sum) != sha256.Size || hex.EncodeToString(sum) != e.SHA256 {
			return nil, fmt.Errorf("read tokens: token %d: sha256 is not 64 lower-case hexadecimal digits", i)
		}
		entry := tokenEntry{sum: [sha256.Size]byte(sum), role: e.Role}
		for _, other := range t.entries {
			if other.sum == entry.sum {
				return nil, fmt.Errorf("read tokens: token %d repeats an earlier one", i)
			}
		}
		t.entries = append(t.entries, entry)
	}
	return t, nil
}

// Caller answers who holds token, false when nobody does. It takes the same time
// for every token of a length: it compares digests in constant time and never
// stops early.
func (t *Tokens) Caller(token string) (Caller, bool) {
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i := range t.entries {
		same := subtle.ConstantTimeCompare(sum[:], t.entries[i].sum[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return Caller{}, false
	}
	return Caller{Department: t.department, Role: t.entries[found].role}, true
}
