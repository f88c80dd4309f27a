package httpapi

import (
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"golang.org/x/text/language"

	"github.com/zhenglian/zhenglian/api"
)

// lang is a language of problem documents. Their type, code and rules are the same
// in both.
type lang string

const (
	english lang = "en" // for who asks for neither: programs, mostly
	chinese lang = "zh"
)

// languageOf answers the language that the request prefers.
func languageOf(c *gin.Context) lang {
	asked := c.Request.Header["Accept-Language"]
	if len(asked) == 0 {
		return english
	}
	// Browsers begin with what they prefer, and say so without a weight.
	first, _, _ := strings.Cut(asked[0], ",")
	if base, _, _ := strings.Cut(first, "-"); !strings.Contains(first, ";") && (lang(base) == english || lang(base) == chinese) {
		return lang(base)
	}
	tags, _, err := language.ParseAcceptLanguage(asked[0])
	if err != nil {
		return english
	}
	for _, tag := range tags {
		base, sure := tag.Base()
		if l := lang(base.String()); sure == language.Exact && slices.Contains([]lang{english, chinese}, l) {
			return l
		}
	}
	return english
}

// problemOf answers what the client is told of a refusal.
func problemOf(r *refusal, l lang, trace string) api.Problem {
	p := problems[r.code]
	out := api.Problem{
		Type: ProblemType + string(r.code), Title: p.title, Status: p.status,
		Detail: r.detail, Code: r.code, TraceID: trace, State: r.state, Fields: r.fields,
	}
	if l == chinese {
		out.Title, out.Detail = p.titleZh, detailZh(r)
	}
	return out
}

// detailZh says in Chinese what is wrong in this case. Where only the rule's own
// text says it, which contracts and rules write in English, that text follows.
func detailZh(r *refusal) string {
	if len(r.fields) > 0 {
		var found []string
		for _, f := range r.fields {
			found = append(found, f.Field+"："+f.Zh)
		}
		return strings.Join(found, "；")
	}
	if zh, ok := detailsZh[r.detail]; ok {
		return zh
	}
	zh := problems[r.code].titleZh
	if said, ok := kindsZh[r.kind]; ok {
		zh = said
	}
	return zh + "（" + r.detail + "）"
}

// detailsZh are the texts that HTTP itself gives rise to. A test keeps it complete.
var detailsZh = map[string]string{
	internalDetail:    "网关发生故障；原因记录在网关日志中，以 traceId 查找",
	rejectedDetail:    "该写入未生效；原因记录在网关日志中",
	unavailableDetail: "账本无法访问或应答的部门不足；没有写入任何内容",
	lateDetail:        "应答超时；写入仍可能已被记录",
	fullDetail:        "等待上链的写入已达上限；没有写入任何内容；请按 Retry-After 所示时间后再试；带 Idempotency-Key 的写入可以在此排队",
	busyDetail:        "等待写入的访问留痕过多；本次一条也未记录；请按 Retry-After 所示时间后重新发送",

	"there is nothing under this path":                                                               "该路径下没有任何内容",
	"this path does not take the method; the Allow header lists those it takes":                      "该路径不支持此方法；可用方法见 Allow",
	"too many people ask this gateway at this moment; the Retry-After header says when to try again": "此刻查询本网关的人过多；请按 Retry-After 所示时间后再试",
	"too many requests; the Retry-After header says when to try again":                               "请求过多；请按 Retry-After 所示时间后再试",
	"who calls cannot be checked now":                                                                "暂时无法核实请求者的身份",
	"this path needs the header Authorization: Bearer TOKEN":                                         "该路径需要请求头 Authorization: Bearer 令牌",
	"this gateway does not accept the client certificate":                                            "本网关不接受该客户端证书",
	"this gateway does not know the access token":                                                    "本网关不认识该访问令牌",
	"the body ended early or took too long":                                                          "请求体提前结束或传输过久",
	"the request cannot be read as the contract says":                                                "请求无法按接口约定读取",
	"the form has no file":                                                                           "表单中没有文件",
	"the body is empty; it must be a JSON object":                                                    "请求体为空；必须是一个 JSON 对象",
	"the body is not UTF-8":                                                                          "请求体不是 UTF-8 编码",
	"the body is not one well-formed JSON value":                                                     "请求体不是一个格式正确的 JSON 值",
	"the body names a field twice in one object":                                                     "请求体的一个对象中重复出现同名字段",
}
