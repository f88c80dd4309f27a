//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"go.yaml.in/yaml/v3"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// operations is the consortium that the operators of the tests below work on.
type operations struct {
	*consortium.Consortium
}

// TestOperations runs every operator's command on a running consortium of its own, one
// after the other as an operator would, while a client keeps writing. Nothing that was
// acknowledged may be lost, and no write may fail for good.
func TestOperations(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	started, err := consortium.Start(ctx, consortium.Options{
		Root: net.Root, State: filepath.Join(net.Root, ".zhenglian-e2e-operations"), PortOffset: portOffset + 1000, Output: t.Output(),
	})
	must(t, err)
	defer func() { must(t, started.Reset(context.WithoutCancel(ctx))) }()
	_, err = started.Run(ctx, "zhenglian", "sample", "--state", started.State)
	must(t, err)
	o := &operations{started}
	for _, step := range []struct {
		name string
		run  func(*testing.T, *operations)
	}{
		{"revoke", opsRevoke},
		{"upgrade", opsUpgrade},
		{"backup and restore", opsRestore},
		{"rotate", opsRotate},
		{"add a department", opsAdd},
		{"render", opsRender},
		{"doctor", opsDoctor},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, o) }) {
			return // the later ones need it
		}
	}
}

// command runs zhenglian-network with --json and decodes its answer.
func (o *operations) command(t *testing.T, into any, command string, args ...string) {
	t.Helper()
	out, err := o.try(t, command, args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("%s answered %q: %v", command, out, err)
	}
}

func (o *operations) try(t *testing.T, command string, args ...string) ([]byte, error) {
	t.Helper()
	return o.Run(t.Context(), "zhenglian-network", append([]string{command, "--json", "--state", o.State, "--definition", o.Definition(), "--bin", filepath.Join(o.Root, "bin")}, args...)...)
}

// edit replaces text in the definition.
func (o *operations) edit(t *testing.T, change func(string) string) {
	t.Helper()
	data, err := os.ReadFile(o.Definition())
	must(t, err)
	edited := change(string(data))
	if edited == string(data) {
		t.Fatal("the definition stays as it is")
	}
	must(t, os.WriteFile(o.Definition(), []byte(edited), 0o600))
}

// writing registers catalog entries at a gateway, one after the other, until stop is
// called, which answers how many there are and reports a write that never succeeded. A
// write whose answer is lost or not final is repeated under its idempotency key.
func (o *operations) writing(t *testing.T, department string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	written := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := o.register(t, department); err != nil {
				t.Errorf("a write at %s: %v", department, err)
				return
			}
			written++
		}
	})
	return sync.OnceValue(func() int { cancel(); wg.Wait(); return written })
}

// register registers one catalog entry, however often it has to ask.
func (o *operations) register(t *testing.T, department string) error {
	entry := contentOf(department)
	if department == "tax" {
		entry.ProviderUSCC = taxUSCC
	}
	header := http.Header{"Idempotency-Key": {randomHex(t, 16)}}
	for deadline := time.Now().Add(60 * time.Second); ; {
		res, err := o.Gateway(department).DoWith(t.Context(), "operator", "POST", "/v1/catalog/entries", entry, header)
		if err == nil && res.Status == http.StatusCreated {
			return nil
		}
		final := err == nil && res.Status >= 400 && res.Status < 500 && res.Status != http.StatusConflict && res.Status != http.StatusTooManyRequests
		if final || time.Now().After(deadline) {
			return fmt.Errorf("status %d, error %v: %.300s", res.Status, err, res.Body)
		}
		time.Sleep(50 * time.Millisecond) // the pause of a client before it asks again
	}
}

