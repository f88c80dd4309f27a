package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
)

const ref = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"

var asOf = time.Date(2026, 11, 21, 14, 5, 6, 0, time.UTC)

func certificate() *domain.Certificate {
	return &domain.Certificate{
		Issuer: "police",
		Content: domain.CertificateContent{
			Ref:        ref,
			CertID:     "1.2.156.3005.2.11100000000013338W011.11430000006122244L.20230000403.001.U",
			TypeNameZh: "居住证",
			TypeNameEn: "Residence permit",
			IssuerUSCC: "11430000006122244L",
			HolderKind: "person",
			IssuedAt:   time.Date(2026, 11, 1, 1, 0, 0, 0, time.UTC),
			Validity: domain.Period{
				From: time.Date(2026, 10, 31, 16, 0, 0, 0, time.UTC), // 1 November in Beijing
				To:   time.Date(2027, 10, 31, 16, 0, 0, 0, time.UTC),
			},
		},
		Status:      domain.CertificateValid,
		StatusSince: issuedAt,
		Changes:     []domain.StatusChange{{Status: domain.CertificateValid, Since: issuedAt, RecordedAt: issuedAt}},
		Seq:         2,
	}
}

const successor = "ffffffffffffffff0000000000000000"

var issuedAt = time.Date(2026, 11, 1, 1, 0, 0, 0, time.UTC)

// verdicts are all that a verification may say.
var verdicts = []service.Verdict{
	service.Valid, service.Suspended, service.Revoked, service.Withdrawn, service.Cancelled, service.Superseded,
	service.Expired, service.NotYetValid, service.NotFound, service.CannotCheck,
}

// changed gives the certificate another status, by an act.
func changed(c *domain.Certificate, status domain.CertificateStatus) {
	change := domain.StatusChange{
		Status: status, Since: time.Date(2026, 11, 19, 16, 0, 0, 0, time.UTC), RecordedAt: time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC),
	}
	if status == domain.CertificateSuperseded {
		change.Successor = successor
	} else {
		change.Act = &domain.StatusAct{
			DocumentNo: "公撤决字〔2026〕第12号", LegalBasis: "《中华人民共和国行政许可法》第六十九条", ReasonCode: "false_material", EffectiveAt: change.Since,
		}
	}
	c.Status, c.StatusSince, c.StatusAct, c.Successor = change.Status, change.Since, change.Act, change.Successor
	c.Changes = append(c.Changes, change)
}

func verification(verdict service.Verdict) service.Verification {
	v := service.Verification{Verdict: verdict, Ref: ref, AsOf: asOf, Height: 43}
	if verdict == service.CannotCheck {
		v.Reason = service.ReasonIndexBehind
	}
	if !verdict.Issued() {
		return v
	}
	v.Certificate = certificate()
	v.Issuer = &domain.Department{Code: "police", NameZh: "公安局", NameEn: "Public Security Bureau"}
	v.Position = domain.Position{Block: 17, TxID: "t"}
	if status := stored[verdict]; status != domain.CertificateValid {
		changed(v.Certificate, status)
	}
	return v
}

func pages(v service.Verification) *Pages {
	return New(func(context.Context, string) service.Verification { return v }, Options{
		OperatorZh: "公安局", OperatorEn: "Public Security Bureau", Clock: func() time.Time { return asOf },
	})
}

