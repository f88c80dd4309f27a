// Package arch holds the rules of the README's table of folders as a test.
package arch

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	mod     = "github.com/zhenglian/zhenglian/"
	fabric  = "github.com/hyperledger/"
	sdk     = fabric + "fabric-sdk-go/"
	client  = fabric + "fabric-gateway/"
	protoV1 = fabric + "fabric-protos-go/"
	protoV2 = fabric + "fabric-protos-go-apiv2/"
	gin     = "github.com/gin-gonic/"
)

// importRules says which dependencies, direct or through others, each group of
// packages must not have, and why.
var importRules = []struct {
	pkgs   string
	forbid []string
	why    string
}{
	{"domain/...", []string{fabric, gin, mod + "proof", mod + "gateway/", mod + "chaincode"}, "chaincode, gateway and proof share these words"},
	{"proof/...", []string{fabric, gin, mod + "gateway/", mod + "chaincode"}, "anyone may embed verification, beside any Fabric SDK or none"},
	{"signing/...", []string{fabric, mod + "gateway/", mod + "chaincode"}, "whoever keeps a key may embed what reads before it signs"},
	{"chaincode/...", []string{gin, client, sdk, mod + "gateway/"}, "chaincode runs beside peers"},
	{"gateway/ledger/...", []string{fabric, gin}, "the port knows no transport"},
	{"gateway/accesslog/...", []string{fabric, gin}, "the port knows no transport"},
	{"gateway/remotelog/...", []string{fabric, gin, mod + "gateway/service"}, "the port knows no transport"},
	{"gateway/trail/...", []string{fabric, gin, mod + "gateway/service"}, "the port knows no database"},
	{"gateway/index/...", []string{fabric, gin}, "the port knows no transport"},
	{"gateway/cache/...", []string{fabric, gin}, "the port knows no transport"},
	{"gateway/tilelog/...", []string{fabric, gin, mod + "gateway/service"}, "only fabricledger talks to Fabric"},
	{"gateway/tileclient/...", []string{fabric, gin, mod + "gateway/service", mod + "gateway/tilelog", mod + "gateway/ledger"}, "a reader of a foreign log knows nothing of the own one"},
	{"gateway/sqltrail/...", []string{fabric, gin, mod + "gateway/service"}, "only fabricledger talks to Fabric"},
	{"gateway/evidence/...", []string{fabric, gin, mod + "gateway/service", mod + "gateway/ledger"}, "evidence is checked without a ledger"},
	{"gateway/outbox/...", []string{fabric, gin, mod + "gateway/service", mod + "gateway/index"}, "of the ledger the outbox knows the port alone"},
	{"gateway/memcache/...", []string{fabric, gin, mod + "gateway/service"}, "only fabricledger talks to Fabric"},
	{"gateway/credential/...", []string{fabric, gin, "net/http", mod + "gateway/service", mod + "gateway/ledger", mod + "gateway/sqlcredential"}, "a credential is checked without a ledger, and its store is a port"},
	{"gateway/sqlcredential/...", []string{fabric, gin, mod + "gateway/service", mod + "gateway/ledger"}, "a store knows nothing of what it keeps"},
	{"gateway/print/...", []string{fabric, gin, mod + "gateway/service", mod + "gateway/ledger", mod + "gateway/sqlcredential"}, "paper knows no ledger"},
	{"gateway/identity/...", []string{fabric, gin, mod + "gateway/service", mod + "gateway/ledger", mod + "gateway/httpapi"}, "who calls is found without a ledger"},
	{"gateway/requestlog/...", []string{fabric, gin, mod + "gateway/service", mod + "gateway/httpapi", mod + "gateway/accesslog"}, "the log of requests needs of the ledger its port alone"},
	{"gateway/telemetry/...", []string{fabric, gin, mod + "gateway/service", mod + "gateway/httpapi"}, "what watches stands around the ports and knows no adapter"},
	{"gateway/qrcode/...", []string{fabric, gin, mod + "gateway/service", mod + "gateway/ledger"}, "a QR code knows no ledger"},
	{"gateway/interchange/...", []string{fabric, gin, "net/", mod + "api/", mod + "gateway/service", mod + "gateway/index", mod + "gateway/ledger"}, "files to content and back: no transport, no records"},
	{"gateway/sqlindex/...", []string{fabric, gin, mod + "gateway/service"}, "only fabricledger talks to Fabric"},
	{"gateway/rediscache/...", []string{fabric, gin, mod + "gateway/service"}, "only fabricledger talks to Fabric"},
	{"gateway/service/...", []string{fabric, gin, mod + "gateway/httpapi", mod + "gateway/fabricledger", mod + "gateway/tileclient", mod + "gateway/sqltrail"}, "data flows HTTP, service, port, adapter"},
	{"gateway/httpapi/...", []string{fabric, mod + "gateway/fabricledger"}, "handlers know no Fabric"},
	{"gateway/web/...", []string{fabric, mod + "gateway/fabricledger"}, "pages know no Fabric"},
	{"gateway/ledgeraudit/...", []string{sdk, client, protoV1, gin, mod + "gateway/service", mod + "gateway/fabricledger"}, "blocks are checked without a network; of Fabric it knows the messages"},
	{"gateway/fabricledger/...", []string{sdk, gin, mod + "gateway/service", mod + "gateway/httpapi"}, "an adapter knows its port and nothing above it"},
	{"network/...", []string{client, protoV2, gin, mod + "gateway/", mod + "chaincode"}, "administration links fabric-sdk-go, which is protobuf family 1"},
	{"cmd/...", []string{mod + "gateway/ledger/ledgertest"}, "fakes are for tests"},
	{"cmd/zhenglian/...", []string{sdk, protoV1, mod + "network/"}, "the SDK is linked by cmd/zhenglian-network only"},
	{"cmd/zhenglian-chaincode/...", []string{sdk, protoV1, client, gin, mod + "network/"}, "the SDK is linked by cmd/zhenglian-network only"},
}

func TestImportRules(t *testing.T) {
	trackSources(t)
	for _, r := range importRules {
		t.Run(r.pkgs, func(t *testing.T) {
			deps := strings.Fields(goList(t, "-deps", mod+r.pkgs))
			if len(deps) == 0 {
				t.Fatal("the pattern matches no package: fix the rule")
			}
			for _, dep := range deps {
				for _, bad := range r.forbid {
					if strings.HasPrefix(dep+"/", bad) {
						t.Errorf("links %s: %s", dep, r.why)
					}
				}
			}
		})
	}
}

// TestOneProtoFamily checks that no program, and no test binary, links both
// generations of Fabric's protobuf packages. Such a binary builds and vets
// cleanly, then panics before main.
func TestOneProtoFamily(t *testing.T) {
	trackSources(t)
	out := goList(t, "-test", "-f", `{{if eq .Name "main"}}{{.ImportPath}}:{{range .Deps}} {{.}}{{end}}{{end}}`, mod+"...")
	if out == "" {
		t.Fatal("found no program: fix the pattern")
	}
	for line := range strings.Lines(out) {
		name, deps, _ := strings.Cut(line, ":")
		if strings.Contains(deps, " "+protoV1) && strings.Contains(deps, " "+protoV2) {
			t.Errorf("%s links fabric-protos-go and fabric-protos-go-apiv2", name)
		}
	}
}

// trackSources reads every Go file of the module, which makes them inputs of
// the test in the eyes of the test cache. The cache cannot see what "go list"
// reads; without this, a broken rule still reports "ok (cached)".
func trackSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func goList(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %q: %v", args, err)
	}
	return string(out)
}
