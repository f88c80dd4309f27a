package signing

import (
	"net/http"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
)

const (
	review  = "/v1/catalog/entries/307003%2F000017/actions/review"
	propose = "/v1/certificates/0123456789abcdef0123456789abcdef/actions/propose"
)

func TestIntent(t *testing.T) {
	for _, tt := range []struct {
		name, target, body, argument string
		want                         string // in the error; "" when the argument is what was asked for
	}{
		{"fields of path and body", review, `{"decision":"return","opinion":"补正"}`, `{"code":"307003/000017","decision":"return","opinion":"补正"}`, ""},
		{"empty field added", review, `{"decision":"approve"}`, `{"code":"307003/000017","decision":"approve","opinion":""}`, ""},
		{"empty field left out", review, `{"decision":"approve","opinion":""}`, `{"code":"307003/000017","decision":"approve"}`, ""},
		{"another path", review, `{"decision":"approve"}`, `{"code":"307003/000018","decision":"approve"}`, "code is not what was asked for"},
		{"another field", review, `{"decision":"approve"}`, `{"code":"307003/000017","decision":"return"}`, "decision is not"},
		{"field left out", review, `{"decision":"approve","opinion":"x"}`, `{"code":"307003/000017","decision":"approve"}`, "opinion is not"},
		{"field added", review, `{"decision":"approve"}`, `{"code":"307003/000017","decision":"approve","opinion":"x"}`, "opinion was not asked for"},
		{"no JSON", review, `{"decision":"approve"}`, `{`, "unexpected EOF"},
		{"two values", review, `{"decision":"approve"}`, `{"code":"307003/000017","decision":"approve"}{}`, "more than one"},
		{"body under a name, with the query", "/v1/catalog/entries?draft=true", `{"name":"a","items":[{"level":2}]}`, `{"content":{"name":"a","items":[{"level":2}]},"draft":true}`, ""},
		{"another query", "/v1/catalog/entries?draft=true", `{"name":"a"}`, `{"content":{"name":"a"},"draft":false}`, "draft is not"},
		{"another number", "/v1/catalog/entries", `{"items":[{"level":2}]}`, `{"content":{"items":[{"level":3}]},"draft":false}`, "content.items[0].level is not"},
		{"one item more", "/v1/catalog/entries", `{"items":[{"level":2}]}`, `{"content":{"items":[{"level":2},{"level":2}]}}`, "content.items is not"},
		{"an object in place of a list", "/v1/catalog/entries", `{"items":[{"level":2}]}`, `{"content":{"items":{"level":2}}}`, "content.items is not"},
		{"empty list", "/v1/catalog/entries", `{"items":[]}`, `{"content":{"items":null}}`, ""},
		{"one moment in two zones", propose, `{"event":"revoke","act":{"effectiveAt":"2026-03-01T08:00:00+08:00"}}`,
			`{"ref":"0123456789abcdef0123456789abcdef","event":"revoke","act":{"effectiveAt":"2026-03-01T00:00:00Z"}}`, ""},
		{"another moment", propose, `{"event":"revoke","act":{"effectiveAt":"2026-03-01T08:00:00+08:00"}}`,
			`{"ref":"0123456789abcdef0123456789abcdef","event":"revoke","act":{"effectiveAt":"2026-03-01T00:00:01Z"}}`, "act.effectiveAt is not"},
		{"another name", "/v1/issuers/police/T1/actions/end", `{"reason":"x"}`, `{"issuer":"police","typeCode":"T1","reason":"x"}`, ""},
		{"what the gateway chooses", "/v1/certificates", `{"typeCode":"T1","items":[{"name":"a"}]}`, `{"content":{"typeCode":"T1","ref":"r","contentDigest":"d"}}`, ""},
		{"what the request says already", "/v1/certificates", `{"typeCode":"T1","contentDigest":"mine"}`, `{"content":{"typeCode":"T1","ref":"r","contentDigest":"d"}}`, "content.contentDigest is not"},
		{"what is withheld", "/v1/certificates", `{"items":[{"name":"a"}]}`, `{"content":{"items":[{"name":"a"}]}}`, "content.items was to be withheld"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, err := IntentOf(http.MethodPost, tt.target, []byte(tt.body), "")
			if err != nil {
				t.Fatal(err)
			}
			err = i.CheckArgument([]byte(tt.argument))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestIntentOf(t *testing.T) {
	tx := strings.Repeat("a", 64)
	i, err := IntentOf(http.MethodPost, review, []byte(`{"decision":"approve"}`), `"`+tx+`"`)
	if want := (domain.Expectation{Kind: domain.KindCatalogEntry, ID: "307003/000017", TxID: domain.TxID(tx)}).String(); err != nil || i.Transaction != "catalog:Review" || i.Expect != want {
		t.Errorf("got %+v, %v, want %q", i, err, want)
	}
	for _, tt := range []struct{ method, target, body, ifMatch, want string }{
		{http.MethodGet, "/v1/catalog/entries", "", "", "writes nothing"},
		{http.MethodPost, "/v1/catalog/content/validate", "{}", "", "writes nothing"},
		{http.MethodPost, "/v1/access-records", "{}", "", "writes nothing"},
		{http.MethodPost, "/v1/catalog/entries", "[]", "", "read the body"},
		{http.MethodPost, "/v1/catalog/entries", "{}", `"` + tx + `"`, "takes no If-Match"},
		{http.MethodPost, "http://%zz", "{}", "", "no path"},
	} {
		if _, err := IntentOf(tt.method, tt.target, []byte(tt.body), tt.ifMatch); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: %v, want %q in it", tt.method, tt.target, err, tt.want)
		}
	}
}
