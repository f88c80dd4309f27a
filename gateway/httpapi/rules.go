package httpapi

import (
	"fmt"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/zhenglian/zhenglian/api"
)

// rule is a rule of the contract itself, as package domain has those of the
// records: a stable name and what it says, with %v for what the contract sets.
type rule struct{ id, zh, en string }

var (
	ruleMissing       = rule{"missing", "缺少该字段", "is missing"}
	ruleUnknownField  = rule{"unknown-field", "接口约定中没有该字段", "is not a field of the contract"}
	ruleNull          = rule{"null", "不能为 null", "must not be null"}
	ruleType          = rule{"type", "类型必须是 %v", "must be of type %v"}
	ruleEnum          = rule{"enum", "只能是下列值之一：%v", "must be one of %v"}
	rulePattern       = rule{"pattern", "必须符合格式 %v", "must match %v"}
	ruleFormat        = rule{"format", "必须符合 %v 格式", "must have the format %v"}
	ruleMinLength     = rule{"min-length", "至少 %v 个字符", "must have at least %v characters"}
	ruleMaxLength     = rule{"max-length", "最多 %v 个字符", "may have at most %v characters"}
	ruleMinItems      = rule{"min-items", "至少 %v 项", "must have at least %v items"}
	ruleMaxItems      = rule{"max-items", "最多 %v 项", "may have at most %v items"}
	ruleMinimum       = rule{"minimum", "不能小于 %v", "must be at least %v"}
	ruleMaximum       = rule{"maximum", "不能大于 %v", "may be at most %v"}
	ruleMalformed     = rule{"malformed", "不是格式正确的 JSON", "is not well-formed JSON"}
	ruleMistyped      = rule{"type", "不是接口约定的类型", "does not have the type that the contract says"}
	ruleEmpty         = rule{"empty", "不能为空", "must not be empty"}
	ruleOnce          = rule{"once", "只能给出一次", "must be given once"}
	ruleUnknownQuery  = rule{"unknown-parameter", "该路径没有此参数", "is not a parameter of this path"}
	ruleOtherQuery    = rule{"unknown-parameter", "该路径没有此参数；可用参数：%v", "is not a parameter of this path; it takes %v"}
	ruleKey           = rule{"idempotency-key", "必须是 1 至 128 个可见 ASCII 字符，只给出一次", "must be 1 to 128 visible ASCII characters, given once"}
	ruleKeyToSign     = rule{"idempotency-key", "离线签名须同时给出该请求头", "is needed with sign-offline"}
	ruleFingerprint   = rule{"fingerprint", "sign-offline 的值必须是证书（DER）的 SHA-256，64 位小写十六进制", "sign-offline must be the SHA-256 of a certificate as DER, 64 lower-case hexadecimal digits"}
	ruleMinBlock      = rule{"min-block", "必须是一个区块号，只给出一次", "must be the number of a block, given once"}
	ruleTag           = rule{"entity-tag", "必须是记录的 ETag，即双引号内的 txId，只给出一个", "must be one ETag of the record: its txId in double quotes"}
	ruleCursor        = rule{"cursor", "不是列表给出的游标", "is not one that a list gave"}
	ruleMoment        = rule{"past-moment", "必须是过去的时间（如 2026-01-31T08:00:00Z）或日期（如 2026-01-31）", "must be a past time as in 2026-01-31T08:00:00Z, or a past day as in 2026-01-31"}
	ruleOtherThanPath = rule{"other-than-path", "与路径所指的记录不一致", "is not the one that the path names"}
	ruleNotAnchored   = rule{"not-anchored", "已存证于日志第 %v 条，尚未锚定", "is durable at index %v, and not anchored yet"}
	ruleOwnLog        = rule{"own-log", "本网关只查询本部门日志，不支持此参数", "is for gateways that read all logs; this one traces its own, newest first"}
	ruleContract      = rule{"contract", "不符合接口约定", "is not what the contract says"}
)

// finding answers that a field breaks r. The values are the contract's own, never
// the client's.
func finding(field string, r rule, values ...any) api.FieldFinding {
	f := api.FieldFinding{Field: field, Rule: r.id, Zh: r.zh, En: r.en}
	if len(values) > 0 {
		f.Zh, f.En = fmt.Sprintf(r.zh, values...), fmt.Sprintf(r.en, values...)
	}
	return f
}

// violation says in words what a schema asks for. The validator's own words are
// not used: some of its messages hold the value.
func violation(at string, e *openapi3.SchemaError) api.FieldFinding {
	s := e.Schema
	switch e.SchemaField {
	case "required":
		return finding(at, ruleMissing)
	case "properties":
		return finding(at, ruleUnknownField)
	case "nullable":
		return finding(at, ruleNull)
	case "type":
		return finding(at, ruleType, strings.Join(s.Type.Slice(), " or "))
	case "enum":
		words := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			words[i] = fmt.Sprint(v)
		}
		return finding(at, ruleEnum, strings.Join(words, ", "))
	case "pattern":
		return finding(at, rulePattern, s.Pattern)
	case "format":
		return finding(at, ruleFormat, s.Format)
	case "minLength":
		return finding(at, ruleMinLength, s.MinLength)
	case "maxLength":
		if s.MaxLength != nil {
			return finding(at, ruleMaxLength, *s.MaxLength)
		}
	case "minItems":
		return finding(at, ruleMinItems, s.MinItems)
	case "maxItems":
		if s.MaxItems != nil {
			return finding(at, ruleMaxItems, *s.MaxItems)
		}
	case "minimum":
		if s.Min != nil {
			return finding(at, ruleMinimum, *s.Min)
		}
	case "maximum":
		if s.Max != nil {
			return finding(at, ruleMaximum, *s.Max)
		}
	}
	return finding(at, ruleContract)
}
