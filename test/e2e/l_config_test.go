//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

// host is the machine of one department: the folder that render made for it.
type host struct {
	department string
	folder     string
	definition string
}

// config runs a config command there. It answers the standard output, the standard error
// and the exit code.
func (h host) config(t *testing.T, args ...string) (string, string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(net.Root, "bin", "zhenglian-network"),
		append(append([]string{"config"}, args...), "--state", filepath.Join(h.folder, "state"), "--definition", h.definition, "--bin", filepath.Join(net.Root, "bin"))...)
	cmd.Dir = h.folder
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// does runs a config command that must succeed and say the words.
func (h host) does(t *testing.T, words string, args ...string) string {
	t.Helper()
	out, diagnosis, code := h.config(t, args...)
	if code != 0 || !strings.Contains(out, words) {
		t.Fatalf("%s: config %s: exit %d, wanted %q\n%s%s", h.department, strings.Join(args, " "), code, words, out, diagnosis)
	}
	return out
}

// refuses runs a config command that must fail and say the words.
func (h host) refuses(t *testing.T, words string, args ...string) {
	t.Helper()
	out, diagnosis, code := h.config(t, args...)
	if code != 1 || !strings.Contains(diagnosis, words) {
		t.Errorf("%s: config %s: exit %d, wanted the refusal %q\n%s%s", h.department, strings.Join(args, " "), code, words, out, diagnosis)
	}
}

// signs signs what was proposed with the digest.
func (h host) signs(t *testing.T, file, digest, words string) {
	t.Helper()
	h.does(t, words, "sign", file, "--digest", digest)
}

var (
	digestLine = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	blockLine  = regexp.MustCompile(`committed in block ([0-9]+)`)
)

// carry copies a file, as people carry it from one machine to another.
func carry(t *testing.T, from, to string) string {
	t.Helper()
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o600))
	return to
}

// install copies a file of the machine's department to where its programs run.
func install(t *testing.T, h host, name string) {
	t.Helper()
	part := filepath.Join("departments", h.department, name)
	carry(t, filepath.Join(h.folder, "state", part), filepath.Join(net.State, part))
}

// awaitOrderer waits until the department's orderer takes part in ordering and gets the
// blocks that its department's writes make.
func awaitOrderer(t *testing.T, h host) {
	t.Helper()
	own := filepath.Join(net.State, "departments", h.department)
	port := portOf(t, h, "ordererAdmin")
	height := ""
	await(t, "the orderer of "+h.department+" orders", 60*time.Second, func() (bool, string) {
		must(t, (&operations{net}).register(t, h.department))
		out, err := net.Run(t.Context(), "osnadmin", "channel", "list", "--channelID", "zhenglian",
			"--orderer-address", fmt.Sprintf("127.0.0.1:%d", port), "--ca-file", filepath.Join(own, "operations", "ca.pem"),
			"--client-cert", filepath.Join(own, "operations", "client.pem"), "--client-key", filepath.Join(own, "operations", "client.key"))
		before := height
		height = regexp.MustCompile(`"height": *[0-9]+`).FindString(string(out))
		grows := before != "" && height != before
		return err == nil && grows && strings.Contains(string(out), "consenter"), fmt.Sprintf("%s %v", out, err)
	})
}

// portOf is a port of the machine's department.
func portOf(t *testing.T, h host, use string) int {
	t.Helper()
	data, err := os.ReadFile(net.Definition())
	must(t, err)
	var def struct {
		Departments []struct {
			Code  string
			Ports map[string]int
		}
	}
	must(t, yaml.Unmarshal(data, &def))
	for _, d := range def.Departments {
		if port := d.Ports[use]; d.Code == h.department && port != 0 {
			return port
		}
	}
	t.Fatalf("the definition has no port %s of %s", use, h.department)
	return 0
}

