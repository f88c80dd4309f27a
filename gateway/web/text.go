package web

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

//go:embed text/*.json
var textFiles embed.FS

// languages lists the page's languages, the default first.
var languages = []string{"zh", "en"}

// beijing is the legal time of China. It is fixed: a server without time zone
// data must not show other days.
var beijing = time.FixedZone("Asia/Shanghai", 8*60*60)

// text is one language's words by key. The keys date, time and minute are
// layouts of package time.
type text map[string]string

func mustText(files embed.FS, name string) text {
	data, err := files.ReadFile(name)
	if err != nil {
		panic(fmt.Sprintf("web: %v", err))
	}
	var words text
	if err := json.Unmarshal(data, &words); err != nil {
		panic(fmt.Sprintf("web: %s: %v", name, err))
	}
	return words
}

// say is the template function t: the words for key with args put in.
func (words text) say(key string, args ...any) (string, error) {
	s, ok := words[key]
	if !ok {
		return "", fmt.Errorf("no text for %q", key)
	}
	if len(args) == 0 {
		return s, nil
	}
	return fmt.Sprintf(s, args...), nil
}

// spoken are the words that the script says.
func (words text) spoken() text {
	out := make(text)
	for key, s := range words {
		for _, prefix := range []string{"b_", "o_", "p_", "q_", "file_none", "file_large"} {
			if strings.HasPrefix(key, prefix) {
				out[key] = s
			}
		}
	}
	return out
}

// moment writes t in Beijing time in the layout of that key.
func (words text) moment(t time.Time, layout string) string {
	return t.In(beijing).Format(words[layout])
}

// instant writes t as a day where it is the beginning of one, else to the minute.
func (words text) instant(t time.Time) string {
	if isMidnight(t) {
		return words.moment(t, "date")
	}
	return words.moment(t, "minute")
}

// validity writes a half-open period as people read it: a period up to the
// beginning of a day ends with the day before.
func (words text) validity(p domain.Period) string {
	from := words.instant(p.From)
	if p.To.IsZero() {
		return fmt.Sprintf(words["validity_open"], from)
	}
	to := words.moment(p.To, "minute")
	if isMidnight(p.To) {
		to = fmt.Sprintf(words["last_day"], words.moment(p.To.Add(-time.Nanosecond), "date"))
	}
	return fmt.Sprintf(words["validity_span"], from, to)
}

func isMidnight(t time.Time) bool {
	local := t.In(beijing)
	hour, minute, second := local.Clock()
	return hour == 0 && minute == 0 && second == 0 && local.Nanosecond() == 0
}