// opsRevoke checks that a key that was stolen is of no use once it is revoked, and that
// its owner goes on with a new one.
func opsRevoke(t *testing.T, o *operations) {
	stolen, err := o.Fabric("civil", "operator")
	must(t, err)
	defer stolen.Close()
	ask := func() error {
		nonce := randomHex(t, 16)
		_, err := stolen.Contract.Evaluate("evidence:Attest", client.WithArguments(`{"kind":"department","id":"civil","nonce":"`+nonce+`"}`))
		return err
	}
	must(t, ask())
	var result struct {
		Serial  string `json:"serial"`
		Revoked int    `json:"revoked"`
		Channel bool   `json:"channel"`
	}
	o.command(t, &result, "revoke", "--department", "civil", "--identity", "operator")
	if result.Serial == "" || result.Revoked != 1 || !result.Channel {
		t.Errorf("revoke: %+v", result)
	}
	await(t, "the revoked key is refused", 10*time.Second, func() (bool, string) { err := ask(); return err != nil, "still served" })
	must(t, o.register(t, "civil"))
	var trust struct {
		Departments []struct {
			Code string   `json:"code"`
			CRLs []string `json:"crls"`
		} `json:"departments"`
	}
	must(t, o.Gateway("market").Call(t.Context(), "", "GET", "/v1/trust", nil, 200, &trust))
	for _, d := range trust.Departments {
		if (len(d.CRLs) == 1) != (d.Code == "civil") {
			t.Errorf("%s has %d revocation lists in the trust file", d.Code, len(d.CRLs))
		}
	}
}

// opsUpgrade checks an upgrade under load, and that proofs of before still verify.
func opsUpgrade(t *testing.T, o *operations) {
	o.edit(t, func(d string) string { return strings.Replace(d, `version: "1.0"`, `version: "1.1"`, 1) })
	if _, err := o.try(t, "up"); err == nil || !strings.Contains(err.Error(), "run zhenglian-network upgrade") {
		t.Errorf("up took an edited definition, or does not say what to do: %v", err)
	}
	stop := o.writing(t, "bigdata")
	var result struct {
		Version  string   `json:"version"`
		Sequence int      `json:"sequence"`
		Late     []string `json:"late"`
	}
	for range 2 { // the second has nothing to do
		o.command(t, &result, "upgrade")
		if result.Version != "1.1" || result.Sequence != 2 || len(result.Late) > 0 {
			t.Errorf("upgrade: %+v", result)
		}
	}
	if n := stop(); n == 0 {
		t.Error("nothing was written during the upgrade")
	}
	for _, department := range o.Departments() {
		must(t, o.register(t, department))
	}
	out, err := o.Run(t.Context(), "zhenglian", "verify", filepath.Join(o.State, "sample", "certificate.zlproof"), "--trust", filepath.Join(o.State, "trust", "consortium.json"))
	if err != nil {
		t.Errorf("a proof of before the upgrade: %v\n%s", err, out)
	}
}

// logAccess logs one use of a resource of police, whose grant the sample made, and waits
// until it is anchored. It answers the size of the log.
func (o *operations) logAccess(t *testing.T) uint64 {
	t.Helper()
	var grants struct {
		Items []consortium.Written[domain.Grant] `json:"items"`
	}
	police := o.Gateway("police")
	must(t, police.Call(t.Context(), "operator", "GET", "/v1/grants?limit=200", nil, 200, &grants))
	for _, g := range grants.Items {
		if g.Record.Provider != "police" || g.Record.State != domain.GrantActive {
			continue
		}
		r := accessRecord(g.Record, domain.DirectionProvider, "call-"+randomHex(t, 8), time.Now())
		var got receipts
		must(t, police.Call(t.Context(), "operator", "POST", "/v1/access-records", inputs(t, r), 201, &got))
		size := uint64(got.Receipts[0].Index) + 1
		await(t, "the record is anchored", 30*time.Second, func() (bool, string) {
			var list struct {
				Items []consortium.Written[domain.Anchor] `json:"items"`
			}
			err := o.Gateway("bigdata").Call(t.Context(), "auditor", "GET", "/v1/anchors?department=police&limit=200", nil, 200, &list)
			for _, a := range list.Items {
				if a.Record.Size >= size {
					return true, ""
				}
			}
			return false, fmt.Sprint(len(list.Items), " anchors, error ", err)
		})
		return size
	}
	t.Fatal("the sample has no active grant of police")
	return 0
}

// lose takes a department's folder away and kills its processes, as the loss of its
// machine does.
func (o *operations) lose(t *testing.T, department, to string) {
	t.Helper()
	must(t, os.Rename(filepath.Join(o.State, "departments", department), to))
	for _, kind := range []string{consortium.GatewayOf, consortium.Peer, consortium.Chaincode, "chaincode2", consortium.Orderer, consortium.CA} {
		pids, err := o.Consortium.ProcessesIn(filepath.Join(to, kind))
		must(t, err)
		for _, pid := range pids {
			p, err := os.FindProcess(pid)
			must(t, err)
			_ = p.Kill() // it may have ended
		}
	}
}

