package network

import (
	"os"
	"strings"
	"testing"
	"time"
)

// defaultDefinition is the definition that the repository ships.
func defaultDefinition(t *testing.T) *Definition {
	t.Helper()
	def, err := LoadDefinition("consortium.yaml")
	if err != nil {
		t.Fatalf("LoadDefinition: %v", err)
	}
	return def
}

func TestDefaultDefinition(t *testing.T) {
	def := defaultDefinition(t)
	if got, want := def.Quorum(), 3; got != want {
		t.Errorf("Quorum() = %d, want %d", got, want)
	}
	if got, want := time.Duration(def.Ordering.RequestBatchMaxInterval), 200*time.Millisecond; got != want {
		t.Errorf("requestBatchMaxInterval = %s, want %s", got, want)
	}
	for i, want := range []string{"http://127.0.0.1:8081", "http://127.0.0.1:8082", "http://127.0.0.1:8083", "http://127.0.0.1:8084"} {
		if got := def.Departments[i].URL(); got != want {
			t.Errorf("URL of %s = %s, want %s", def.Departments[i].Code, got, want)
		}
	}
	for _, dept := range def.Departments {
		if len(dept.Listeners()) != 10 {
			t.Errorf("%s has %d listeners, want 10", dept.Code, len(dept.Listeners()))
		}
	}
}

func TestParseDefinitionRefuses(t *testing.T) {
	source, err := os.ReadFile("consortium.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		old, new string // one replacement in the shipped file
		want     string // what the error says
	}{
		{"unknown key", "lead: bigdata", "leader: bigdata", "field leader not found"},
		{"unknown key of a department", "nameZh: 公安局", "nameCn: 公安局", "field nameCn not found"},
		{"key twice", "lead: bigdata", "lead: bigdata\nlead: police", "lead"},
		{"second document", "format:", "format: x\n---\nformat:", "second YAML document"},
		{"format", "zhenglian-consortium/1", "zhenglian-consortium/2", "format must be zhenglian-consortium/1"},
		{"lead", "lead: bigdata", "lead: finance", `lead must be the code of one of the departments, and "finance" is not`},
		{"endorsement", "endorsement: majority", "endorsement: any", "endorsement must be majority"},
		{"duration", "requestForwardTimeout: 1s", "requestForwardTimeout: 1", `"1" is not a duration`},
		{"batch timer", "requestBatchMaxInterval: 200ms", "requestBatchMaxInterval: 0s", "ordering.requestBatchMaxInterval must be positive"},
		{"complain before forward", "requestComplainTimeout: 4s", "requestComplainTimeout: 500ms", "ordering.requestComplainTimeout must not be shorter than requestForwardTimeout"},
		{"resend after view change", "viewChangeResendInterval: 2s", "viewChangeResendInterval: 9s", "ordering.viewChangeTimeout must not be shorter than viewChangeResendInterval"},
		{"pool", "requestPoolSize: 100000", "requestPoolSize: 900", "ordering.requestPoolSize must be at least twice maxMessages"},
		{"code", "code: police", "code: Police", "departments[Police].code must be"},
		{"code twice", "code: police", "code: bigdata", "departments[bigdata].code must be unique"},
		{"MSP ID twice", "mspId: PoliceMSP", "mspId: BigdataMSP", "departments[police].mspId must be unique, and departments[bigdata].mspId has BigdataMSP as well"},
		{"check character", "uscc: 11990000A0000002XT", "uscc: 11990000A0000002XX", `departments[police].uscc must end in the check character 'T'`},
		{"length of code", "uscc: 11990000A0000002XT", "uscc: 11990000A0000002X", "departments[police].uscc must be the 18 characters"},
		{"letter O", "uscc: 11990000A0000002XT", "uscc: 1199OOOOA0000002XT", "which has no 'O'"},
		{"port twice", "gateway: 8082", "gateway: 8081", "departments[police].ports.gateway must be unique"},
		{"port missing", "gateway: 8082, ", "", "departments[police].ports.gateway must be between 1024 and 65535"},
		{"privileged port", "gateway: 8082", "gateway: 80", "departments[police].ports.gateway must be between 1024 and 65535"},
		{"host", "host: 127.0.0.1", "host: a b", "departments[bigdata].host must be"},
		{"redis", `redis: ""`, "redis: localhost", "redis must be empty or"},
		{"interval", "anchorInterval: 2s", "anchorInterval: 10ms", "anchorInterval must be at least 100ms"},
		{"evidence lag", "# evidence: {maxLag: 1m}", "evidence: {maxLag: 1ms}", "evidence.maxLag must be 1s to 1h"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(string(source), tt.old) {
				t.Fatalf("the shipped definition does not contain %q", tt.old)
			}
			_, err := ParseDefinition([]byte(strings.Replace(string(source), tt.old, tt.new, 1)))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %q, want it to contain %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error has more than one line: %q", err)
			}
		})
	}
}

func TestTooFewDepartments(t *testing.T) {
	def := defaultDefinition(t)
	def.Departments = def.Departments[:2]
	err := def.Validate()
	if err == nil || !strings.Contains(err.Error(), "departments must be at least 3") {
		t.Errorf("Validate() = %v, want the rule about 3 departments", err)
	}
}

func TestDigest(t *testing.T) {
	source, err := os.ReadFile("consortium.yaml")
	if err != nil {
		t.Fatal(err)
	}
	digest := func(text string) string {
		t.Helper()
		def, err := ParseDefinition([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return def.Digest()
	}
	base := digest(string(source))
	if got := digest("# a new comment\n" + string(source)); got != base {
		t.Error("a comment changes the digest")
	}
	if got := digest(strings.Replace(string(source), "anchorInterval: 2s", "anchorInterval: 3s", 1)); got == base {
		t.Error("another anchorInterval has the same digest")
	}
	if got := digest(strings.Replace(string(source), "gateway: 8084", "gateway: 8085", 1)); got == base {
		t.Error("another port has the same digest")
	}
}

func TestCheckUSCC(t *testing.T) {
	// Codes of real authorities, from published certificate identifiers.
	for _, code := range []string{"11430000006122244L", "11330105002500287C", "11220000013544541J", "11100000000013338W", "11100000MB03271699"} {
		if err := checkUSCC(code); err != nil {
			t.Errorf("checkUSCC(%s) = %v", code, err)
		}
	}
}