// TestConfigAcrossHosts changes the channel's configuration with departments that have
// their own keys only: each works in the folder that render makes for its machine.
func TestConfigAcrossHosts(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	hosts := map[string]host{}
	for _, department := range []string{"bigdata", "police", "civil", "market"} {
		h := host{department, at(department), net.Definition()}
		must(t, net.Network(t.Context(), "render", "--department", department, "--out", h.folder))
		keys, err := filepath.Glob(filepath.Join(h.folder, "state", "departments", "*", "users", "admin", "key.pem"))
		must(t, err)
		if len(keys) != 1 || !strings.Contains(keys[0], department) {
			t.Fatalf("the machine of %s has the admins' keys %q", department, keys)
		}
		hosts[department] = h
	}
	bigdata, police, civil, market := hosts["bigdata"], hosts["police"], hosts["civil"], hosts["market"]

	edited := func(name string, size int64) string {
		data, err := os.ReadFile(net.Definition())
		must(t, err)
		changed := regexp.MustCompile(`maxMessages: [0-9]+`).ReplaceAll(data, []byte(fmt.Sprintf("maxMessages: %d", size)))
		if bytes.Equal(changed, data) {
			t.Fatal("the definition stays as it is")
		}
		must(t, os.WriteFile(at(name), changed, 0o600))
		return at(name)
	}
	size := 300 + time.Now().Unix()%100 // another one in every run on the same consortium
	police.definition, bigdata.definition = edited("police.yaml", size), edited("bigdata.yaml", 200)
	change := fmt.Sprintf("→ %d", size)

	// Nobody has signed, then two of four have, at the same time.
	digest := digestLine.FindString(police.does(t, change, "propose", "ordering", "--output", at("police.json")))
	late := at("late.json")
	lateDigest := digestLine.FindString(bigdata.does(t, "→ 200", "propose", "ordering", "--output", late))
	police.refuses(t, "exists", "propose", "ordering", "--output", at("police.json"))
	civil.does(t, change, "show", at("police.json"))
	civil.refuses(t, "the signatures are not enough: /Channel/Orderer/Admins asks for MAJORITY Admins", "submit", at("police.json"))
	forCivil, forMarket := carry(t, at("police.json"), at("civil.json")), carry(t, at("police.json"), at("market.json"))
	police.signs(t, at("police.json"), digest, "signatures that count: 1, not enough yet")
	police.signs(t, at("police.json"), digest, "was signed before; signatures that count: 1")
	civil.signs(t, forCivil, digest, "signatures that count: 1, not enough yet")
	civil.refuses(t, "the signatures are not enough", "submit", forCivil, at("police.json"))
	refusedByOrderers(t, police, forCivil, at("police.json"))

	// A file that somebody changed on its way is signed and submitted by nobody.
	for name, change := range map[string]func(map[string]any){
		"summary": func(f map[string]any) { f["summary"] = f["summary"].([]any)[:1] },
		"update":  func(f map[string]any) { f["update"] = "AAAA" + f["update"].(string)[4:] },
		"path":    func(f map[string]any) { f["include"] = "/etc/passwd" },
	} {
		data, err := os.ReadFile(forMarket)
		must(t, err)
		var file map[string]any
		must(t, json.Unmarshal(data, &file))
		change(file)
		tampered := at(name + ".json")
		data, err = json.MarshalIndent(file, "", "  ")
		must(t, err)
		must(t, os.WriteFile(tampered, append(data, '\n'), 0o600))
		market.refuses(t, "refused", "show", tampered)
		market.refuses(t, "refused", "sign", tampered, "--digest", digest)
		market.refuses(t, "refused", "submit", tampered)
	}
	market.refuses(t, "has the digest", "sign", forMarket, "--digest", "sha256:"+strings.Repeat("0", 64))

	// The third makes it enough, and whoever has the copies hands them over.
	market.signs(t, forMarket, digest, "signatures that count: 1, not enough yet")
	market.does(t, "signatures taken over: 2; signatures that count: 3, enough to submit", "merge", forMarket, at("police.json"), forCivil)
	block := blockLine.FindStringSubmatch(market.does(t, "committed in block", "submit", forMarket))[1]
	await(t, "civil sees that it was committed", 30*time.Second, func() (bool, string) {
		out, diagnosis, _ := civil.config(t, "show", forCivil)
		return strings.Contains(out, "was committed in block "+block), out + diagnosis
	})
	civil.does(t, "was committed in block "+block, "submit", forCivil)
	civil.refuses(t, "was committed in block "+block, "sign", forCivil, "--digest", digest)
	bigdata.refuses(t, "propose the change anew", "show", late)
	bigdata.refuses(t, "propose the change anew", "sign", late, "--digest", lateDigest)

	police.does(t, "consortium.yaml", "adopt")
	police.does(t, "nothing to change", "adopt")

	// New certificates for an orderer: staged on its machine, named by the channel, installed.
	fresh := at("orderer.json")
	digest = digestLine.FindString(police.does(t, "Orderers 2 identity", "propose", "orderer", "--output", fresh))
	police.does(t, "nothing to change", "adopt")
	for _, h := range []host{bigdata, civil, police} {
		h.signs(t, fresh, digest, "signed")
	}
	police.does(t, "committed in block", "submit", fresh)
	police.does(t, "restart zhenglian-orderer", "adopt")
	must(t, net.Halt(t.Context(), "orderer-police"))
	for _, name := range []string{"msp/signcerts/cert.pem", "msp/keystore/key.pem", "tls/server.pem", "tls/server.key"} {
		install(t, police, filepath.Join("orderer", filepath.FromSlash(name)))
	}
	must(t, net.Resume(t.Context(), "orderer-police"))
	awaitOrderer(t, police)

	// A department alone decides about its own certificates; the others learn of it.
	revocation := at("revocation.json")
	digest = digestLine.FindString(market.does(t, "revocation_list", "propose", "revoke", "--identity", "reviewer", "--output", revocation))
	police.signs(t, carry(t, revocation, at("stranger.json")), digest, "not enough yet")
	market.signs(t, revocation, digest, "enough to submit")
	market.does(t, "committed in block", "submit", revocation)
	for _, name := range []string{"cert.pem", "key.pem"} {
		install(t, market, filepath.Join("users", "reviewer", name))
	}
	civil.does(t, "restart zhenglian-gateway", "adopt")
	trust, err := os.ReadFile(filepath.Join(civil.folder, "state", "trust", "consortium.json"))
	must(t, err)
	if !bytes.Contains(trust, []byte("BEGIN X509 CRL")) {
		t.Error("the trust file of civil has no revocation list")
	}
	must(t, (&operations{net}).register(t, "civil"))
}

