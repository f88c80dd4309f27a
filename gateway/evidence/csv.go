package evidence

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/gateway/trail"
)

// byteOrderMark at the beginning of a CSV file has office software read Chinese
// as it is.
const byteOrderMark = "\ufeff"

// columns are those of a trace in CSV: first where the record lies, then the
// record's own fields.
var columns = []struct {
	name string
	cell func(trail.Entry) string
}{
	{"log", func(e trail.Entry) string { return string(e.Department) }},
	{"index", func(e trail.Entry) string { return strconv.FormatUint(e.Index, 10) }},
	{"leafHash", func(e trail.Entry) string { return hex.EncodeToString(e.LeafHash) }},
	{"anchorSize", func(e trail.Entry) string { return strconv.FormatUint(e.AnchorSize, 10) }},
	{"at", func(e trail.Entry) string { return timeCell(e.Record.At) }},
	{"respondedAt", func(e trail.Entry) string { return timeCell(e.Record.RespondedAt) }},
	{"loggedAt", func(e trail.Entry) string { return timeCell(e.Record.LoggedAt) }},
	{"direction", func(e trail.Entry) string { return string(e.Record.Direction) }},
	{"provider", func(e trail.Entry) string { return string(e.Record.Provider) }},
	{"consumer", func(e trail.Entry) string { return string(e.Record.Consumer) }},
	{"callId", func(e trail.Entry) string { return e.Record.CallID }},
	{"grantId", func(e trail.Entry) string { return e.Record.GrantID }},
	{"grantSeq", func(e trail.Entry) string { return strconv.Itoa(e.Record.GrantSeq) }},
	{"catalogCode", func(e trail.Entry) string { return e.Record.CatalogCode }},
	{"catalogVersion", func(e trail.Entry) string { return strconv.Itoa(e.Record.CatalogVersion) }},
	{"items", func(e trail.Entry) string { return strings.Join(e.Record.Items, "|") }},
	{"purpose", func(e trail.Entry) string { return e.Record.Purpose }},
	{"legalBasis", func(e trail.Entry) string { return e.Record.LegalBasis }},
	{"serviceItem", func(e trail.Entry) string { return e.Record.ServiceItem }},
	{"caseRef", func(e trail.Entry) string { return e.Record.CaseRef }},
	{"system", func(e trail.Entry) string { return e.Record.System }},
	{"operator", func(e trail.Entry) string { return e.Record.Operator }},
	{"operatorRole", func(e trail.Entry) string { return e.Record.OperatorRole }},
	{"subjectRef", func(e trail.Entry) string { return e.Record.SubjectRef }},
	{"recordCount", func(e trail.Entry) string { return strconv.FormatInt(e.Record.RecordCount, 10) }},
	{"requestDigest", func(e trail.Entry) string { return e.Record.RequestDigest }},
	{"responseDigest", func(e trail.Entry) string { return e.Record.ResponseDigest }},
	{"channel", func(e trail.Entry) string { return e.Record.Channel }},
	{"result", func(e trail.Entry) string { return e.Record.Result }},
}

func timeCell(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// formulaStarts are what office software takes for the beginning of a formula.
const formulaStarts = "=+-@'"

// CSVHeader answers the names of the columns of a trace in CSV.
func CSVHeader() []string {
	header := make([]string, len(columns))
	for i, c := range columns {
		header[i] = c.name
	}
	return header
}

// CSVRow answers the cells of an entry. A cell that office software would run as
// a formula gets an apostrophe before it.
func CSVRow(e trail.Entry) []string {
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = c.cell(e)
		if row[i] != "" && strings.IndexByte(formulaStarts, row[i][0]) >= 0 {
			row[i] = "'" + row[i]
		}
	}
	return row
}
