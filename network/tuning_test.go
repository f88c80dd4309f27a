package network

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// tuned is a setting of which docs/ops/tuning.md says what it is by default and here.
type tuned struct{ standard, ours string }

// tunedSettings are the settings in the tables under two headings of the document.
func tunedSettings(t *testing.T) map[string]tuned {
	t.Helper()
	data, err := os.ReadFile("../docs/ops/tuning.md")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]tuned{}
	for _, section := range strings.Split(string(data), "\n## ") {
		if title, _, _ := strings.Cut(section, "\n"); title != "Blocks and ordering" && title != "Peers" {
			continue
		}
		for line := range strings.Lines(section) {
			cells := strings.Split(line, " | ")
			if !strings.HasPrefix(line, "| `") || len(cells) != 5 {
				continue
			}
			names := strings.Split(strings.Trim(cells[0], "| `"), "`, `")
			values := strings.Split(cells[1], ", ")
			if len(names) != len(values) {
				t.Errorf("%d settings and %d values: %s", len(names), len(values), line)
				continue
			}
			for i, name := range names {
				standard, ours, ok := strings.Cut(values[i], " → ")
				if !ok {
					t.Errorf("%s: %q is not \"default → ours\"", name, values[i])
				}
				settings[name] = tuned{standard, ours}
			}
		}
	}
	if len(settings) < 30 {
		t.Fatalf("the document has %d settings, expected more", len(settings))
	}
	return settings
}

// settingsIn are the scalars of a YAML document below a path, by their own paths.
func settingsIn(t *testing.T, document []byte, below ...string) map[string]string {
	t.Helper()
	var tree any
	if err := yaml.Unmarshal(document, &tree); err != nil {
		t.Fatal(err)
	}
	for _, name := range below {
		branch, ok := tree.(map[string]any)
		if !ok || branch[name] == nil {
			t.Fatalf("there is no %s", strings.Join(below, "."))
		}
		tree = branch[name]
	}
	found := map[string]string{}
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch v := node.(type) {
		case map[string]any:
			for name, child := range v {
				walk(strings.TrimPrefix(path+"."+name, "."), child)
			}
		case nil, []any: // no value, and lists are no settings to tune
		case string:
			found[path] = v
		case bool:
			found[path] = strconv.FormatBool(v)
		case int:
			found[path] = strconv.Itoa(v)
		case float64:
			found[path] = strconv.FormatFloat(v, 'g', -1, 64)
		default:
			t.Fatalf("%s is a %T", path, v)
		}
	}
	walk("", tree)
	return found
}

// spelled is a value in one spelling: times as Go writes them, sizes in bytes.
func spelled(value string) string {
	if d, err := time.ParseDuration(value); err == nil {
		return d.String()
	}
	if megabytes, ok := strings.CutSuffix(value, " MB"); ok {
		if n, err := strconv.Atoi(megabytes); err == nil {
			return strconv.Itoa(n << 20)
		}
	}
	return value
}

// orderingSettings are a channel's settings of ordering by their names in the definition.
func orderingSettings(channel map[string]string) map[string]string {
	found := map[string]string{"ordering.maxMessages": channel["BatchSize.MaxMessageCount"], "ordering.maxBytes": channel["BatchSize.AbsoluteMaxBytes"]}
	for name, value := range channel {
		if name, ok := strings.CutPrefix(name, "SmartBFT."); ok && name != "LeaderRotation" {
			found["ordering."+strings.ToLower(name[:1])+name[1:]] = value
		}
	}
	return found
}

// TestTuningDocument holds what docs/ops/tuning.md says of Fabric's settings to the files
// that are rendered and to Fabric's own, and asks it to name every difference.
func TestTuningDocument(t *testing.T) {
	l, def := rendered(t)
	channel, err := renderTemplate("configtx.yaml.tmpl", l, def, Department{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tools, err := filepath.Abs("tools")
	if err != nil {
		t.Fatal(err)
	}
	fabric, err := moduleFolder(t.Context(), tools, "github.com/hyperledger/fabric")
	if err != nil {
		t.Fatal(err)
	}
	read := func(elem ...string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(elem...))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	files := []struct {
		standard, ours map[string]string
		// no matter of tuning: names, addresses, paths, who trusts whom
		besides []string
	}{
		{
			settingsIn(t, read(fabric, "sampleconfig", "core.yaml")), settingsIn(t, read(l.Department("police", "peer", "core.yaml"))),
			[]string{
				"peer.id", "peer.networkId", "peer.listenAddress", "peer.address", "peer.chaincodeListenAddress", "peer.localMspId", "peer.fileSystemPath", "peer.tls.",
				"peer.gossip.bootstrap", "peer.gossip.endpoint", "peer.gossip.externalEndpoint", "vm.", "ledger.snapshots.", "operations.",
			},
		},
		{
			settingsIn(t, read(fabric, "sampleconfig", "orderer.yaml")), settingsIn(t, read(l.Department("police", "orderer", "orderer.yaml"))),
			[]string{
				"General.ListenAddress", "General.ListenPort", "General.TLS.", "General.LocalMSPID", "General.Cluster.ListenAddress", "General.Cluster.ListenPort", "General.Cluster.ServerCertificate",
				"General.Cluster.ServerPrivateKey", "General.Cluster.ClientCertificate", "General.Cluster.ClientPrivateKey", "FileLedger.", "Operations.", "Admin.", "Consensus.",
				"General.Cluster.RPCTimeout", // as in Fabric's code, which the sample leaves it to
			},
		},
		{
			orderingSettings(settingsIn(t, read(fabric, "sampleconfig", "configtx.yaml"), "Profiles", "SampleAppChannelSmartBft", "Orderer")),
			orderingSettings(settingsIn(t, channel, "Profiles", "consortium", "Orderer")),
			nil,
		},
	}
	settings := tunedSettings(t)
	seen := map[string]bool{}
	for _, f := range files {
		for name, value := range f.ours {
			standard, known := f.standard[name]
			told, ok := settings[name]
			switch {
			case !ok:
				other := slices.ContainsFunc(f.besides, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
				if spelled(value) != spelled(standard) && !other {
					t.Errorf("%s is %q here and %q in Fabric's sample: the document does not say so", name, value, standard)
				}
				continue
			case spelled(told.ours) != spelled(value):
				t.Errorf("%s is %q here, the document says %q", name, value, told.ours)
			case known && spelled(told.standard) != spelled(standard):
				t.Errorf("%s is %q in Fabric's sample, the document says %q", name, standard, told.standard)
			}
			seen[name] = true
		}
	}
	for name := range settings {
		if !seen[name] {
			t.Errorf("the document names %s, which no rendered file has", name)
		}
	}
}
