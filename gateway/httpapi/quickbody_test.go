package httpapi

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3filter"
)

// generalFault judges a body in the general way; "" is no fault.
func generalFault(op *operation, body []byte) string {
	if fault := bodyFault(body); fault != "" {
		return fault
	}
	r := httptest.NewRequest(op.route.Method, "http://example.org/", bytes.NewReader(body))
	r.Header.Set("Content-Type", jsonMedia)
	err := openapi3filter.ValidateRequestBody(r.Context(), &openapi3filter.RequestValidationInput{Request: r, Route: op.route, Options: validateOptions},
		op.route.Operation.RequestBody.Value)
	if err != nil {
		return err.Error()
	}
	return ""
}

func checkQuickBody(t *testing.T, op *operation, body []byte) {
	t.Helper()
	if !op.quick.accepts(body) {
		return
	}
	if fault := generalFault(op, body); fault != "" {
		t.Errorf("%s %s: accepts %.300q, and the general way finds: %.300s", op.route.Method, op.route.Path, body, fault)
	}
}

// quickOperations are the operations whose bodies are judged in one pass, with the
// sample of each.
func quickOperations(t testing.TB) (ops []*operation, bodies []string) {
	all, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range samples {
		method, path, _ := strings.Cut(name, " ")
		if op := all[operationKey(method, ginPath(path))]; op.quick != nil && s.body != "" {
			ops, bodies = append(ops, op), append(bodies, s.body)
		}
	}
	return ops, bodies
}

// accessOperation takes what there is most of.
func accessOperation(t testing.TB) *operation {
	all, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	return all[operationKey("POST", "/v1/access-records")]
}

// What the quick way accepts the general way accepts as well, whatever is done to a
// body; and it does accept what callers send.
func TestQuickBody(t *testing.T) {
	ops, bodies := quickOperations(t)
	if len(ops) < 10 {
		t.Errorf("%d operations are judged in one pass", len(ops))
	}
	for i, op := range ops {
		body := []byte(bodies[i])
		if !op.quick.accepts(body) {
			t.Errorf("%s %s: does not accept its sample", op.route.Method, op.route.Path)
		}
		if spaced := bytes.ReplaceAll(body, []byte(`":`), []byte("\" \t:\r\n ")); !op.quick.accepts(spaced) && generalFault(op, spaced) == "" {
			t.Errorf("%s %s: does not accept space", op.route.Method, op.route.Path)
		}
		for at := range body {
			checkQuickBody(t, op, body[:at])
			for _, put := range []string{"", `"`, `\`, "{}", "]", ",", " ", "-", "0", "00", "1e2", ".5", "9999999999999999", "null", "\x00", "\xff", "库", `"at":"x",`, "A"} {
				checkQuickBody(t, op, []byte(string(body[:at])+put+string(body[at+1:])))
				checkQuickBody(t, op, []byte(string(body[:at])+put+string(body[at:])))
			}
		}
	}
	all, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	register := all[operationKey("POST", "/v1/catalog/entries")]
	for _, sensitive := range []string{"true", "false", " true ", "false\n"} {
		if body := `{"items":[{"sensitive":` + sensitive + `,"name":"x"}]}`; register.quick == nil || !register.quick.accepts([]byte(body)) {
			t.Errorf("registration: does not accept %s", body)
		}
	}
	for _, sensitive := range []string{"truefalse", "tru", "True", `"true"`, "1", "null", "true1"} {
		if body := `{"items":[{"sensitive":` + sensitive + `,"name":"x"}]}`; register.quick.accepts([]byte(body)) {
			t.Errorf("registration: accepts %s", body)
		}
	}
	op := accessOperation(t)
	for name, change := range map[string][2]string{
		"another name":      {`"system"`, `"systems"`},
		"a name twice":      {`"system":"sys"`, `"system":"sys","system":"sys"`},
		"a name missing":    {`"system":"sys",`, ``},
		"a name in capital": {`"system"`, `"System"`},
		"a long text":       {`"sys"`, `"` + strings.Repeat("统", 1001) + `"`},
		"no such value":     {`"api"`, `"fax"`},
		"out of shape":      {`"police"`, `"Police"`},
		"a number as text":  {`"catalogVersion":1`, `"catalogVersion":"1"`},
		"below the least":   {`"catalogVersion":1`, `"catalogVersion":0`},
		"no time":           {`"at":"`, `"at":"1`},
		"no items":          {`["户号"]`, `[]`},
		"more after it":     {`"ok"}`, `"ok"}]}{`},
	} {
		changed := strings.Replace(sampleAccess, change[0], change[1], 1)
		if changed == sampleAccess {
			t.Errorf("%s: changes nothing of %s", name, sampleAccess)
		}
		if op.quick.accepts([]byte(`{"records":[` + changed + `]}`)) {
			t.Errorf("%s: accepted", name)
		}
	}
	if most := `{"records":[` + strings.Repeat(sampleAccess+",", 999) + sampleAccess + `]}`; !op.quick.accepts([]byte(most)) {
		t.Error("does not accept a full batch")
	} else if op.quick.accepts([]byte(strings.Replace(most, "[", "["+sampleAccess+",", 1))) {
		t.Error("accepts more than a full batch")
	}
}

func FuzzQuickBody(f *testing.F) {
	f.Add([]byte(`{"records":[` + sampleAccess + `]}`))
	op := accessOperation(f)
	f.Fuzz(func(t *testing.T, body []byte) { checkQuickBody(t, op, body) })
}
