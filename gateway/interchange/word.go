package interchange

import (
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// word is a word of a file and what it means in the catalog.
type word[T comparable] struct {
	text  string
	value T
}

// words translate both ways; of several words for one value the first is written.
type words[T comparable] []word[T]

// value translates text, or notes which words there are.
func (w words[T]) value(found *[]domain.Finding, field, text string) T {
	for _, each := range w {
		if each.text == text {
			return each.value
		}
	}
	var known []string
	for _, each := range w {
		if each.text != "" {
			known = append(known, each.text)
		}
	}
	*found = append(*found, unknownWord(field, strings.Join(known, ", ")))
	var zero T
	return zero
}

// text is the word for a value, "" for a value that has none.
func (w words[T]) text(value T) string {
	for _, each := range w {
		if each.value == value {
			return each.text
		}
	}
	return ""
}

// The words of the national form.
var (
	shareTypes = words[domain.ShareType]{
		{"无条件共享", domain.Unconditional}, {"有条件共享", domain.Conditional}, {"不予共享", domain.NotShared},
		{"1", domain.Unconditional}, {"2", domain.Conditional}, {"3", domain.NotShared},
	}
	openTypes = words[domain.OpenType]{
		{"无条件开放", domain.OpenFreely}, {"有条件开放", domain.OpenConditional}, {"不予开放", domain.NotOpen},
		{"1", domain.OpenFreely}, {"2", domain.OpenConditional}, {"3", domain.NotOpen},
	}
	cycles = words[string]{
		{"不定期", "irregular"}, {"不定时", "irregular"}, {"实时", "realtime"},
		{"每日", "daily"}, {"每天", "daily"}, {"每周", "weekly"}, {"每月", "monthly"}, {"每季度", "quarterly"},
		{"每半年", "half_yearly"}, {"每年", "yearly"}, {"其他", "other"},
	}
	formatWords = words[string]{
		{"电子文件", "file"}, {"电子表格", "spreadsheet"}, {"数据库", "database"}, {"图形图像", "image"},
		{"流媒体", "stream"}, {"自描述格式", "self_describing"}, {"服务接口", "api"},
	}
	modes = words[string]{
		{"共享平台库表", "platform_table"}, {"共享平台文件", "platform_file"}, {"共享平台接口", "platform_api"},
		{"库表", "platform_table"}, {"文件", "platform_file"}, {"接口", "platform_api"}, {"邮件", "mail"}, {"介质", "medium"},
	}
	personal  = words[string]{{"不涉及", "none"}, {"无", "none"}, {"一般", "general"}, {"敏感", "sensitive"}}
	yesNo     = words[bool]{{"是", true}, {"否", false}, {"", false}}
	itemTypes = words[string]{
		{"字符", "C"}, {"数值", "N"}, {"货币", "Y"}, {"日期", "D"}, {"日期时间", "T"}, {"逻辑", "L"},
		{"备注", "M"}, {"通用", "G"}, {"双精度", "B"}, {"整型", "I"}, {"浮点", "F"},
		{"C", "C"}, {"N", "N"}, {"Y", "Y"}, {"D", "D"}, {"T", "T"}, {"L", "L"}, {"M", "M"}, {"G", "G"}, {"B", "B"}, {"I", "I"}, {"F", "F"},
	}
	levels = words[int]{{"1", 1}, {"2", 2}, {"3", 3}, {"4", 4}}
)
