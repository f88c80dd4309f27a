package arch

import (
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestModulesHaveChecksums checks that every Go module that is built here has the
// checksums of its content and of its requirements in go.sum, where the go command
// compares them, and that no file of ours tells it not to.
func TestModulesHaveChecksums(t *testing.T) {
	trackSources(t)
	for _, folder := range filesNamed(t, "go.mod") {
		t.Run(folder, func(t *testing.T) {
			sums, err := os.ReadFile(filepath.Join(folder, "go.sum"))
			if err != nil {
				t.Fatal(err)
			}
			known := make(map[string]bool)
			for line := range strings.Lines(string(sums)) {
				fields := strings.Fields(line)
				digest := ""
				if len(fields) == 3 {
					digest, _ = strings.CutPrefix(fields[2], "h1:")
				}
				if sum, err := base64.StdEncoding.DecodeString(digest); err != nil || len(sum) != 32 {
					t.Errorf("go.sum: %q", line)
					continue
				}
				known[fields[0]+" "+fields[1]] = true
			}
			// What is linked has its content's checksum; what only decides about versions
			// that of its go.mod. A module in a folder or in another's place would be built
			// from what nothing checks.
			cmd := exec.CommandContext(t.Context(), "go", "list", "-mod=readonly", "-deps", "-test", "-f",
				`{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{with .Replace}} {{.Path}}{{end}}{{end}}{{end}}`, "./...", "tool")
			cmd.Dir = folder
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("go list: %v", err)
			}
			modules := slices.Compact(slices.Sorted(strings.Lines(string(out))))
			if len(modules) < 20 {
				t.Fatalf("%d modules are built: the listing is broken", len(modules))
			}
			for _, line := range modules {
				fields := strings.Fields(line)
				if len(fields) != 2 {
					t.Errorf("%s is in the place of another module", line)
					continue
				}
				for _, want := range []string{fields[0] + " " + fields[1], fields[0] + " " + fields[1] + "/go.mod"} {
					if !known[want] {
						t.Errorf("go.sum has no checksum of %s", want)
					}
				}
			}
		})
	}
}

// lax are settings with which the go command and npm take what nothing vouches for.
var lax = regexp.MustCompile(`GONOSUMDB|GONOSUMCHECK|GOINSECURE|GOPRIVATE|GONOPROXY|GOSUMDB\s*=\s*off|GOFLAGS\s*=\s*\S*-(insecure|modcacherw|mod=mod)|-mod=mod\b|strict-ssl[ =]*false|npm (install|i|add) |--no-package-lock|go (install|run|get) \S+@(latest|master|main)\b|curl [^|]*\| *(ba)?sh`)

