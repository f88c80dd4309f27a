package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Consortium is what the commands act on.
type Consortium struct {
	Layout         Layout
	DefinitionPath string
	Gateways       bool // false: everything up to the chaincode, for tests of the network itself
	Progress       *Progress
}

// Definition is what the consortium is: the definition of its first up or, before that,
// the file at DefinitionPath.
func (c *Consortium) Definition() (*Definition, error) {
	def, err := LoadDefinition(c.Layout.DefinitionCopy())
	if errors.Is(err, fs.ErrNotExist) {
		return LoadDefinition(c.DefinitionPath)
	}
	if err != nil {
		return nil, err
	}
	state, err := c.Layout.LoadState()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	def.setSlot(state.Slot)
	return def, nil
}

// UpResult is what an up found and did.
type UpResult struct {
	Already bool      `json:"already"` // everything was running, nothing was done
	Seconds float64   `json:"seconds"`
	Steps   []Step    `json:"steps"`
	Gateway []Gateway `json:"gateways"`
	Tokens  string    `json:"tokens"` // folder of the access tokens
	Trust   string    `json:"trust"`  // file of the trust anchors
}

// Gateway is where a department's gateway answers.
type Gateway struct {
	Department string `json:"department"`
	NameZh     string `json:"nameZh"`
	URL        string `json:"url"`
	Ready      bool   `json:"ready"`
	Detail     string `json:"detail,omitempty"` // why it is not ready
}

// Up brings the consortium from any state to running: nothing there yet, half made,
// stopped, killed or running. Every step looks at what is there and does what is
// missing. Preconditions that do not hold are reported before anything changes, as a
// [*Problem].
func (c *Consortium) Up(ctx context.Context) (*UpResult, error) {
	def, err := LoadDefinition(c.DefinitionPath)
	if err != nil {
		return nil, err
	}
	state, err := checkDefinition(c.Layout, def, c.DefinitionPath)
	if err != nil {
		return nil, err
	}
	def.setSlot(state.Slot)
	u := &bringUp{Consortium: c, def: def, state: state, repo: c.sourceTree(), supervisor: newSupervisor(c.Layout)}
	stale, err := outdated(c.Layout, u.repo, c.Gateways)
	if err != nil {
		return nil, fmt.Errorf("compare the programs with their sources: %w", err)
	}
	result := &UpResult{Tokens: filepath.Join(c.Layout.State, "tokens"), Trust: c.Layout.Trust()}
	if len(stale) == 0 && state.Complete && u.running(ctx) {
		result.Already = true
	} else {
		if err := u.preflight(ctx, stale); err != nil {
			return nil, err
		}
		if err := u.run(ctx, stale); err != nil {
			return nil, err
		}
	}
	result.Gateway = c.gateways(ctx, def)
	result.Seconds, result.Steps = c.Progress.Elapsed().Seconds(), c.Progress.Steps()
	return result, nil
}

// bringUp is one run of up.
type bringUp struct {
	*Consortium
	def        *Definition
	state      State
	repo       string // source tree, empty outside of one
	supervisor *supervisor
	pkg        []byte // chaincode package
	packageID  string
}

// running reports whether nothing is left to do.
func (u *bringUp) running(ctx context.Context) bool {
	if !u.supervisor.alive(ctx) {
		return false
	}
	found, err := u.Layout.processes()
	if err != nil {
		return false
	}
	up := map[string]bool{}
	for _, p := range found {
		up[p.Name] = !p.Stale || p.Name == supervisorName
	}
	for _, lis := range u.listeners(nodeKinds...) {
		if !up[lis.Process] {
			return false
		}
	}
	if u.Gateways {
		for _, g := range u.gateways(ctx, u.def) {
			if !g.Ready {
				return false
			}
		}
	}
	return true
}

// listeners are the ports of the processes of the given kinds; gateways only if wanted.
func (u *bringUp) listeners(kinds ...string) []Listener {
	var all []Listener
	for _, dept := range u.def.Departments {
		for _, lis := range dept.Listeners() {
			for _, kind := range kinds {
				if lis.Process == dept.process(kind) && (kind != "gateway" || u.Gateways) {
					all = append(all, lis)
				}
			}
		}
	}
	return all
}

