package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
)

// program is an executable in the bin folder and where it is built from.
type program struct {
	name    string
	module  string // folder of the module, relative to the repository
	pkg     string // package path or relative folder
	sources []string
	cgo     bool
	mended  bool // built with the changes of [mended]
}

// programs lists all of them. Those of network/tools and network/tools/ca are rebuilt only
// when the versions in their go.mod change, ours when a source file does.
var programs = []program{
	{name: "peer", module: "network/tools", pkg: "github.com/hyperledger/fabric/cmd/peer", sources: []string{"network/tools/go.mod", "network/fixes.go"}, mended: true},
	{name: "orderer", module: "network/tools", pkg: "github.com/hyperledger/fabric/cmd/orderer", sources: []string{"network/tools/go.mod", "network/fixes.go"}, mended: true},
	{name: "configtxgen", module: "network/tools", pkg: "github.com/hyperledger/fabric/cmd/configtxgen", sources: []string{"network/tools/go.mod", "network/fixes.go"}, mended: true},
	{name: "osnadmin", module: "network/tools", pkg: "github.com/hyperledger/fabric/cmd/osnadmin", sources: []string{"network/tools/go.mod", "network/fixes.go"}, mended: true},
	{name: "fabric-ca-server", module: "network/tools/ca", pkg: "github.com/hyperledger/fabric-ca/cmd/fabric-ca-server", sources: []string{"network/tools/ca/go.mod"}, cgo: true},
	{name: "fabric-ca-client", module: "network/tools/ca", pkg: "github.com/hyperledger/fabric-ca/cmd/fabric-ca-client", sources: []string{"network/tools/ca/go.mod"}, cgo: true},
	{name: "process-compose", module: "network/tools", pkg: "github.com/f1bonacc1/process-compose/src", sources: []string{"network/tools/go.mod"}},
	{name: "zhenglian-chaincode", module: ".", pkg: "./cmd/zhenglian-chaincode", sources: []string{"go.mod", "domain", "proof", "chaincode", "cmd/zhenglian-chaincode"}},
	{name: "zhenglian", module: ".", pkg: "./cmd/zhenglian", sources: []string{"go.mod", "api", "domain", "proof", "gateway", "cmd/zhenglian"}},
}

// modulePath is how the repository is recognised.
const modulePath = "github.com/zhenglian/zhenglian"

// repository finds the root of the source tree that holds the folder or file at path.
// It returns the empty string outside of one: an installation that has its programs.
func repository(path string) string {
	dir, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	for {
		if data, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && modfile.ModulePath(data) == modulePath {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// outdated lists the programs that are missing, or older than their sources.
func outdated(l Layout, repo string, gateways bool) ([]program, error) {
	var stale []program
	for _, p := range programs {
		if p.name == "zhenglian" && !gateways {
			continue
		}
		info, err := os.Stat(l.Program(p.name))
		if err == nil && repo != "" {
			newer, err := newerThan(repo, p.sources, info.ModTime())
			if err != nil {
				return nil, err
			}
			if !newer {
				continue
			}
		} else if err == nil {
			continue
		}
		stale = append(stale, p)
	}
	return stale, nil
}

// newerThan reports whether a source changed after the time.
func newerThan(repo string, sources []string, t time.Time) (bool, error) {
	for _, source := range sources {
		found := false
		err := filepath.WalkDir(filepath.Join(repo, filepath.FromSlash(source)), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if d.IsDir() {
				if d.Name() == "testdata" || d.Name() == "docs" {
					return fs.SkipDir
				}
				return nil
			}
			if strings.HasSuffix(path, "_test.go") {
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.ModTime().After(t) {
				found = true
				return fs.SkipAll
			}
			return nil
		})
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// Build builds the programs that are missing or older than their sources and returns how
// many those were.
func (c *Consortium) Build(ctx context.Context) (int, error) {
	repo := c.sourceTree()
	stale, err := outdated(c.Layout, repo, c.Gateways)
	if err != nil {
		return 0, fmt.Errorf("compare the programs with their sources: %w", err)
	}
	if err := checkBuildTools(ctx, repo, stale); err != nil {
		return 0, err
	}
	return len(stale), c.buildAll(ctx, repo, stale)
}

// sourceTree finds the repository by the definition or else by the current folder.
func (c *Consortium) sourceTree() string {
	if repo := repository(c.DefinitionPath); repo != "" {
		return repo
	}
	return repository(".")
}

func (c *Consortium) buildAll(ctx context.Context, repo string, stale []program) error {
	for _, p := range stale {
		if err := c.Progress.Step("build "+p.name, func() (string, error) { return "", build(ctx, c.Layout, repo, p) }); err != nil {
			return err
		}
	}
	return nil
}

// build builds one program. Go's build cache makes it cheap when only a time stamp
// changed.
func build(ctx context.Context, l Layout, repo string, p program) error {
	module := filepath.Join(repo, filepath.FromSlash(p.module))
	args := []string{"build", "-o", l.Program(p.name)}
	if p.mended {
		// Always the same folder: its path is in the program, and the build cache knows it.
		folder := filepath.Join(filepath.Dir(l.Program(p.name)), ".build")
		defer os.RemoveAll(folder)
		goMod, err := fixed(ctx, module, mended, folder)
		if err != nil {
			return err
		}
		args = append(args, "-modfile="+goMod)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, p.pkg)...)
	cmd.Dir = module
	cmd.Env = os.Environ()
	if p.cgo {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w: %s", p.pkg, err, firstErrorLine(out))
	}
	now := time.Now()
	return os.Chtimes(l.Program(p.name), now, now) // unchanged output keeps its old time otherwise
}

// firstErrorLine picks the line of the compiler's output that says what is wrong.
func firstErrorLine(out []byte) string {
	for line := range bytes.Lines(out) {
		text := strings.TrimSpace(string(line))
		if text != "" && !strings.HasPrefix(text, "#") && !strings.HasPrefix(text, "go: downloading") {
			return text
		}
	}
	return "no output"
}