// refusedByOrderers checks that the orderers themselves refuse what config submit refuses
// for want of signatures: copies with those of two departments, handed over by Fabric's own
// program, which adds another signature of one of the two.
func refusedByOrderers(t *testing.T, h host, files ...string) {
	t.Helper()
	envelope := &common.ConfigUpdateEnvelope{}
	for _, name := range files {
		data, err := os.ReadFile(name)
		must(t, err)
		var file struct {
			Update     []byte
			Signatures []struct{ Header, Signature []byte }
		}
		must(t, json.Unmarshal(data, &file))
		envelope.ConfigUpdate = file.Update
		for _, s := range file.Signatures {
			envelope.Signatures = append(envelope.Signatures, &common.ConfigSignature{SignatureHeader: s.Header, Signature: s.Signature})
		}
	}
	encode := func(m proto.Message) []byte {
		data, err := proto.Marshal(m)
		must(t, err)
		return data
	}
	path := filepath.Join(t.TempDir(), "envelope")
	must(t, os.WriteFile(path, encode(&common.Envelope{Payload: encode(&common.Payload{
		Header: &common.Header{ChannelHeader: encode(&common.ChannelHeader{ChannelId: "zhenglian", Type: int32(common.HeaderType_CONFIG_UPDATE)})},
		Data:   encode(envelope),
	})}), 0o600))
	own := filepath.Join(h.folder, "state", "departments", h.department)
	cmd := exec.CommandContext(t.Context(), filepath.Join(net.Root, "bin", "peer"), "channel", "update", "-f", path, "-c", "zhenglian",
		"-o", fmt.Sprintf("127.0.0.1:%d", portOf(t, h, "orderer")), "--tls", "--cafile", filepath.Join(own, "msp", "tlscacerts", "tlsca.pem"))
	cmd.Env = append(os.Environ(), "FABRIC_CFG_PATH="+filepath.Join(own, "peer"), "CORE_PEER_MSPCONFIGPATH="+filepath.Join(own, "users", "admin", "msp"))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "2 sub-policies were satisfied, but this policy requires 3 of the 'Admins' sub-policies") {
		t.Errorf("two signatures: %v\n%s", err, out)
	}
}