func get(t *testing.T, h http.Handler, target, accept string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	if accept != "" {
		r.Header.Set("Accept-Language", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

// document is a parsed page with what tests ask of it.
type document struct {
	root *html.Node
}

func parse(t *testing.T, body string) document {
	t.Helper()
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatalf("parse page: %v", err)
	}
	return document{root}
}

func (d document) elements(name string) []*html.Node {
	var found []*html.Node
	for n := range d.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == name {
			found = append(found, n)
		}
	}
	return found
}

// words is the text of a node, spaces collapsed.
func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode && d.Parent.Data != "style" {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func (d document) links() map[string]string { // href by text
	out := make(map[string]string)
	for _, a := range d.elements("a") {
		out[words(a)] = attr(a, "href")
	}
	return out
}

func TestVerdicts(t *testing.T) {
	tests := []struct {
		verdict service.Verdict
		status  int
		zh, en  []string // the first is the heading
		absent  []string // in neither language
	}{
		{
			service.Valid, 200,
			[]string{"有效", "未被撤销、吊销、注销或暂扣", "居住证", "公安局", "2026年11月1日", "2026年11月1日至2027年10月31日（含当日）", "持证人的身份证件", "核验于2026年11月21日 22:05:06（北京时间）", "第 17 号", "43 个"},
			[]string{"Valid", "is not revoked, withdrawn, cancelled or suspended", "Residence permit", "Public Security Bureau", "from 1 November 2026 to 31 October 2027 inclusive", "identity document", "Checked at 21 November 2026, 22:05:06, Beijing time", "number 17"},
			[]string{"作出的决定", "The decision", "状态变更"},
		},
		{
			service.Suspended, 200,
			[]string{"暂扣中", "自2026年11月20日 00:00起暂时无效", "公撤决字〔2026〕第12号", "行为 暂扣"},
			[]string{"Suspended", "not valid for the time being, since 20 November 2026, 00:00", "公撤决字〔2026〕第12号", "暂扣 suspension"},
			[]string{"吊销（", "注销（", "撤销（"},
		},
		{
			service.Revoked, 200,
			[]string{"已撤销", "自2026年11月20日 00:00起不再有效", "公撤决字〔2026〕第12号", "《中华人民共和国行政许可法》第六十九条", "撤销（颁发时即不符合条件）", "2026年11月20日 11:00"},
			[]string{"Revoked", "no longer valid since 20 November 2026, 00:00", "公撤决字〔2026〕第12号", "《中华人民共和国行政许可法》第六十九条"},
			[]string{"吊销（", "注销（"},
		},
		{
			service.Withdrawn, 200,
			[]string{"已吊销", "颁发机构已经吊销这份证照，自2026年11月20日 00:00起不再有效", "吊销（行政处罚）"},
			[]string{"Withdrawn", "as a penalty", "吊销 withdrawal"},
			[]string{"撤销（", "注销（"},
		},
		{
			service.Cancelled, 200,
			[]string{"已注销", "已经注销，自2026年11月20日 00:00起不再有效", "注销（依法定程序终止）"},
			[]string{"Cancelled", "has been cancelled", "注销 cancellation"},
			[]string{"撤销（", "吊销（"},
		},
		{
			service.Superseded, 200,
			[]string{"已被替代", "由新的版本替代，自2026年11月20日 00:00起不再有效", "核验新的证照", "变更或延续"},
			[]string{"Superseded", "A newer version", "Check the new certificate"},
			[]string{"撤销（", "吊销（", "注销（"},
		},
		{
			service.Expired, 200,
			[]string{"已失效", "自2027年11月1日起不再有效", "居住证"},
			[]string{"Expired", "no longer valid since 1 November 2027", "Residence permit"},
			nil,
		},
		{
			service.NotYetValid, 200,
			[]string{"未到生效日", "要到2026年11月1日才生效", "居住证"},
			[]string{"Not yet valid", "takes effect only on 1 November 2026", "Residence permit"},
			nil,
		},
		{
			service.NotFound, 404,
			[]string{"未找到", "账本上没有这个编号的证照", "伪造"},
			[]string{"Not found", "holds no certificate with this reference", "forged"},
			[]string{"居住证", "下载证明文件", "Download the proof"},
		},
		{
			service.CannotCheck, 503,
			[]string{"无法核验", "不能说这份证照有效，也不能说它无效", "没有收到账本的新数据", "再试一次"},
			[]string{"Cannot check", "cannot say that this certificate is valid, nor that it is invalid", "has not received new ledger data", "Try again"},
			[]string{"居住证", "下载证明文件", "Download the proof"},
		},
	}
	if len(tests) != len(verdicts) {
		t.Errorf("%d verdicts are tested of %d", len(tests), len(verdicts))
	}
	for _, tt := range tests {
		for lang, want := range map[string][]string{"zh": tt.zh, "en": tt.en} {
			t.Run(string(tt.verdict)+"/"+lang, func(t *testing.T) {
				res, body := get(t, pages(verification(tt.verdict)), "/v/"+ref+"?lang="+lang, "")
				if res.StatusCode != tt.status {
					t.Errorf("status %d, want %d", res.StatusCode, tt.status)
				}
				doc := parse(t, body)
				h1 := doc.elements("h1")
				if len(h1) != 1 || words(h1[0]) != want[0] {
					t.Fatalf("heading %v, want %q", h1, want[0])
				}
				all := words(doc.elements("body")[0])
				for _, w := range want[1:] {
					if !strings.Contains(all, w) {
						t.Errorf("page does not say %q:\n%s", w, all)
					}
				}
				for _, w := range tt.absent {
					if strings.Contains(all, w) {
						t.Errorf("page says %q", w)
					}
				}
				never := map[string]string{"zh": "从不要求登录", "en": "never asks you to log in"}[lang]
				if !strings.Contains(all, never) {
					t.Errorf("page does not say %q", never)
				}
				if got, want := attr(doc.elements("html")[0], "lang"), map[string]string{"zh": "zh-CN", "en": "en"}[lang]; got != want {
					t.Errorf("lang %q, want %q", got, want)
				}
				if got := attr(doc.elements("section")[0], "class"); got != "verdict "+string(tt.verdict) {
					t.Errorf("class of the verdict %q", got)
				}
				if icons := doc.elements("svg"); len(icons) != 1 {
					t.Errorf("%d icons", len(icons))
				}
				other := map[string]string{"zh": "en", "en": "zh"}[lang]
				if got := doc.links()[map[string]string{"zh": "English", "en": "中文"}[lang]]; got != "?lang="+other {
					t.Errorf("language link %q", got)
				}
				retry := res.Header.Get("Retry-After")
				if (tt.status == 503) != (retry == "5") {
					t.Errorf("Retry-After %q with status %d", retry, tt.status)
				}
			})
		}
	}
}

func TestProofLinks(t *testing.T) {
	_, body := get(t, pages(verification(service.Valid)), "/v/"+ref, "")
	links := parse(t, body).links()
	if got, want := links["下载证明文件"], "/v1/verify/"+ref+"/proof"; got != want {
		t.Errorf("proof link %q, want %q", got, want)
	}
	if got := links["信任文件"]; got != "/v1/trust" {
		t.Errorf("trust link %q", got)
	}
}

func TestMalformedReference(t *testing.T) {
	asked := 0
	p := New(func(context.Context, string) service.Verification { asked++; return verification(service.Valid) }, Options{})
	for _, path := range []string{
		"/v/", "/v/" + ref[1:], "/v/" + ref + "0", "/v/" + strings.ToUpper(ref), "/v/" + ref + "/", "/v/" + ref[:31] + "g", "/other/" + ref,
		"/v/%3Cscript%3Ealert(1)%3C/script%3E",
	} {
		res, body := get(t, p, path, "")
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %d", path, res.StatusCode)
		}
		doc := parse(t, body)
		if got := words(doc.elements("h1")[0]); got != "链接不完整" {
			t.Errorf("%s: heading %q", path, got)
		}
		if strings.Contains(body, "alert(1)") {
			t.Errorf("%s: the page repeats the path", path)
		}
	}
	if asked != 0 {
		t.Errorf("the service was asked %d times", asked)
	}
}

// TestContradictionsCannotBeChecked feeds answers that no correct service gives.
func TestContradictionsCannotBeChecked(t *testing.T) {
	valid := verification(service.Valid)
	tests := map[string]service.Verification{
		"zero value":                  {},
		"unknown verdict":             {Verdict: "fine", Certificate: certificate(), AsOf: asOf},
		"valid without certificate":   {Verdict: service.Valid, Ref: ref, AsOf: asOf},
		"revoked without certificate": {Verdict: service.Revoked, Ref: ref, AsOf: asOf},
		"another certificate": func() service.Verification {
			v := valid
			c := *v.Certificate
			c.Content.Ref = strings.Repeat("0", 32)
			v.Certificate = &c
			return v
		}(),
		"revoked with a withdrawn record": func() service.Verification {
			v := verification(service.Withdrawn)
			v.Verdict = service.Revoked
			return v
		}(),
		"expired with a suspended record": func() service.Verification {
			v := verification(service.Suspended)
			v.Verdict = service.Expired
			return v
		}(),
		"valid with a revoked record": func() service.Verification {
			v := valid
			c := *v.Certificate
			c.Status = domain.CertificateRevoked
			v.Certificate = &c
			return v
		}(),
		"cannot check without reason":  {Verdict: service.CannotCheck, Ref: ref},
		"cannot check but certificate": {Verdict: service.CannotCheck, Ref: ref, Certificate: certificate()},
	}
	for name, v := range tests {
		t.Run(name, func(t *testing.T) {
			res, body := get(t, pages(v), "/v/"+ref, "")
			doc := parse(t, body)
			if got := words(doc.elements("h1")[0]); res.StatusCode != 503 || got != "无法核验" {
				t.Errorf("%d %q", res.StatusCode, got)
			}
			if strings.Contains(body, "居住证") {
				t.Error("the page shows the certificate")
			}
		})
	}
}

func TestRevokedWithoutAct(t *testing.T) {
	v := verification(service.Revoked)
	v.Certificate.StatusAct, v.Certificate.Changes[1].Act = nil, nil
	v.Issuer = nil
	_, body := get(t, pages(v), "/v/"+ref, "")
	all := words(parse(t, body).elements("body")[0])
	for _, want := range []string{"自2026年11月20日 00:00起不再有效", "账本上没有登记名称", "机构代码 11430000006122244L"} {
		if !strings.Contains(all, want) {
			t.Errorf("page does not say %q:\n%s", want, all)
		}
	}
}

func TestSuccessorLink(t *testing.T) {
	_, body := get(t, pages(verification(service.Superseded)), "/v/"+ref+"?lang=en&size=large&at=2026-11-02", "")
	if got, want := parse(t, body).links()["Check the new certificate"], "/v/"+successor+"?lang=en&size=large"; got != want {
		t.Errorf("link to the successor %q, want %q", got, want)
	}
	v := verification(service.Superseded)
	v.Certificate.Successor = "javascript:alert(1)"
	_, body = get(t, pages(v), "/v/"+ref, "")
	if strings.Contains(body, "alert(1)") {
		t.Error("the page links to what is no reference")
	}
}

// TestHistory shows a certificate that was suspended, restored and revoked.
func TestHistory(t *testing.T) {
	v := verification(service.Revoked)
	c := v.Certificate
	last := c.Changes[1]
	at := func(day int) time.Time { return time.Date(2026, 11, day, 0, 0, 0, 0, beijing) }
	c.Changes = []domain.StatusChange{
		c.Changes[0],
		{Status: domain.CertificateSuspended, Since: at(5), RecordedAt: at(6), Act: &domain.StatusAct{DocumentNo: "暂扣1号"}},
		{Status: domain.CertificateValid, Since: at(8), RecordedAt: at(9), Act: &domain.StatusAct{DocumentNo: "发还2号"}},
		last,
	}
	_, body := get(t, pages(v), "/v/"+ref, "")
	var got []string
	for _, item := range parse(t, body).elements("li") {
		got = append(got, words(item))
	}
	want := []string{
		"撤销（颁发时即不符合条件） 自2026年11月20日 00:00起 文书号 公撤决字〔2026〕第12号 , 2026年11月20日 11:00记入账本",
		"发还（解除暂扣） 自2026年11月8日 00:00起 文书号 发还2号 , 2026年11月9日 00:00记入账本",
		"暂扣 自2026年11月5日 00:00起 文书号 暂扣1号 , 2026年11月6日 00:00记入账本",
		"颁发 自2026年11月1日 09:00起 2026年11月1日 09:00记入账本",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	_, body = get(t, pages(eventful()), "/v/"+ref, "")
	doc := parse(t, body)
	if n := len(doc.elements("li")); n != maxHistory || !strings.Contains(words(doc.elements("main")[0]), "另有 44 次更早的变更") {
		t.Errorf("%d changes listed, want %d and that there are 44 more", n, maxHistory)
	}
}

// TestObjection shows an open objection beside each verdict, which it does not change.
func TestObjection(t *testing.T) {
	for _, verdict := range verdicts {
		if !verdict.Issued() {
			continue
		}
		for lang, want := range map[string]string{
			"zh": "有异议，正在处理 颁发机构登记：自2026年11月9日 00:00起，有人对这份证照提出异议，尚未办结。上面的核验结果没有因此改变",
			"en": "An objection is open The issuer has recorded that this certificate is disputed since 9 November 2026, 00:00. The result above is not changed by that",
		} {
			v := verification(verdict)
			_, before := get(t, pages(v), "/v/"+ref+"?lang="+lang, "")
			at := time.Date(2026, 11, 9, 0, 0, 0, 0, beijing)
			v.Certificate.OpenObjection = &domain.Objection{Act: domain.StatusAct{DocumentNo: "<异1号>", EffectiveAt: at}, RecordedAt: at}
			answer, body := get(t, pages(v), "/v/"+ref+"?lang="+lang, "")
			shown := words(parse(t, body).elements("main")[0])
			if answer.StatusCode != http.StatusOK || !strings.Contains(shown, want) || !strings.Contains(shown, "<异1号>") {
				t.Errorf("%s/%s: %d, no objection in %s", verdict, lang, answer.StatusCode, shown)
			}
			if heading := words(parse(t, before).elements("h1")[0]); heading != words(parse(t, body).elements("h1")[0]) || strings.Contains(before, `class="objection"`) {
				t.Errorf("%s/%s: the verdict was %s", verdict, lang, heading)
			}
		}
	}
}

// TestThen asks what was the case at an earlier moment: the answer stands beside the
// verdict of the present and never in its place.
func TestThen(t *testing.T) {
	tests := []struct {
		verdict service.Verdict
		at      string
		status  int
		want    string // of the answer; "" for none
		day     string // in the field
	}{
		{service.Revoked, "2026-11-19", 200, "2026年11月19日 23:59（北京时间）： 有效", "2026-11-19"},
		{service.Revoked, "2026-11-20", 200, "2026年11月20日 23:59（北京时间）： 已撤销 该状态自2026年11月20日 00:00起", "2026-11-20"},
		{service.Revoked, "2026-11-20T07:59:59%2B08:00", 200, "2026年11月20日 07:59（北京时间）： 已撤销", "2026-11-20"},
		{service.Revoked, "2026-10-31", 200, "2026年10月31日 23:59（北京时间）： 未到生效日 当时还没有生效", "2026-10-31"},
		{service.Valid, "2026-11-21", 200, "2026年11月21日 22:05（北京时间）： 有效 按今天账本上的记录", "2026-11-21"}, // the day lasts
		{service.Superseded, "2026-11-19", 200, "有效 按今天账本上的记录", "2026-11-19"},
		{service.Valid, "2026-11-22", 400, "日期无法识别，或在将来", ""},
		{service.Valid, "yesterday", 400, "日期无法识别，或在将来", ""},
		{service.Valid, "2026-02-30", 400, "日期无法识别，或在将来", ""},
		{service.NotFound, "2026-11-19", 404, "", ""},
		{service.CannotCheck, "2026-11-19", 503, "", ""},
	}
	for _, tt := range tests {
		t.Run(string(tt.verdict)+" "+tt.at, func(t *testing.T) {
			res, body := get(t, pages(verification(tt.verdict)), "/v/"+ref+"?at="+tt.at, "")
			doc := parse(t, body)
			if res.StatusCode != tt.status {
				t.Errorf("status %d, want %d", res.StatusCode, tt.status)
			}
			if got, want := words(doc.elements("h1")[0]), mustText(textFiles, "text/zh.json")["word_"+string(tt.verdict)]; got != want {
				t.Errorf("the verdict of the present is %q, want %q", got, want)
			}
			var answer string
			for _, section := range doc.elements("section") {
				if attr(section, "class") == "then" {
					answer = words(section)
				}
			}
			if (answer == "") != (tt.want == "") || !strings.Contains(answer, tt.want) {
				t.Errorf("the answer is %q, want %q", answer, tt.want)
			}
			for _, input := range doc.elements("input") {
				if attr(input, "id") == "at" {
					if attr(input, "value") != tt.day || attr(input, "min") != "2026-11-01" || attr(input, "max") != "2026-11-21" {
						t.Errorf("the field is %v", input.Attr)
					}
				}
			}
			if tt.want != "" && !strings.Contains(doc.links()["English"], "at=") {
				t.Errorf("the language link %q forgets the day", doc.links()["English"])
			}
		})
	}
}

func TestValidityInWords(t *testing.T) {
	beijingDay := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, beijing) }
	tests := []struct {
		name   string
		period domain.Period
		want   string
	}{
		{"whole days", domain.Period{From: beijingDay(2026, 1, 1), To: beijingDay(2027, 1, 1)}, "2026年1月1日至2026年12月31日（含当日）"},
		{"leap day", domain.Period{From: beijingDay(2028, 2, 29), To: beijingDay(2028, 3, 1)}, "2028年2月29日至2028年2月29日（含当日）"},
		{"to the minute", domain.Period{From: beijingDay(2026, 1, 1).Add(9 * time.Hour), To: beijingDay(2026, 1, 2).Add(17*time.Hour + 30*time.Minute)}, "2026年1月1日 09:00至2026年1月2日 17:30"},
		{"open", domain.Period{From: beijingDay(2026, 1, 1)}, "自2026年1月1日起，长期"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustText(textFiles, "text/zh.json").validity(tt.period); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLanguageNegotiation(t *testing.T) {
	tests := []struct{ query, accept, want string }{
		{"", "", "zh-CN"},
		{"", "en", "en"},
		{"", "en-GB,en;q=0.9,zh;q=0.5", "en"},
		{"", "zh-TW,en;q=0.9", "zh-CN"},
		{"", "fr-FR", "zh-CN"},
		{"", "de,en;q=0.5", "en"},
		{"", "*", "zh-CN"},
		{"", ";;;q=x", "zh-CN"},
		{"?lang=en", "zh-CN", "en"},
		{"?lang=zh", "en", "zh-CN"},
		{"?lang=xx", "en", "en"},
	}
	for _, tt := range tests {
		t.Run(tt.query+" "+tt.accept, func(t *testing.T) {
			res, body := get(t, pages(verification(service.Valid)), "/v/"+ref+tt.query, tt.accept)
			if got := attr(parse(t, body).elements("html")[0], "lang"); got != tt.want {
				t.Errorf("lang %q, want %q", got, tt.want)
			}
			if got := res.Header.Get("Content-Language"); got != tt.want {
				t.Errorf("Content-Language %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLargeText(t *testing.T) {
	_, body := get(t, pages(verification(service.Valid)), "/v/"+ref+"?lang=en&size=large", "")
	doc := parse(t, body)
	if got := attr(doc.elements("html")[0], "class"); got != "large" {
		t.Errorf("class %q", got)
	}
	links := doc.links()
	if got := links["Normal text"]; got != "?lang=en" {
		t.Errorf("size link %q", got)
	}
	if got := links["中文"]; got != "?lang=zh&size=large" {
		t.Errorf("language link %q does not keep the size", got)
	}
}

func TestMethods(t *testing.T) {
	p := pages(verification(service.Valid))
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(method, "/v/"+ref, nil))
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", method, w.Code, want)
		}
		if method == "HEAD" && w.Body.Len() != 0 {
			t.Errorf("HEAD has a body of %d bytes", w.Body.Len())
		}
	}
}

// everyPage renders each verdict in each language and size.
func everyPage(t *testing.T, check func(t *testing.T, res *http.Response, body string)) {
	t.Helper()
	for _, verdict := range verdicts {
		for _, query := range []string{"?lang=zh", "?lang=en", "?lang=zh&size=large", "?lang=en&size=large", "?lang=zh&at=2026-11-10", "?lang=en&at=soon"} {
			t.Run(string(verdict)+query, func(t *testing.T) {
				res, body := get(t, pages(verification(verdict)), "/v/"+ref+query, "")
				check(t, res, body)
			})
		}
	}
	t.Run("malformed", func(t *testing.T) {
		res, body := get(t, pages(verification(service.Valid)), "/v/x", "")
		check(t, res, body)
	})
	t.Run("a long history", func(t *testing.T) {
		res, body := get(t, pages(eventful()), "/v/"+ref, "")
		check(t, res, body)
	})
	for name, checked := range files() {
		t.Run("file "+name, func(t *testing.T) {
			w := httptest.NewRecorder()
			pages(verification(service.Valid)).ServeChecked(w, httptest.NewRequest(http.MethodPost, "/verify?lang=en", nil), checked)
			check(t, w.Result(), w.Body.String())
		})
	}
}

// eventful is the longest history that a certificate can have, in the longest words.
func eventful() service.Verification {
	v := verification(service.Revoked)
	v.Certificate.Changes = v.Certificate.Changes[:1]
	for i := range domain.MaxStatusChanges - 1 {
		changed(v.Certificate, []domain.CertificateStatus{domain.CertificateSuspended, domain.CertificateValid}[i%2])
		v.Certificate.StatusAct.DocumentNo = strings.Repeat("号", domain.MaxName)
		v.Certificate.StatusAct.LegalBasis = strings.Repeat("法", domain.MaxText)
	}
	v.Certificate.Changes = v.Certificate.Changes[:domain.MaxStatusChanges-1]
	changed(v.Certificate, domain.CertificateRevoked)
	*v.Certificate.StatusAct = *v.Certificate.Changes[5].Act
	return v
}

func TestPolicyAndSize(t *testing.T) {
	script := len(New(nil, Options{}).files[FilePath+"/page.js"])
	everyPage(t, func(t *testing.T, res *http.Response, body string) {
		if size := len(body) + script; size > 60<<10 {
			t.Errorf("page and script have %d bytes, more than 60 KiB", size)
		}
		doc := parse(t, body)
		for _, forbidden := range []string{"iframe", "object", "embed", "base", "img"} {
			if n := len(doc.elements(forbidden)); n != 0 {
				t.Errorf("page has %d <%s>", n, forbidden)
			}
		}
		if scripts := doc.elements("script"); len(scripts) != 1 || attr(scripts[0], "src") != "/verify/page.js" || scripts[0].FirstChild != nil {
			t.Errorf("scripts %v, want page.js alone", scripts)
		}
		for _, form := range doc.elements("form") {
			if action := attr(form, "action"); action != "" && !strings.HasPrefix(action, "/verify?") {
				t.Errorf("a form goes to %q", action)
			}
		}
		for _, input := range doc.elements("input") { // no page asks who somebody is
			if kind := attr(input, "type"); kind == "text" && attr(input, "id") != "code" || kind == "password" || kind == "email" || kind == "tel" {
				t.Errorf("page asks for %v", input.Attr)
			}
			if attr(input, "id") == "code" && attr(input, "name") != "" {
				t.Error("the check code has a name: a form could send it")
			}
		}
		for n := range doc.root.Descendants() {
			for _, a := range n.Attr {
				if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
					t.Errorf("<%s> has attribute %s", n.Data, a.Key)
				}
				if (a.Key == "href" || a.Key == "src") && !strings.HasPrefix(a.Val, "?") && !strings.HasPrefix(a.Val, "#") &&
					!strings.HasPrefix(a.Val, "/v1/") && !strings.HasPrefix(a.Val, "/v/") && a.Val != "data:," && a.Val != "/verify/page.js" {
					t.Errorf("<%s %s=%q> leaves the page", n.Data, a.Key, a.Val)
				}
			}
		}
		styles := doc.elements("style")
		if len(styles) != 1 {
			t.Fatalf("%d <style>", len(styles))
		}
		sum := sha256.Sum256([]byte(styles[0].FirstChild.Data))
		policy := res.Header.Get("Content-Security-Policy")
		for _, want := range []string{
			"default-src 'none'", "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'", "script-src 'self';", "connect-src 'self';",
			"img-src 'self' data:", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'; trusted-types 'none'",
		} {
			if !strings.Contains(policy, want) {
				t.Errorf("policy %q lacks %q", policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("policy %q", policy)
		}
		for name, want := range map[string]string{
			"Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
			"X-Content-Type-Options": "nosniff", "Content-Type": "text/html; charset=utf-8",
			"Content-Length": strconv.Itoa(len(body)), "Set-Cookie": "",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
}

// TestStructure checks what a screen reader relies on: one main heading, no
// level skipped, every label named, no id twice.
func TestStructure(t *testing.T) {
	everyPage(t, func(t *testing.T, _ *http.Response, body string) {
		doc := parse(t, body)
		if n := len(doc.elements("main")); n != 1 {
			t.Errorf("%d <main>", n)
		}
		if title := words(doc.elements("title")[0]); !strings.HasPrefix(title, words(doc.elements("h1")[0])) {
			t.Errorf("title %q does not begin with the verdict", title)
		}
		ids := make(map[string]bool)
		for n := range doc.root.Descendants() {
			if id := attr(n, "id"); id != "" {
				if ids[id] {
					t.Errorf("id %q twice", id)
				}
				ids[id] = true
			}
		}
		for n := range doc.root.Descendants() {
			if by := attr(n, "aria-labelledby"); by != "" && !ids[by] {
				t.Errorf("label %q does not exist", by)
			}
		}
		for _, a := range doc.elements("a") {
			if words(a) == "" {
				t.Errorf("link %q without text", attr(a, "href"))
			}
			if href := attr(a, "href"); strings.HasPrefix(href, "#") && !ids[href[1:]] {
				t.Errorf("link %q leads nowhere", href)
			}
		}
		for _, dl := range doc.elements("dd") {
			if words(dl) == "" {
				t.Error("a fact is empty")
			}
		}
		labelled := make(map[string]bool)
		for _, label := range doc.elements("label") {
			labelled[attr(label, "for")] = true
		}
		for _, input := range doc.elements("input") {
			if attr(input, "type") != "hidden" && !labelled[attr(input, "id")] {
				t.Errorf("input %q has no label", attr(input, "id"))
			}
			if by := attr(input, "aria-describedby"); by != "" && !ids[by] {
				t.Errorf("description %q does not exist", by)
			}
		}
	})
}

// hostile are texts that a malicious or careless issuer could put into a
// certificate.
func hostile() []string {
	seeds := []string{
		`<script>alert(1)</script>`, `</bdi><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`,
		`<svg onload=alert(1)>`, `<iframe src=javascript:alert(1)>`, `javascript:alert(1)`, `</style><script>alert(1)</script>`,
		`</title><script>alert(1)</script>`, `<a href=//evil.example>x</a>`, `<form action=//evil.example><input name=id>`,
		`<base href=//evil.example/>`, `<meta http-equiv=refresh content=0;url=//evil.example>`, `{{.Verdict}}`, `{{template "page"}}`,
		`<!--`, `-->`, `]]>`, `<math><mtext></table><mglyph><style><img src=x onerror=alert(1)>`, `&lt;script&gt;`, `&#60;script&#62;`,
		`<ScRiPt>alert(1)</sCrIpT>`, "<scr\x00ipt>alert(1)</script>", `＜script＞alert(1)＜/script＞`, "\u202e<script>alert(1)</script>\u202c",
		`"onmouseover="alert(1)`, `'onfocus='alert(1)' autofocus='`, "`onclick=alert(1)`", `<details open ontoggle=alert(1)>`,
		`<link rel=stylesheet href=//evil.example>`, `<style>body{display:none}</style>`, `<h1>有效</h1>`, `<p class="verdict valid">有效</p>`,
		`=cmd|'/c calc'!A1`, `%3Cscript%3E`, `\u003cscript\u003e`, "居住证\n<script>", strings.Repeat("长", 400), strings.Repeat("x", 400),
		`<object data=//evil.example>`, `<embed src=//evil.example>`, `<video><source onerror=alert(1)>`, `<body onload=alert(1)>`,
	}
	var all []string
	for _, s := range seeds {
		all = append(all, s, "居住证"+s, s+"居住证", strings.ToUpper(s), address(s))
	}
	return all
}

func address(s string) string { return "https://example.invalid/?q=" + s }

func TestHostileTextIsEscaped(t *testing.T) {
	corpus := hostile()
	if len(corpus) < 200 {
		t.Fatalf("corpus of %d texts", len(corpus))
	}
	plain := func() (elements int) {
		_, body := get(t, pages(verification(service.Revoked)), "/v/"+ref, "")
		for n := range parse(t, body).root.Descendants() {
			if n.Type == html.ElementNode {
				elements++
			}
		}
		return elements
	}()
	for i, text := range corpus {
		v := verification(service.Revoked)
		v.Certificate.Content.TypeNameZh = text
		v.Certificate.Content.TypeNameEn = text
		v.Certificate.Content.CertID = text
		v.Certificate.Content.IssuerUSCC = text
		v.Certificate.StatusAct.DocumentNo = text // of the last change, too
		v.Certificate.StatusAct.LegalBasis = text
		v.Issuer.NameZh, v.Issuer.NameEn = text, text
		_, body := get(t, pages(v), "/v/"+ref, "")
		doc := parse(t, body)
		elements := 0
		for n := range doc.root.Descendants() {
			if n.Type == html.ElementNode {
				elements++
			}
			if n.Type == html.CommentNode {
				t.Errorf("text %d %q made a comment", i, text)
			}
		}
		if elements != plain {
			t.Errorf("text %d %q changed the page from %d to %d elements", i, text, plain, elements)
		}
		if n := len(doc.elements("script")); n != 1 {
			t.Errorf("text %d %q made %d <script>", i, text, n-1)
		}
		if got := words(doc.elements("h1")[0]); got != "已撤销" {
			t.Errorf("text %d %q: heading %q", i, text, got)
		}
		shown := strings.Join(strings.Fields(strings.ReplaceAll(text, "\x00", "\ufffd")), " ")
		if !strings.Contains(words(doc.elements("main")[0]), shown) {
			t.Errorf("text %d %q is not shown as it is", i, text)
		}
	}
}

func TestTextsHaveEqualKeys(t *testing.T) {
	keys := func(lang string) []string {
		data, err := textFiles.ReadFile("text/" + lang + ".json")
		if err != nil {
			t.Fatal(err)
		}
		// A repeated key would hide a text: count tokens, not map entries.
		var out []string
		dec := json.NewDecoder(bytes.NewReader(data))
		for i := 0; ; i++ {
			token, err := dec.Token()
			if err != nil {
				break
			}
			if s, ok := token.(string); ok && i%2 == 1 {
				out = append(out, s)
			}
		}
		sort.Strings(out)
		return out
	}
	zh, en := keys("zh"), keys("en")
	if len(zh) < 50 {
		t.Fatalf("only %d texts", len(zh))
	}
	if diff := cmp.Diff(zh, en); diff != "" {
		t.Errorf("keys (-zh +en):\n%s", diff)
	}
	for i := 1; i < len(zh); i++ {
		if zh[i] == zh[i-1] {
			t.Errorf("key %q twice", zh[i])
		}
	}
	verbs := regexp.MustCompile(`%[a-z]`)
	a, b := mustText(textFiles, "text/zh.json"), mustText(textFiles, "text/en.json")
	for key := range a {
		if a[key] == "" || b[key] == "" {
			t.Errorf("text %q is empty", key)
		}
		if diff := cmp.Diff(verbs.FindAllString(a[key], -1), verbs.FindAllString(b[key], -1)); diff != "" {
			t.Errorf("verbs of %q differ: %s", key, diff)
		}
	}
	used := regexp.MustCompile(`\bt "([a-z_]+)"`).FindAllStringSubmatch(pageSource, -1)
	if len(used) < 30 {
		t.Fatalf("the template uses only %d texts", len(used))
	}
	for _, m := range used {
		if _, ok := a[m[1]]; !ok {
			t.Errorf("the template uses %q, which has no text", m[1])
		}
	}
}

// TestContrast computes the contrast (WCAG 2.2) of every pair of colours that
// the style puts on one another: at least 7 to 1 for text.
func TestContrast(t *testing.T) {
	colours := make(map[string]string)
	for _, m := range regexp.MustCompile(`--([a-z_]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(styleSource, -1) {
		colours[m[1]] = m[2]
	}
	pairs := [][2]string{{"ink", "paper"}, {"soft", "paper"}, {"link", "paper"}, {"ink", "panel"}, {"soft", "panel"}, {"link", "panel"}, {"on", "link"}, {"alert", "paper"}, {"good", "paper"}}
	for _, verdict := range append([]service.Verdict{malformed, noFile, service.Recorded, service.BadProof}, verdicts...) {
		pairs = append(pairs, [2]string{"on", string(verdict)})
		if !strings.Contains(styleSource, fmt.Sprintf(".verdict.%[1]s { background: var(--%[1]s); }", verdict)) {
			t.Errorf("no colour for %s", verdict)
		}
	}
	for _, p := range pairs {
		a, b := colours[p[0]], colours[p[1]]
		if a == "" || b == "" {
			t.Errorf("colour %v is missing", p)
			continue
		}
		if got := contrast(t, a, b); got < 7 {
			t.Errorf("%s on %s: %.2f to 1, less than 7", p[0], p[1], got)
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	la, lb := luminance(t, a), luminance(t, b)
	if la < lb {
		la, lb = lb, la
	}
	return (la + 0.05) / (lb + 0.05)
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.03928 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