// opsRestore loses a department's machine and brings it back from its backup, while
// others write. A backup that is older than the log's last anchor is refused.
func opsRestore(t *testing.T, o *operations) {
	dir := t.TempDir()
	passphrase := filepath.Join(dir, "passphrase")
	must(t, os.WriteFile(passphrase, []byte("not a secret "+randomHex(t, 8)+"\n"), 0o600))
	backup := func(name string) (file string, size uint64) {
		file = filepath.Join(dir, name)
		var result struct {
			Height  uint64 `json:"height"`
			LogSize uint64 `json:"logSize"`
		}
		o.command(t, &result, "backup", "--department", "police", "--output", file, "--passphrase-file", passphrase)
		if result.Height == 0 || result.LogSize == 0 {
			t.Errorf("backup: %+v", result)
		}
		return file, result.LogSize
	}
	stop := o.writing(t, "bigdata")
	defer stop()
	old, oldSize := backup("old")
	anchored := o.logAccess(t)
	if anchored != oldSize+1 {
		t.Errorf("the log has %d entries after a backup of %d", anchored, oldSize)
	}
	recent, _ := backup("recent")
	o.lose(t, "police", filepath.Join(dir, "lost"))

	if _, err := o.try(t, "restore", "--department", "police", "--input", old, "--passphrase-file", passphrase); err == nil || !strings.Contains(err.Error(), "second history") {
		t.Fatalf("a backup that would fork the log was restored, or for no reason refused: %v", err)
	}
	var result struct {
		Height    uint64 `json:"height"`
		HeightNow uint64 `json:"heightNow"`
		Anchored  uint64 `json:"anchored"`
	}
	o.command(t, &result, "restore", "--department", "police", "--input", recent, "--passphrase-file", passphrase)
	if result.HeightNow < result.Height || result.Anchored != anchored {
		t.Errorf("restore: %+v", result)
	}
	if n := stop(); n == 0 {
		t.Error("the others wrote nothing")
	}
	if size := o.logAccess(t); size != anchored+1 {
		t.Errorf("the log goes on with entry %d after %d", size-1, anchored)
	}
	must(t, o.register(t, "police"))
	o.awaitHealthy(t)
}

// awaitHealthy waits until every peer has the same height.
func (o *operations) awaitHealthy(t *testing.T) {
	t.Helper()
	await(t, "the departments agree", 60*time.Second, func() (bool, string) {
		out, err := o.try(t, "status")
		return err == nil, string(out)
	})
}

// opsRotate renews all certificates of a department, its orderer's among them, while it
// and another write.
func opsRotate(t *testing.T, o *operations) {
	stops := []func() int{o.writing(t, "bigdata"), o.writing(t, "market")}
	var result struct {
		Renewed []string `json:"renewed"`
		Kept    int      `json:"kept"`
	}
	o.command(t, &result, "rotate", "--department", "market", "--days", "400")
	if len(result.Renewed) < 13 || result.Kept != 0 {
		t.Errorf("rotate: %+v", result)
	}
	for _, stop := range stops {
		if n := stop(); n == 0 {
			t.Error("nothing was written during the rotation")
		}
	}
	o.command(t, &result, "rotate", "--department", "market")
	if len(result.Renewed) != 0 {
		t.Errorf("a second rotation renewed %q", result.Renewed)
	}
	o.awaitHealthy(t)
	must(t, o.register(t, "market"))
}

const taxUSCC = "11990000A00000055K" // fictional, as those of network/consortium.yaml