// preflight checks everything that can be known before anything changes.
func (u *bringUp) preflight(ctx context.Context, stale []program) error {
	if err := checkFreeSpace(u.Layout.State, minFreeBytes); err != nil {
		return err
	}
	if err := checkAddress(); err != nil {
		return err
	}
	if err := checkBuildTools(ctx, u.repo, stale); err != nil {
		return err
	}
	// After a kill -9 of everything, ports stay taken for a moment.
	for deadline := time.Now().Add(10 * time.Second); ; {
		running, err := u.Layout.processes()
		if err != nil {
			return err
		}
		err = checkPorts(u.def, running, u.Gateways)
		if !errors.Is(err, errHolderUnknown) || time.Now().After(deadline) {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (u *bringUp) run(ctx context.Context, stale []program) error {
	unlock, err := u.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if len(u.def.Departments) < 4 {
		u.Progress.Note("note: BFT ordering among fewer than 4 departments does not survive the loss of one")
	}
	if u.state.Format != "" && !u.state.Complete {
		u.Progress.Note("resuming an earlier up that did not finish")
	}
	if err := u.buildAll(ctx, u.repo, stale); err != nil {
		return err
	}
	if err := u.remember(); err != nil {
		return err
	}
	steps := []struct {
		name string
		run  func(context.Context) (string, error)
	}{
		{"start certificate authorities", u.startCAs},
		{"enrol identities", u.enrol},
		{"render configuration", u.render},
		{"start peers and orderers", u.startNodes},
	}
	for _, s := range steps {
		if err := u.Progress.Step(s.name, func() (string, error) { return s.run(ctx) }); err != nil {
			return err
		}
	}
	admins, err := connectAdministrators(u.Layout, u.def)
	if err != nil {
		return err
	}
	defer admins.close()
	err = u.Progress.Step("join orderers", func() (string, error) {
		n, err := joinOrderers(ctx, u.Layout, u.def)
		return fmt.Sprintf("%d joined", n), err
	})
	if err != nil {
		return err
	}
	err = u.Progress.Step("join peers", func() (string, error) {
		n, err := joinPeers(ctx, u.Layout, admins)
		return fmt.Sprintf("%d joined channel %s", n, u.def.Channel), err
	})
	if err != nil {
		return err
	}
	err = u.Progress.Step("install chaincode", func() (string, error) {
		n, err := installChaincode(ctx, u.Layout, admins, u.pkg, u.packageID)
		return fmt.Sprintf("%d installed %s", n, shortID(u.packageID)), err
	})
	if err != nil {
		return err
	}
	err = u.Progress.Step("agree on the chaincode", func() (string, error) {
		return agree(ctx, u.Layout, admins, u.packageID, len(u.def.Departments))
	})
	if err != nil {
		return err
	}
	if u.Gateways {
		if err := u.Progress.Step("start gateways", func() (string, error) { return u.startGateways(ctx) }); err != nil {
			return err
		}
	}
	u.state.Complete = true
	if err := u.Layout.saveState(u.state); err != nil {
		return err
	}
	return renderSupervision(u.Layout, u.def, u.waiting)
}

// lock keeps a second up, down or reset of the same state folder out.
func (c *Consortium) lock() (unlock func(), err error) {
	if err := os.MkdirAll(c.Layout.Run(), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(c.Layout.Run("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, &Problem{Cause: "another zhenglian-network is changing " + c.Layout.State, Remedy: "wait until it ends", Err: err}
	}
	return func() { _ = f.Close() }, nil // it holds a lock and no data
}

// remember notes which definition the state folder is made from, before anything else
// is in it.
func (u *bringUp) remember() error {
	if u.state.Format == "" {
		source, err := os.ReadFile(u.DefinitionPath)
		if err != nil {
			return err
		}
		if err := writeFile(u.Layout.DefinitionCopy(), source, 0o644); err != nil {
			return err
		}
		u.state = State{Format: stateFormat, Definition: u.def.Digest()}
		return u.Layout.saveState(u.state)
	}
	return nil
}

// waiting says which processes the supervisor must not start by itself: those whose
// configuration is not complete yet, and gateways nobody asked for.
func (u *bringUp) waiting(kind string) bool {
	if kind == "gateway" && !u.Gateways {
		return true
	}
	return !u.state.Complete && kind != "ca"
}

func (u *bringUp) startCAs(ctx context.Context) (string, error) {
	for _, dept := range u.def.Departments {
		if err := renderCA(u.Layout, u.def, dept); err != nil {
			return "", err
		}
		for _, kind := range nodeKinds {
			if err := os.MkdirAll(u.Layout.Department(dept.Code, kind), 0o700); err != nil {
				return "", err
			}
		}
	}
	result := ""
	if !u.supervisor.alive(ctx) {
		// A killed supervisor leaves its processes behind, and they hold the ports.
		left, err := u.Layout.stopProcesses(ctx, 10*time.Second)
		if err != nil {
			return "", err
		}
		if left > 0 {
			result = fmt.Sprintf("stopped %d processes without a supervisor", left)
		}
		if err := renderSupervision(u.Layout, u.def, u.waiting); err != nil {
			return "", err
		}
		if err := u.supervisor.launch(ctx); err != nil {
			return "", err
		}
	} else if err := u.restartStale(ctx); err != nil {
		return "", err
	}
	return result, u.supervisor.start(ctx, u.listeners("ca"), 60*time.Second)
}

// restartStale replaces processes whose program was rebuilt since they started.
func (u *bringUp) restartStale(ctx context.Context) error {
	found, err := u.Layout.processes()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range found {
		if p.Stale && p.Name != supervisorName {
			u.Progress.Note("restarting %s: its program was rebuilt", p.Name)
			group.Go(func() error { return u.supervisor.restart(ctx, p.Name) })
		}
	}
	return group.Wait()
}

func (u *bringUp) enrol(ctx context.Context) (string, error) {
	fetched := make([]int, len(u.def.Departments))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, dept := range u.def.Departments {
		group.Go(func() error {
			var err error
			fetched[i], err = enrol(groupCtx, u.Layout, u.def, dept)
			if err != nil {
				return &Problem{Cause: err.Error(), Remedy: "see " + u.Layout.Log("ca-"+dept.Code) + " and run up again", Err: err}
			}
			return nil
		})
	}
	err := group.Wait()
	total := 0
	for _, n := range fetched {
		total += n
	}
	return fmt.Sprintf("%d certificates from %d authorities", total, len(u.def.Departments)), err
}

func (u *bringUp) render(ctx context.Context) (string, error) {
	var err error
	u.pkg, u.packageID, err = loadPackage(u.Layout, u.def.Chaincode)
	if err != nil {
		return "", err
	}
	for _, dept := range u.def.Departments {
		if err := renderDepartment(u.Layout, u.def, dept, u.packageID); err != nil {
			return "", err
		}
	}
	if err := writeTrust(u.Layout, u.def); err != nil {
		return "", err
	}
	made, err := makeGenesis(ctx, u.Layout, u.def)
	if made {
		return "genesis block made", err
	}
	return "", err
}

func (u *bringUp) startNodes(ctx context.Context) (string, error) {
	listeners := u.listeners("orderer", "chaincode", "peer")
	return "", u.supervisor.start(ctx, listeners, 90*time.Second)
}

func (u *bringUp) startGateways(ctx context.Context) (string, error) {
	if err := u.supervisor.start(ctx, u.listeners("gateway"), 60*time.Second); err != nil {
		return "", err
	}
	// Ready means that the gateway evaluated a real query: the peers know one another by
	// then, which is a matter of seconds after a start.
	deadline := time.Now().Add(90 * time.Second)
	for {
		var waiting *Gateway
		for _, g := range u.gateways(ctx, u.def) {
			if !g.Ready && waiting == nil {
				waiting = &g
			}
		}
		if waiting == nil {
			return fmt.Sprintf("%d ready", len(u.def.Departments)), nil
		}
		if time.Now().After(deadline) {
			return "", problem("see "+u.Layout.Log("gateway-"+waiting.Department)+" and run up again",
				"gateway-%s is not ready: %s", waiting.Department, waiting.Detail)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// gateways asks every gateway whether it is ready.
func (c *Consortium) gateways(ctx context.Context, def *Definition) []Gateway {
	answers := make([]Gateway, len(def.Departments))
	client := &http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var group errgroup.Group
	for i, dept := range def.Departments {
		group.Go(func() error {
			g := Gateway{Department: dept.Code, NameZh: dept.NameZh, URL: dept.URL()}
			g.Ready, g.Detail = ready(ctx, client, net.JoinHostPort(dept.Listen, strconv.Itoa(dept.Ports.Gateway)))
			answers[i] = g
			return nil
		})
	}
	_ = group.Wait() // the answers carry the failures
	return answers
}

func ready(ctx context.Context, client *http.Client, address string) (bool, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false, err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return false, op.Err.Error()
		}
		return false, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // the status decides, the text explains
	if resp.StatusCode == http.StatusOK {
		return true, ""
	}
	return false, resp.Status + " " + strings.Join(strings.Fields(string(body)), " ")
}
