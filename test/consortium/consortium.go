// Package consortium starts a consortium of departments for tests and
// benchmarks: the real programs, with state and ports of their own, so that a
// network that somebody uses on the same machine is never touched.
package consortium

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"
)

// Options say where a consortium lives.
type Options struct {
	Root       string         // the repository
	Bin        string         // the programs; "" means the folder bin of Root
	State      string         // state folder, deleted first unless Reuse
	PortOffset int            // added to every port of network/consortium.yaml
	Without    []string       // departments to leave out
	Redis      string         // URL of a shared cache, "" for none
	Reuse      bool           // take over a state that is already there
	Output     io.Writer      // what the programs print
	Settings   map[string]any // top-level settings of the definition to replace
	// Causal lets every request know of the writes that the earlier ones made, at
	// whatever gateway: what users do one after the other. Load is not like that.
	Causal bool
}

// Consortium is a running consortium.
type Consortium struct {
	Root, State string
	bin         string
	definition  string
	output      io.Writer
	Started     time.Duration // how long the start took
	gateways    map[string]*Gateway
	client      *http.Client
}

// Gateway is one department's gateway and the tokens of its users.
type Gateway struct {
	Department string
	URL        string
	tokens     map[string]string // by role
	client     *http.Client
	latest     *atomic.Uint64 // the last block that an answer named; nil unless Causal
}

// Start brings a consortium up and returns when its gateways are ready.
func Start(ctx context.Context, o Options) (*Consortium, error) {
	c := &Consortium{
		Root: o.Root, State: o.State, bin: cmp.Or(o.Bin, filepath.Join(o.Root, "bin")), output: o.Output,
		definition: o.State + ".yaml",
		gateways:   map[string]*Gateway{},
		client: &http.Client{
			Timeout:   90 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		},
	}
	if err := c.writeDefinition(o); err != nil {
		return nil, err
	}
	if !o.Reuse {
		if err := c.Network(ctx, "reset", "--yes"); err != nil {
			return nil, fmt.Errorf("reset: %w", err)
		}
	}
	started := time.Now()
	if err := c.Up(ctx); err != nil {
		// What did start must not outlive the run; its state stays, to look at.
		return nil, errors.Join(err, c.Down(context.WithoutCancel(ctx)))
	}
	c.Started = time.Since(started)
	return c, c.loadGateways(o.Causal)
}

// writeDefinition derives the definition from the repository's own, so that the
// tests run what users run.
func (c *Consortium) writeDefinition(o Options) error {
	data, err := os.ReadFile(filepath.Join(o.Root, "network", "consortium.yaml"))
	if err != nil {
		return err
	}
	var def map[string]any
	if err := yaml.Unmarshal(data, &def); err != nil {
		return fmt.Errorf("network/consortium.yaml: %w", err)
	}
	departments, ok := def["departments"].([]any)
	if !ok || len(departments) == 0 {
		return errors.New("network/consortium.yaml: no departments")
	}
	departments = slices.DeleteFunc(departments, func(d any) bool {
		code, _ := d.(map[string]any)["code"].(string)
		return slices.Contains(o.Without, code)
	})
	def["departments"] = departments
	for _, d := range departments {
		ports, ok := d.(map[string]any)["ports"].(map[string]any)
		if !ok {
			return errors.New("network/consortium.yaml: a department has no ports")
		}
		for name, port := range ports {
			ports[name] = port.(int) + o.PortOffset
		}
	}
	def["redis"] = o.Redis
	for k, v := range o.Settings {
		def[k] = v
	}
	out, err := yaml.Marshal(def)
	if err != nil {
		return err
	}
	return os.WriteFile(c.definition, out, 0o600)
}

// Up brings the consortium up, or back up.
func (c *Consortium) Up(ctx context.Context) error {
	if err := c.Network(ctx, "up"); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	return nil
}

// Down stops every process.
func (c *Consortium) Down(ctx context.Context) error { return c.Network(ctx, "down") }

// Reset stops every process and deletes the state.
func (c *Consortium) Reset(ctx context.Context) error {
	return errors.Join(c.Network(ctx, "reset", "--yes"), os.RemoveAll(c.definition))
}

// Definition is the file that says what this consortium is.
func (c *Consortium) Definition() string { return c.definition }

// Reload learns of departments that joined since the start.
func (c *Consortium) Reload() error { return c.loadGateways(false) }

