package domain

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestFindings(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []Finding
	}{
		{
			"items[3].shareType: looser than the resource's; name: longer than 200 characters",
			[]Finding{
				{"items[3].shareType", "looser-than-resource", "比资源的共享类型更宽", "looser than the resource's"},
				{"name", "too-long", "超过200个字符", "longer than 200 characters"},
			},
		},
		{"shareMode: not one of mail, medium", []Finding{{"shareMode", "not-in-list", "取值只能是：mail, medium", "not one of mail, medium"}}},
		{"days: 30 working days asked for, at most 5 may be added", []Finding{{"days", "extension-too-long", "申请延期30个工作日，最多可延期5个工作日", "30 working days asked for, at most 5 may be added"}}},
		{"the working days of 2031 are not set: the lead sets them with governance:SetCalendar", []Finding{{
			"", "calendar-missing", "2031年的工作日尚未设定，由主管部门通过governance:SetCalendar设定",
			"the working days of 2031 are not set: the lead sets them with governance:SetCalendar",
		}}},
		{"certId: serial: " + personalRule, []Finding{{"certId", "personal-number", "serial：疑似含有公民身份号码或手机号码，不得上链", "serial: " + personalRule}}},
		{"3 more findings", []Finding{{"", "more-findings", "另有3处问题未列出", "3 more findings"}}},
		{"name: from a newer chaincode", []Finding{{"name", RuleOther, "不符合要求：from a newer chaincode", "from a newer chaincode"}}},
		{"quota.total: used up %s", []Finding{{"quota.total", RuleOther, "不符合要求：used up %s", "used up %s"}}},
		{"shareMode: not one of %d, %s", []Finding{{"shareMode", "not-in-list", "取值只能是：%d, %s", "not one of %d, %s"}}},
	} {
		e, ok := ParseError("invalid: " + tc.text)
		if !ok {
			t.Fatal(tc.text)
		}
		if got := Findings(fmt.Errorf("submit: %w", e)); fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("Findings(%q)\ngot  %q\nwant %q", tc.text, got, tc.want)
		}
	}
	for _, err := range []error{nil, errors.New("name: required"), refuse(Forbidden, "name: required")} {
		if got := Findings(err); got != nil {
			t.Errorf("Findings(%v) = %v", err, got)
		}
	}
}

func TestRuleTexts(t *testing.T) {
	ids, texts := map[string]bool{}, map[string]bool{}
	kebab := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for _, r := range ruleTexts {
		id, en, zh := r[0], r[1], r[2]
		if ids[id] || texts[en] || !kebab.MatchString(id) || id == RuleOther {
			t.Errorf("rule %s or its text is repeated or badly named", id)
		}
		ids[id], texts[en] = true, true
		if fmt.Sprint(parameterShape.FindAllString(en, -1)) != fmt.Sprint(parameterShape.FindAllString(zh, -1)) {
			t.Errorf("rule %s takes other parameters in Chinese", id)
		}
		if strings.Contains(en+zh, "; ") || !strings.ContainsFunc(zh, func(r rune) bool { return r >= '一' && r <= '龥' }) {
			t.Errorf("rule %s: %q, %q", id, en, zh)
		}
		if got, _ := ruleOf(sample(en)); got != id {
			t.Errorf("%q is taken for rule %s, want %s", sample(en), got, id)
		}
	}
}

// sample fills the parameters of a rule's text.
func sample(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "%d", "7"), "%s", "x")
}

// TestEveryRuleHasATranslation walks the package's source: each text that is
// given to findings, or to a refusal of kind invalid, must be a rule.
func TestEveryRuleHasATranslation(t *testing.T) {
	files, constants := parsePackage(t)
	found := 0
	for _, file := range files {
		for _, decl := range file.Decls {
			fn, isFunc := decl.(*ast.FuncDecl)
			ast.Inspect(decl, func(n ast.Node) bool {
				text, given := ruleText(n)
				if !given {
					return true
				}
				template, known := textOf(text, constants)
				switch {
				case known:
				case isFunc && fn.Name.Name == "match": // passes on what it is given, as its callers are walked
					return true
				case isFunc && fn.Recv != nil && fn.Name.Name == "check" && template == "e.Msg": // the error of ParseCertificateID
					return true
				default:
					t.Errorf("cannot read a rule in %s", declName(decl))
					return true
				}
				found++
				if at := fieldShape.FindString(template); at != "" {
					template = template[len(at):]
				}
				template = strings.ReplaceAll(template, "events[%d]: ", "")
				if id, _ := ruleOf(sample(template)); id == RuleOther {
					t.Errorf("%s: no rule has the text %q", declName(decl), template)
				}
				return true
			})
		}
	}
	if found < 100 {
		t.Errorf("found %d texts only", found)
	}
}

func declName(d ast.Decl) string {
	if fn, ok := d.(*ast.FuncDecl); ok {
		return fn.Name.Name
	}
	return "a declaration"
}

