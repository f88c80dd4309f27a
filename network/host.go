package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Host says where things will be on a department's own machine.
type Host struct {
	State string // the state folder
	Bin   string // the programs
	Etc   string // the environment of the services
}

// RenderResult is a folder for a department's machine.
type RenderResult struct {
	Department string   `json:"department"`
	Folder     string   `json:"folder"`
	Files      int      `json:"files"`
	Units      []string `json:"units"`
}

// hostMark tells a folder that Render made from one that it must not replace.
const hostMark = "README.md"

// hostPath is what a unit file takes as it is: no spaces, no specifiers.
var hostPath = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)

// Render writes the folder that one department carries to a machine of its own: its state
// folder without ledgers, with its own keys and of the others only what is public, and
// systemd services. It replaces a folder that it made before.
func (c *Consortium) Render(ctx context.Context, department, out string, host Host) (*RenderResult, error) {
	for _, path := range []string{host.State, host.Bin, host.Etc} {
		if !hostPath.MatchString(path) {
			return nil, problem("give an absolute path of letters, digits and . _ -", "%q cannot stand in a service file", path)
		}
	}
	def, err := c.Definition()
	if err != nil {
		return nil, err
	}
	dept, ok := def.Department(department)
	if !ok {
		return nil, problem("name one with --department", "%q is no department of the consortium", department)
	}
	if !exists(c.Layout.Department(dept.Code, "peer", "msp", "signcerts", "cert.pem")) || !exists(c.Layout.Trust()) {
		return nil, problem("run make up first", "%s has no keys yet", dept.Code)
	}
	if exists(out) {
		if mark, err := os.ReadFile(filepath.Join(out, hostMark)); err != nil || !strings.Contains(string(mark), "Made by `zhenglian-network render`") {
			return nil, problem("choose a folder that does not exist", "%s was not made by this command", out)
		}
		if err := os.RemoveAll(out); err != nil {
			return nil, err
		}
	}
	h := &hostFolder{source: c.Layout, def: def, dept: dept, host: host, out: out}
	result := &RenderResult{Department: dept.Code, Folder: out, Units: []string{}}
	for _, s := range []struct {
		name string
		run  func() (string, error)
	}{
		{"copy keys and certificates", func() (string, error) { return "", h.copyParts(ctx) }},
		{"render configuration", h.render},
		{"render services", func() (string, error) {
			result.Units, err = h.services()
			return fmt.Sprintf("%d units", len(result.Units)), err
		}},
		{"look for foreign keys", func() (string, error) {
			result.Files, err = h.check()
			return fmt.Sprintf("%d files, no key of another department", result.Files), err
		}},
	} {
		if err := c.Progress.Step(s.name, s.run); err != nil {
			return nil, errors.Join(err, os.RemoveAll(out)) // keys do not stay behind
		}
	}
	return result, nil
}

type hostFolder struct {
	source Layout
	def    *Definition
	dept   Department
	host   Host
	out    string
}

// layout is the state folder inside the rendered one.
func (h *hostFolder) layout() Layout {
	return Layout{State: filepath.Join(h.out, "state"), Bin: h.host.Bin, hosted: h.host.State}
}

// leftOut are the parts of a department's folder that a new machine must not have: what
// its programs write, and what a command left unfinished.
var leftOut = []string{"peer/data", "orderer/data", "gateway/data", "ca/enrolling", "ca/revoking", "orderer/next", "retired"}

func (h *hostFolder) copyParts(ctx context.Context) error {
	own := "departments/" + h.dept.Code + "/"
	for _, part := range departmentParts(h.def, h.dept) {
		root := filepath.Join(h.source.State, filepath.FromSlash(part))
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			rel, err := filepath.Rel(h.source.State, path)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			if inside, ok := strings.CutPrefix(rel, own); ok && slices.Contains(leftOut, inside) {
				return fs.SkipDir
			}
			if rel == "channel/configtx.yaml" {
				return nil // names folders of this machine, and the genesis block is made
			}
			info, err := d.Info()
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return writeFile(filepath.Join(h.layout().State, filepath.FromSlash(rel)), data, info.Mode().Perm())
		})
		if err != nil {
			return fmt.Errorf("copy %s: %w", part, err)
		}
	}
	return nil
}