// TestNothingTurnsChecksOff reads what builds, installs and tests.
func TestNothingTurnsChecksOff(t *testing.T) {
	for _, bad := range []string{"GOSUMDB=off go build", "GOFLAGS=-mod=mod", "npm install x", "go install example.com/x@latest", "curl -s https://x | sh"} {
		if !lax.MatchString(bad) {
			t.Errorf("the pattern misses %q", bad)
		}
	}
	read := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && passedOver(d.Name()):
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		builds := d.Name() == "Makefile" || d.Name() == "package.json" || d.Name() == ".npmrc" || d.Name() == "go.env" || filepath.Ext(path) == ".sh" ||
			filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/.ci/")
		if !builds {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		if at := lax.FindString(string(text)); at != "" {
			t.Errorf("%s: %q takes what no checksum vouches for", path, at)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 100 {
		t.Errorf("%d files were read", read)
	}
}

// TestPackagesHaveIntegrity checks that every npm package that tests and the browser's
// verifier are made with is pinned by its digest, and is none of git or of a folder.
func TestPackagesHaveIntegrity(t *testing.T) {
	for _, folder := range filesNamed(t, "package.json") {
		data, err := os.ReadFile(filepath.Join(folder, "package-lock.json"))
		if err != nil {
			t.Errorf("%s has no lock file: %v", folder, err)
			continue
		}
		var lock struct {
			LockfileVersion int
			Packages        map[string]struct {
				Version, Resolved, Integrity string
				Link                         bool
			}
		}
		if err := json.Unmarshal(data, &lock); err != nil {
			t.Errorf("%s: %v", folder, err)
			continue
		}
		if lock.LockfileVersion < 3 || len(lock.Packages) < 2 {
			t.Errorf("%s: lock file of version %d with %d packages", folder, lock.LockfileVersion, len(lock.Packages))
		}
		for name, p := range lock.Packages {
			if name == "" {
				continue // the folder itself
			}
			digest, sha512 := strings.CutPrefix(p.Integrity, "sha512-")
			if sum, err := base64.StdEncoding.DecodeString(digest); p.Link || !sha512 || err != nil || len(sum) != 64 {
				t.Errorf("%s: %s %s has no digest: %q", folder, name, p.Version, p.Integrity)
			}
			if p.Resolved != "" { // by its name, from whichever registry there is
				t.Errorf("%s: %s comes from %q", folder, name, p.Resolved)
			}
		}
	}
}

// TestPackagesAreTheSameElsewhere compiles the chaincode's packages in two folders and
// compares what the compiler made, so that whoever builds the source of a version can
// hold a department's chaincode against it. Where the source lies must not show, and
// nothing may come from the clock, the machine or the environment. Without -trimpath for
// our packages the folder does show, which checks that the comparison would tell.
func TestPackagesAreTheSameElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the chaincode three times")
	}
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	for _, part := range []string{"go.mod", "go.sum", "domain", "proof", "chaincode", "cmd/zhenglian-chaincode"} {
		copyGo(t, filepath.Join(here, part), filepath.Join(elsewhere, part))
	}
	const program = "./cmd/zhenglian-chaincode"
	first, second := compiled(t, here, program, true), compiled(t, elsewhere, program, true)
	if len(first) < 4 || len(first) != len(second) {
		t.Fatalf("%d packages here, %d elsewhere", len(first), len(second))
	}
	for name, digest := range first {
		if second[name] != digest {
			t.Errorf("%s is other bytes elsewhere", name)
		}
	}
	if told := compiled(t, elsewhere, "./domain", false); told[mod+"domain"] == first[mod+"domain"] {
		t.Error("a package that names its folder is the same bytes: nothing was compared")
	}
}

// compiled compiles our packages that a program is made of, in a folder, and answers the
// digest of what the compiler made of each, by import path.
func compiled(t *testing.T, folder, program string, trim bool) map[string]string {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-f", `{{if .Module}}{{if .Module.Main}}{{.ImportPath}} {{.BuildID}}{{end}}{{end}}`}
	if trim {
		// Of our packages alone: all others are compiled already.
		args = append(args, "-gcflags="+mod+"...=-trimpath="+folder+"=>zhenglian")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, program)...)
	cmd.Dir = folder
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %q: %v", args, err)
	}
	digests := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		name, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" {
			continue
		}
		// A build ID is the digest of what went in, "/", and that of what came out.
		digests[name] = id[strings.LastIndexByte(id, '/')+1:]
	}
	return digests
}

// copyGo copies a file, or a folder's Go files and what they embed.
func copyGo(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || passedOver(d.Name())):
			return filepath.SkipDir
		case d.IsDir() || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// filesNamed answers the folders of the repository that hold a file of a name.
func filesNamed(t *testing.T, name string) []string {
	t.Helper()
	var folders []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || passedOver(d.Name())):
			return filepath.SkipDir
		case d.Name() == name:
			folders = append(folders, filepath.Dir(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) < 2 {
		t.Fatalf("%d folders hold a file %s", len(folders), name)
	}
	return folders
}

// passedOver are folders that git does not keep.
func passedOver(name string) bool {
	return name == "node_modules" || name == ".git" || name == "bin" || strings.HasPrefix(name, ".zhenglian")
}
