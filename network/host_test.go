package network

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hostRendered is the folder for the machine of one department.
func hostRendered(t *testing.T, code string, host Host) (Layout, string) {
	t.Helper()
	l, def := rendered(t)
	if err := l.saveState(State{Definition: def.Digest(), Complete: true}); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("consortium.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{
		l.DefinitionCopy(): string(source),
		l.GenesisBlock():   "genesis",
		l.Department(code, "peer", "data", "ledger"):       "ledger",
		l.Department(code, "gateway", "data", "index.db"):  "index",
		l.Department(code, "retired", "peer-1.pem"):        "old",
		filepath.Join(l.State, "channel", "configtx.yaml"): "MSPDir: " + l.State,
	} {
		if err := writeFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "host")
	c := &Consortium{Layout: l, DefinitionPath: "consortium.yaml", Progress: NewProgress(io.Discard)}
	for range 2 { // the second replaces the first
		result, err := c.Render(t.Context(), code, out, host)
		if err != nil {
			t.Fatal(err)
		}
		if result.Department != code || result.Files < 50 || len(result.Units) != len(nodeKinds) {
			t.Errorf("result = %+v", result)
		}
	}
	return l, out
}

var testHost = Host{State: "/var/lib/zhenglian", Bin: "/opt/zhenglian/bin", Etc: "/etc/zhenglian"}

func TestHostHasItsOwnSecretsOnly(t *testing.T) {
	for _, code := range []string{"bigdata", "police"} {
		l, out := hostRendered(t, code, testHost)
		files := tree(t, out)
		keys := 0
		for name, content := range files {
			name = filepath.ToSlash(name)
			if strings.Contains(content, l.State) {
				t.Errorf("%s names a folder of the machine that rendered it", name)
			}
			if strings.Contains(content, "PRIVATE KEY") {
				keys++
				if !strings.HasPrefix(name, "state/departments/"+code+"/") {
					t.Errorf("%s: the host of %s has a key of others", name, code)
				}
			}
			if strings.Contains(name, "/data/") || strings.Contains(name, "/retired/") {
				t.Errorf("%s is no configuration", name)
			}
			// The lead's gateway alone is given a token of every department's auditor.
			if strings.Contains(name, "/audit/") != (code == "bigdata" && strings.HasSuffix(name, ".token")) {
				t.Errorf("the host of %s has %s", code, name)
			}
		}
		if keys < len(identities()) {
			t.Errorf("%d files with keys, want at least %d", keys, len(identities()))
		}
		for _, other := range []string{"civil", "market"} {
			tokens, err := os.ReadFile(l.tokens(other))
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range files {
				for token := range strings.SplitSeq(string(tokens), `"`) {
					if strings.HasPrefix(token, "zl_") && strings.Contains(content, token) && !strings.Contains(name, "audit") {
						t.Errorf("%s holds a token of %s", name, other)
					}
				}
			}
		}
	}
}

func TestUnits(t *testing.T) {
	_, out := hostRendered(t, "police", testHost)
	for _, kind := range nodeKinds {
		unit, err := os.ReadFile(filepath.Join(out, "systemd", "zhenglian-"+kind+".service"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(unit), "\n")
		for _, want := range []string{
			"User=zhenglian", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "LimitNOFILE=65536",
			"Restart=always", "CapabilityBoundingSet=", "UMask=0077", "EnvironmentFile=/etc/zhenglian/" + kind + ".env",
		} {
			if !slices.Contains(lines, want) {
				t.Errorf("%s: no line %s", kind, want)
			}
		}
		hidden := slices.Contains(lines, "InaccessiblePaths=-/var/lib/zhenglian/departments/police/ca")
		if hidden != (kind != "ca") {
			t.Errorf("%s: the authority's keys are hidden: %t", kind, hidden)
		}
		writes := 0
		for _, line := range lines {
			if dir, ok := strings.CutPrefix(line, "ReadWritePaths="); ok {
				writes++
				if rel, err := filepath.Rel(testHost.State, dir); err != nil || !exists(filepath.Join(out, "state", rel)) {
					t.Errorf("%s writes %s, which the folder does not have", kind, dir)
				}
			}
		}
		if want := map[bool]int{true: 0, false: 1}[kind == "chaincode"]; writes != want {
			t.Errorf("%s writes %d folders, want %d", kind, writes, want)
		}
		env, err := os.ReadFile(filepath.Join(out, "etc", kind+".env"))
		if err != nil || !strings.Contains(string(env), "GOGC=") {
			t.Errorf("%s: environment %q, %v", kind, env, err)
		}
	}
	core, err := os.ReadFile(filepath.Join(out, "state", "departments", "police", "peer", "core.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(core, []byte(`"/var/lib/zhenglian/departments/police/peer/builder"`)) {
		t.Error("the peer looks for its builder elsewhere")
	}
}

// systemd itself reads the units.
func TestUnitsVerify(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here")
	}
	host := testHost
	host.Bin = filepath.Join(t.TempDir(), "bin")
	for _, p := range programs {
		if err := writeFile(filepath.Join(host.Bin, p.name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, out := hostRendered(t, "police", host)
	units, err := filepath.Glob(filepath.Join(out, "systemd", "zhenglian*.[st]*"))
	if err != nil || len(units) != len(nodeKinds)+2 {
		t.Fatalf("found %q, %v", units, err)
	}
	units = slices.DeleteFunc(units, func(u string) bool { return strings.HasSuffix(u, ".sysusers") })
	text, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil || strings.Contains(string(text), out) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, text)
	}
}

func TestRenderRefuses(t *testing.T) {
	l, _ := rendered(t)
	c := &Consortium{Layout: l, DefinitionPath: "consortium.yaml", Progress: NewProgress(io.Discard)}
	foreign := t.TempDir()
	spaced := testHost
	spaced.State = "/var/lib/my zhenglian"
	for name, tc := range map[string]struct {
		code, out string
		host      Host
		words     string
	}{
		"nobody":         {"nobody", filepath.Join(t.TempDir(), "x"), testHost, "no department"},
		"foreign folder": {"police", foreign, testHost, "not made by this command"},
		"spaces":         {"police", filepath.Join(t.TempDir(), "x"), spaced, "cannot stand in a service file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Render(t.Context(), tc.code, tc.out, tc.host)
			wantProblem(t, err, tc.words)
		})
	}
	empty := &Consortium{Layout: Layout{State: t.TempDir(), Bin: l.Bin}, DefinitionPath: "consortium.yaml", Progress: NewProgress(io.Discard)}
	_, err := empty.Render(t.Context(), "police", filepath.Join(t.TempDir(), "x"), testHost)
	wantProblem(t, err, "has no keys yet", "make up")
}