func parsePackage(t *testing.T) (files []*ast.File, constants map[string]ast.Expr) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	constants = map[string]ast.Expr{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, value := range spec.Values {
					constants[spec.Names[i].Name] = value
				}
			}
			return true
		})
	}
	return files, constants
}

// ruleText is the expression of the text when n gives one to findings, or to an
// error of kind invalid.
func ruleText(n ast.Node) (ast.Expr, bool) {
	switch n := n.(type) {
	case *ast.CallExpr:
		switch fun := n.Fun.(type) {
		case *ast.SelectorExpr:
			if fun.Sel.Name == "add" && len(n.Args) == 2 || fun.Sel.Name == "match" && len(n.Args) == 4 {
				return n.Args[len(n.Args)-1], true
			}
		case *ast.Ident:
			if fun.Name == "refuse" && len(n.Args) >= 2 && isIdent(n.Args[0], "Invalid") {
				return n.Args[1], true
			}
		}
	case *ast.CompositeLit:
		if isIdent(n.Type, "Error") && len(n.Elts) == 2 {
			kind, _ := n.Elts[0].(*ast.KeyValueExpr)
			msg, _ := n.Elts[1].(*ast.KeyValueExpr)
			if kind == nil || msg == nil || !isIdent(kind.Value, "Invalid") {
				return nil, false
			}
			if call, ok := msg.Value.(*ast.CallExpr); ok {
				if fun, ok := call.Fun.(*ast.SelectorExpr); ok && (fun.Sel.Name == "Join" || fun.Sel.Name == "Error") {
					return nil, false // findings, joined, and the error of the JSON encoder
				}
			}
			if bin, ok := msg.Value.(*ast.BinaryExpr); ok {
				if call, ok := bin.Y.(*ast.CallExpr); ok && isIdent(call.Fun, "decodeFault") {
					return nil, false // see TestDecodeFaultsAreRules
				}
			}
			return msg.Value, true
		}
	}
	return nil, false
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// textOf is the text of an expression with %d and %s for what is not constant.
func textOf(e ast.Expr, constants map[string]ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return strings.ReplaceAll(s, "%q", "%s"), err == nil
	case *ast.Ident:
		if value, ok := constants[e.Name]; ok {
			return textOf(value, constants)
		}
	case *ast.BinaryExpr:
		x, okX := textOf(e.X, constants)
		y, okY := textOf(e.Y, constants)
		if !okX {
			x = "%s"
		}
		if !okY {
			y = "%s"
		}
		return x + y, okX || okY
	case *ast.CallExpr:
		if fun, ok := e.Fun.(*ast.SelectorExpr); ok && fun.Sel.Name == "Sprintf" {
			return textOf(e.Args[0], constants)
		}
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok {
			return x.Name + "." + e.Sel.Name, false
		}
	}
	return "", false
}

func TestDecodeFaultsAreRules(t *testing.T) {
	for _, text := range []string{
		`{"code":13800000000}`, `{"code":1x`, `{"code":"3`, `{"x":1}`, `{"13800000000":1}`, `{"code": "1"}`, `{}{}`, ``, `[]`,
	} {
		var a CodeArgs
		for _, f := range Findings(ParseCanonical([]byte(text), &a)) {
			if f.Rule == RuleOther || f.Field != "" {
				t.Errorf("%s: %+v", text, f)
			}
		}
	}
	var p Period
	if f := Findings(ParseCanonical([]byte(`{"from":"yesterday","to":""}`), &p)); len(f) != 1 || f[0].Rule != "json-time" {
		t.Errorf("findings %+v", f)
	}
}

// FuzzFindings checks that what crosses the ledger as text comes back as it was
// found.
func FuzzFindings(f *testing.F) {
	f.Add("名称", "N", uint8(0), "rest", 5)
	f.Add("13800000000", "N（万元）", uint8(3), "; ", -1)
	f.Add("", "\x00", uint8(255), "mail", 1<<40)
	f.Fuzz(func(t *testing.T, name, kind string, b uint8, format string, n int) {
		c := someContent()
		c.Name, c.Items[0].Type, c.Items[0].ShareType, c.Format, c.Level = name, kind, ShareType(b), format, n
		c.FormatType, c.RelatedCodes, c.PersonalData = kind, []string{name, name}, format
		var found findings
		found.prefix = "content."
		c.check(&found)
		Certificate{}.Content.check(&found)
		found.list = found.list[:min(len(found.list), MaxFindings)]
		err := found.err()
		if err == nil {
			return
		}
		e, ok := ParseError(err.Error())
		if !ok {
			t.Fatal(err)
		}
		got := Findings(e)
		if len(got) != len(found.list) {
			t.Fatalf("%d findings, want %d: %q", len(got), len(found.list), found.list)
		}
		for i, g := range got {
			if g.Field+": "+g.En != found.list[i] || g.Rule == RuleOther || g.Zh == "" {
				t.Errorf("%+v, want %s", g, found.list[i])
			}
		}
	})
}