// opsAdd takes in a fifth department under load, whose gateway then writes. The others'
// indexes go on from where they are.
func opsAdd(t *testing.T, o *operations) {
	ports := map[string]int{
		"gateway": 8085, "peer": 7451, "peerChaincode": 7452, "peerOperations": 7453, "ca": 7454,
		"orderer": 7460, "ordererCluster": 7461, "ordererAdmin": 7462, "ordererOperations": 7463, "chaincode": 9451,
	}
	for name := range ports {
		ports[name] += portOffset + 1000
	}
	o.edit(t, func(d string) string {
		var def map[string]any
		must(t, yaml.Unmarshal([]byte(d), &def))
		def["departments"] = append(def["departments"].([]any), map[string]any{
			"code": "tax", "nameZh": "税务局", "nameEn": "Tax Bureau", "uscc": taxUSCC, "mspId": "TaxMSP", "host": "127.0.0.1", "ports": ports,
		})
		out, err := yaml.Marshal(def)
		must(t, err)
		return string(out)
	})
	var before, after struct {
		Items []json.RawMessage `json:"items"`
	}
	must(t, o.Gateway("civil").Call(t.Context(), "auditor", "GET", "/v1/departments?limit=200", nil, 200, &before))
	index := filepath.Join(o.State, "departments", "civil", "gateway", "data", "index.sqlite")
	created, err := os.Stat(index)
	must(t, err)

	stop := o.writing(t, "bigdata")
	var result struct {
		Department string `json:"department"`
		Orderers   int    `json:"orderers"`
		Registered bool   `json:"registered"`
	}
	o.command(t, &result, "add-department")
	if result.Department != "tax" || result.Orderers != 5 || !result.Registered {
		t.Errorf("add-department: %+v", result)
	}
	if n := stop(); n == 0 {
		t.Error("nothing was written while a department joined")
	}
	o.command(t, &result, "add-department")
	if result.Department != "" {
		t.Errorf("a second run added %q", result.Department)
	}
	must(t, o.Reload())
	must(t, o.register(t, "tax"))
	must(t, o.register(t, "civil"))
	must(t, o.Gateway("civil").Call(t.Context(), "auditor", "GET", "/v1/departments?limit=200", nil, 200, &after))
	if len(after.Items) != len(before.Items)+1 {
		t.Errorf("civil knows %d departments, %d before", len(after.Items), len(before.Items))
	}
	if now, err := os.Stat(index); err != nil || !os.SameFile(created, now) {
		t.Errorf("the index of civil was made anew: %v", err)
	}
	o.awaitHealthy(t)
}

// opsRender checks that the folder for a department's machine holds nobody else's keys.
func opsRender(t *testing.T, o *operations) {
	out := filepath.Join(t.TempDir(), "tax")
	var result struct {
		Files int      `json:"files"`
		Units []string `json:"units"`
	}
	o.command(t, &result, "render", "--department", "tax", "--out", out)
	if result.Files == 0 || len(result.Units) != 5 {
		t.Errorf("render: %+v", result)
	}
	own, err := os.ReadFile(filepath.Join(o.State, "departments", "tax", "gateway", "log.key"))
	must(t, err)
	found, err := exec.Command("grep", "-rlF", strings.TrimSpace(string(own)), out).Output()
	must(t, err)
	foreign, err := os.ReadFile(filepath.Join(o.State, "departments", "police", "gateway", "log.key"))
	must(t, err)
	if others, err := exec.Command("grep", "-rlF", strings.TrimSpace(string(foreign)), out).Output(); err == nil || len(found) == 0 {
		t.Errorf("the key of another department is in %s", others)
	}
}

// opsDoctor checks that doctor finds nothing broken, and says so by its exit code when
// something is.
func opsDoctor(t *testing.T, o *operations) {
	type finding struct{ Check, Result, Detail string }
	diagnose := func() (map[string]string, int) {
		out, err := o.try(t, "doctor")
		code := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		var findings []finding
		if err := json.Unmarshal(out, &findings); err != nil {
			t.Fatalf("doctor answered %q: %v", out, err)
		}
		worst := map[string]string{}
		for _, f := range findings {
			if worst[f.Check] != "fail" {
				worst[f.Check] = f.Result
			}
			if f.Result != "ok" {
				t.Logf("%s %s: %s", f.Result, f.Check, f.Detail)
			}
		}
		return worst, code
	}
	worst, code := diagnose()
	for _, check := range []string{"definition", "versions", "disk", "ports", "certificates", "processes", "heights", "clocks", "anchoring", "indexes", "logs", "chaincode"} {
		if r, ok := worst[check]; !ok || r == "fail" {
			t.Errorf("check %s: %q", check, r)
		}
	}
	if code != 0 && code != 3 {
		t.Errorf("doctor exits %d on a healthy consortium", code)
	}
	o.edit(t, func(d string) string { return strings.Replace(d, "anchorInterval: 2s", "anchorInterval: 3s", 1) })
	if worst, code := diagnose(); worst["definition"] != "fail" || code != 1 {
		t.Errorf("an edited definition: %v, exit %d", worst["definition"], code)
	}
	o.edit(t, func(d string) string { return strings.Replace(d, "anchorInterval: 3s", "anchorInterval: 2s", 1) })
}