func (h *hostFolder) render() (string, error) {
	l := h.layout()
	_, packageID, err := loadPackage(l, h.def.Chaincode)
	if err != nil {
		return "", err
	}
	if err := renderDepartment(l, h.def, h.dept, packageID); err != nil {
		return "", err
	}
	// The MSP of the admin, for Fabric's own command line.
	config, err := os.ReadFile(l.Department(h.dept.Code, "msp", "config.yaml"))
	if err != nil {
		return "", err
	}
	for from, to := range map[string]string{
		"users/admin/cert.pem":     "users/admin/msp/signcerts/cert.pem",
		"users/admin/key.pem":      "users/admin/msp/keystore/key.pem",
		"msp/cacerts/ca.pem":       "users/admin/msp/cacerts/ca.pem",
		"msp/tlscacerts/tlsca.pem": "users/admin/msp/tlscacerts/tlsca.pem",
	} {
		data, err := os.ReadFile(l.Department(h.dept.Code, filepath.FromSlash(from)))
		if err != nil {
			return "", err
		}
		if err := writeFile(l.Department(h.dept.Code, filepath.FromSlash(to)), data, 0o600); err != nil {
			return "", err
		}
	}
	return "for " + h.host.State, writeFile(l.Department(h.dept.Code, "users", "admin", "msp", "config.yaml"), config, 0o644)
}

// services writes a unit and an environment file for each program, the target that starts
// them all, the account they run under and what to do with all this.
func (h *hostFolder) services() ([]string, error) {
	there := Layout{State: h.host.State, Bin: h.host.Bin}
	home := func(kind string) string {
		if kind == "chaincode" {
			kind = chaincodeKinds[h.dept.slot]
		}
		return there.Department(h.dept.Code, kind)
	}
	put := func(data []byte, elem ...string) error {
		return writeFile(filepath.Join(append([]string{h.out}, elem...)...), data, 0o644)
	}
	units := []string{}
	for i, kind := range nodeKinds {
		process := superviseNode(there, h.dept, kind)
		page := struct {
			page
			Kind, Etc, Home, Command string
			After, Writes, Hidden    []string
		}{
			page: page{Def: h.def, Dept: h.dept}, Kind: kind, Etc: h.host.Etc, Home: home(kind),
			Command: strings.Join(process.Entrypoint, " "),
		}
		switch kind {
		case "ca":
			page.Writes = []string{home(kind)}
		case "gateway":
			page.Writes = []string{filepath.Join(home(kind), "data")}
		case "orderer", "peer":
			page.Writes = []string{filepath.Join(home(kind), "data")}
		}
		if kind != "ca" {
			page.After = nodeKinds[1:i]
			// A program that is broken into has its own keys and not its authority's.
			page.Hidden = []string{home("ca")}
		}
		unit, err := renderTemplate("unit.service.tmpl", there, h.def, h.dept, page)
		if err != nil {
			return nil, err
		}
		name := "zhenglian-" + kind + ".service"
		units = append(units, name)
		var env strings.Builder
		for _, line := range process.Environment {
			key, value, _ := strings.Cut(line, "=")
			fmt.Fprintf(&env, "%s=%s\n", key, strconv.Quote(value))
		}
		if err := errors.Join(put(unit, "systemd", name), put([]byte(env.String()), "etc", kind+".env")); err != nil {
			return nil, err
		}
		for _, dir := range page.Writes { // a unit does not start without it
			rel, err := filepath.Rel(h.host.State, dir)
			if err != nil {
				return nil, err
			}
			if err := os.MkdirAll(filepath.Join(h.layout().State, rel), 0o700); err != nil {
				return nil, err
			}
		}
	}
	target := "[Unit]\nDescription=Zhenglian, everything of " + h.dept.Code + "\nWants=" + strings.Join(units, " ") + "\n\n[Install]\nWantedBy=multi-user.target\n"
	readme, err := renderTemplate("host.md.tmpl", there, h.def, h.dept, struct {
		page
		State, Bin, Etc string
	}{page{Def: h.def, Dept: h.dept}, h.host.State, h.host.Bin, h.host.Etc})
	if err != nil {
		return nil, err
	}
	return units, errors.Join(
		put([]byte(target), "systemd", "zhenglian.target"),
		put([]byte("u zhenglian - \"Zhenglian\" "+h.host.State+" -\n"), "systemd", "zhenglian.sysusers"),
		put(readme, hostMark),
	)
}

// check counts the files and refuses a private key outside of the department's own folder.
func (h *hostFolder) check() (int, error) {
	files := 0
	own := h.layout().Department(h.dept.Code) + string(filepath.Separator)
	err := filepath.WalkDir(h.out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		secret := strings.Contains(string(data), "PRIVATE KEY")
		if secret && !strings.HasPrefix(path, own) {
			return fmt.Errorf("%s holds a private key and is not %s's", path, h.dept.Code)
		}
		return nil
	})
	return files, err
}
