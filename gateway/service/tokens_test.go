package service_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
)

func tokenSum(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func tokenFile(entries ...string) []byte {
	return []byte(`{"format":"zhenglian-tokens/1","tokens":[` + strings.Join(entries, ",") + `]}`)
}

func tokenLine(role, sum string) string { return fmt.Sprintf(`{"role":%q,"sha256":%q}`, role, sum) }

func TestTokensCaller(t *testing.T) {
	tokens, err := service.NewTokens("police", tokenFile(
		tokenLine("operator", tokenSum("zl_operator")),
		tokenLine("auditor", tokenSum("zl_auditor")),
		tokenLine("operator", tokenSum("zl_second")),
	))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		token string
		role  domain.Role
		ok    bool
	}{
		{"zl_operator", domain.RoleOperator, true},
		{"zl_auditor", domain.RoleAuditor, true},
		{"zl_second", domain.RoleOperator, true},
		{"zl_operator ", "", false},
		{"ZL_OPERATOR", "", false},
		{"", "", false},
		{tokenSum("zl_operator"), "", false}, // the digest is not the token
	} {
		got, ok := tokens.Caller(tt.token)
		want := service.Caller{}
		if tt.ok {
			want = service.Caller{Department: "police", Role: tt.role}
		}
		if got != want || ok != tt.ok {
			t.Errorf("Caller(%q) = %v, %v, want %v, %v", tt.token, got, ok, want, tt.ok)
		}
	}
}

func TestNewTokensRefuses(t *testing.T) {
	good := tokenSum("zl_x")
	for name, file := range map[string][]byte{
		"empty":          nil,
		"no tokens":      tokenFile(),
		"other format":   []byte(`{"format":"zhenglian-tokens/2","tokens":[]}`),
		"unknown field":  []byte(`{"format":"zhenglian-tokens/1","tokens":[],"x":1}`),
		"trailing bytes": append(tokenFile(tokenLine("operator", good)), '{'),
		"unknown role":   tokenFile(tokenLine("root", good)),
		"gateway role":   tokenFile(tokenLine("gateway", good)),
		"short digest":   tokenFile(tokenLine("operator", good[:62])),
		"upper case":     tokenFile(tokenLine("operator", strings.ToUpper(good))),
		"not hex":        tokenFile(tokenLine("operator", strings.Repeat("g", 64))),
		"repeated":       tokenFile(tokenLine("operator", good), tokenLine("reviewer", good)),
		"plain token":    tokenFile(tokenLine("operator", "zl_x")),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := service.NewTokens("police", file); err == nil {
				t.Error("accepted")
			} else if strings.Contains(err.Error(), good) {
				t.Errorf("the error repeats the digest: %v", err)
			}
		})
	}
}