// CloseIdleConnections ends those to the gateways that nobody uses at this moment.
func (c *Consortium) CloseIdleConnections() { c.client.CloseIdleConnections() }

// Network runs zhenglian-network with this consortium's state and definition.
func (c *Consortium) Network(ctx context.Context, command string, args ...string) error {
	_, err := c.run(ctx, c.output, "zhenglian-network", append([]string{command, "--state", c.State, "--definition", c.definition, "--bin", c.bin}, args...)...)
	return err
}

// Run runs one of the programs and answers its standard output.
func (c *Consortium) Run(ctx context.Context, program string, args ...string) ([]byte, error) {
	return c.run(ctx, nil, program, args...)
}

func (c *Consortium) run(ctx context.Context, also io.Writer, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Dir = c.Root
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if also != nil {
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, also), io.MultiWriter(&stderr, also)
	}
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("%s %s: %w\n%s", program, args[0], err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

func (c *Consortium) loadGateways(causal bool) error {
	var latest *atomic.Uint64
	if causal {
		latest = new(atomic.Uint64)
	}
	files, err := filepath.Glob(filepath.Join(c.State, "departments", "*", "gateway", "gateway.json"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no gateway under %s", c.State)
	}
	for _, file := range files {
		var cfg struct {
			Department string `json:"department"`
			PublicURL  string `json:"publicUrl"`
		}
		if err := readJSON(file, &cfg); err != nil {
			return err
		}
		g := &Gateway{Department: cfg.Department, URL: cfg.PublicURL, client: c.client, latest: latest}
		if err := readJSON(filepath.Join(c.State, "tokens", cfg.Department+".json"), &g.tokens); err != nil {
			return err
		}
		c.gateways[cfg.Department] = g
	}
	return nil
}

func readJSON(file string, v any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// Gateway is the gateway of a department; it panics on one that is not there.
func (c *Consortium) Gateway(department string) *Gateway {
	g := c.gateways[department]
	if g == nil {
		panic("no gateway of department " + department)
	}
	return g
}

// Departments answers the departments' codes, sorted.
func (c *Consortium) Departments() []string { return slices.Sorted(maps.Keys(c.gateways)) }

// TokenFile writes a token to a file of its own, for programs that read it from
// one, and answers its path.
func (c *Consortium) TokenFile(department, role string) (string, error) {
	path := filepath.Join(c.State, "token-"+department+"-"+role)
	return path, os.WriteFile(path, []byte(c.Gateway(department).tokens[role]+"\n"), 0o600)
}

// Response is what a gateway answered.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends one request with the token of role ("" for none) and body as JSON
// (nil for none).
func (g *Gateway) Do(ctx context.Context, role, method, path string, body any) (Response, error) {
	return g.DoWith(ctx, role, method, path, body, nil)
}

// DoWith is [Gateway.Do] with further headers.
func (g *Gateway) DoWith(ctx context.Context, role, method, path string, body any, header http.Header) (Response, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return Response{}, err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, g.URL+path, reader)
	if err != nil {
		return Response{}, err
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if role != "" {
		req.Header.Set("Authorization", "Bearer "+g.tokens[role])
		if g.latest != nil && g.latest.Load() > 0 {
			req.Header.Set("Min-Block", strconv.FormatUint(g.latest.Load(), 10))
		}
	}
	res, err := g.client.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err == nil && g.latest != nil && method != http.MethodGet {
		g.note(data)
	}
	return Response{Status: res.StatusCode, Header: res.Header, Body: data}, err
}

// note keeps the block that the answer to a write names.
func (g *Gateway) note(answer []byte) {
	var written struct {
		Block uint64 `json:"block"`
	}
	if json.Unmarshal(answer, &written) != nil {
		return // another kind of answer
	}
	for {
		known := g.latest.Load()
		if known >= written.Block || g.latest.CompareAndSwap(known, written.Block) {
			return
		}
	}
}

// Written is the answer to a write and the item of a list.
type Written[T any] struct {
	Record T      `json:"record"`
	Block  uint64 `json:"block"`
	TxID   string `json:"txId"`
}

// Call is [Gateway.Do] for an answer of status want that is decoded into out
// (nil to ignore it).
func (g *Gateway) Call(ctx context.Context, role, method, path string, body any, want int, out any) error {
	res, err := g.Do(ctx, role, method, path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.Status != want {
		return fmt.Errorf("%s %s: status %d, want %d: %.1000s", method, path, res.Status, want, res.Body)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(res.Body, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}
