package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
)

// The parts of a process-compose file that are used here.
type (
	composeFile struct {
		Version             string                    `yaml:"version"`
		IsStrict            bool                      `yaml:"is_strict"`
		DisableEnvExpansion bool                      `yaml:"disable_env_expansion"`
		LogLevel            string                    `yaml:"log_level"`
		Processes           map[string]composeProcess `yaml:"processes"`
	}
	composeProcess struct {
		Description  string                      `yaml:"description"`
		Namespace    string                      `yaml:"namespace"`
		Entrypoint   []string                    `yaml:"entrypoint,flow"`
		WorkingDir   string                      `yaml:"working_dir"`
		Environment  []string                    `yaml:"environment,flow,omitempty"`
		Disabled     bool                        `yaml:"disabled,omitempty"`
		Availability composeAvailability         `yaml:"availability,flow"`
		DependsOn    map[string]composeCondition `yaml:"depends_on,omitempty"`
		Readiness    *composeProbe               `yaml:"readiness_probe,omitempty"`
		LogLocation  string                      `yaml:"log_location"`
		Log          composeLog                  `yaml:"log_configuration"`
		Shutdown     composeShutdown             `yaml:"shutdown,flow"`
	}
	composeAvailability struct {
		Restart        string `yaml:"restart"`
		BackoffSeconds int    `yaml:"backoff_seconds"`
	}
	composeCondition struct {
		Condition string `yaml:"condition"`
	}
	composeProbe struct {
		Exec             *composeExec `yaml:"exec,omitempty"`
		HTTPGet          *composeGet  `yaml:"http_get,omitempty"`
		InitialDelay     int          `yaml:"initial_delay_seconds"`
		PeriodSeconds    int          `yaml:"period_seconds"`
		TimeoutSeconds   int          `yaml:"timeout_seconds"`
		FailureThreshold int          `yaml:"failure_threshold"`
	}
	composeExec struct {
		Command string `yaml:"command"`
	}
	composeGet struct {
		Host   string `yaml:"host"`
		Port   string `yaml:"port"`
		Path   string `yaml:"path"`
		Scheme string `yaml:"scheme"`
	}
	composeLog struct {
		NoMetadata    bool           `yaml:"no_metadata"`
		DisableJSON   bool           `yaml:"disable_json"`
		NoColor       bool           `yaml:"no_color"`
		FieldsOrder   []string       `yaml:"fields_order,flow"`
		FlushEachLine bool           `yaml:"flush_each_line"`
		Rotation      composeRotated `yaml:"rotation,flow"`
	}
	composeRotated struct {
		MaxSizeMB  int `yaml:"max_size_mb"`
		MaxBackups int `yaml:"max_backups"`
	}
	composeShutdown struct {
		Signal         int `yaml:"signal"`
		TimeoutSeconds int `yaml:"timeout_seconds"`
	}
)

// nodeKinds are the processes of a department in the order in which they start.
var nodeKinds = []string{"ca", "orderer", "chaincode", "peer", "gateway"}

// chaincodeKinds are the folders of the chaincode process in its two slots.
var chaincodeKinds = []string{"chaincode", "chaincode2"}

// renderSupervision writes the supervisor's file. Processes for which disabled is true
// are known to the supervisor but wait to be started.
func renderSupervision(l Layout, def *Definition, disabled func(kind string) bool) error {
	return renderProcesses(l, def, nil, func(kind, _ string) bool { return disabled(kind) })
}

// renderProcesses is [renderSupervision] that may keep further chaincode processes, by
// their slots, and disable single processes.
func renderProcesses(l Layout, def *Definition, slots []int, disabled func(kind, process string) bool) error {
	compose := composeFile{
		Version: "0.5", IsStrict: true, DisableEnvExpansion: true, LogLevel: "info",
		Processes: map[string]composeProcess{},
	}
	for _, dept := range def.Departments {
		for _, kind := range nodeKinds {
			p := superviseNode(l, dept, kind)
			p.Disabled = disabled(kind, dept.process(kind))
			compose.Processes[dept.process(kind)] = p
		}
		for _, slot := range slots {
			dept.slot = slot
			p := superviseNode(l, dept, "chaincode")
			p.Disabled = disabled("chaincode", dept.process("chaincode"))
			compose.Processes[dept.process("chaincode")] = p
		}
	}
	if err := os.MkdirAll(filepath.Dir(l.Log("x")), 0o700); err != nil {
		return err
	}
	data, err := yaml.Marshal(compose)
	if err != nil {
		return fmt.Errorf("render the supervisor's file: %w", err)
	}
	return writeFile(l.composeFile(), data, 0o600)
}

// loggingSpec shows what an operator can act on. The two exceptions would write a line
// for each transaction or block: a gateway hangs up after each broadcast, and a message
// of the previous block may arrive after that block.
const loggingSpec = "orderer.common.broadcast,orderer.consensus.smartbft.consensus=error:warn"

func superviseNode(l Layout, dept Department, kind string) composeProcess {
	home := l.Department(dept.Code, kind)
	if kind == "chaincode" {
		home = l.Department(dept.Code, chaincodeKinds[dept.slot])
	}
	p := composeProcess{
		Description: kind + " of " + dept.NameEn, Namespace: dept.Code, WorkingDir: home,
		Availability: composeAvailability{Restart: "always", BackoffSeconds: 1},
		LogLocation:  l.Log(dept.process(kind)),
		Log: composeLog{
			NoMetadata: true, DisableJSON: true, NoColor: true, FieldsOrder: []string{"message"}, FlushEachLine: true,
			Rotation: composeRotated{MaxSizeMB: 20, MaxBackups: 3},
		},
		Shutdown: composeShutdown{Signal: int(syscall.SIGTERM), TimeoutSeconds: 15},
	}
	// A collection at twice the live heap instead of once saves CPU, of which sixteen
	// processes on a small machine have little.
	p.Environment = []string{"GOGC=200"}
	fabric := []string{"FABRIC_CFG_PATH=" + home, "FABRIC_LOGGING_SPEC=" + loggingSpec, "FABRIC_LOGGING_FORMAT=%{time:2006-01-02T15:04:05.000Z07:00} %{level} [%{module}] %{message}"}
	switch kind {
	case "ca":
		p.Entrypoint = []string{l.Program("fabric-ca-server"), "start", "--home", home, "--loglevel", "warning"}
		p.Readiness = listening(dept.Ports.CA)
	case "orderer":
		p.Entrypoint = []string{l.Program("orderer")}
		p.Environment = append(p.Environment, fabric...)
		p.Readiness = listening(dept.Ports.Orderer)
	case "chaincode":
		p.Entrypoint = []string{l.Program("zhenglian-chaincode"), "--config", filepath.Join(home, "chaincode.json")}
		p.Readiness = listening(dept.chaincodePort(dept.slot))
	case "peer":
		p.Entrypoint = []string{l.Program("peer"), "node", "start"}
		p.Environment = append(p.Environment, fabric...)
		p.Readiness = listening(dept.Ports.Peer)
		// Not on the chaincode, which the peer dials when it needs it and which changes
		// its name with an upgrade.
		p.DependsOn = map[string]composeCondition{"orderer-" + dept.Code: {"process_started"}}
	case "gateway":
		p.Entrypoint = []string{l.Program("zhenglian"), "gateway", "--config", filepath.Join(home, "gateway.json")}
		// Alive, not ready: a gateway whose peer is down serves from its index and must
		// not be restarted for it.
		p.Readiness = &composeProbe{
			InitialDelay: 1, PeriodSeconds: 3, TimeoutSeconds: 3, FailureThreshold: 20,
			HTTPGet: &composeGet{Host: dept.Listen, Port: strconv.Itoa(dept.Ports.Gateway), Path: "/livez", Scheme: "http"},
		}
		p.DependsOn = map[string]composeCondition{"peer-" + dept.Code: {"process_started"}}
	}
	return p
}

// listening is a probe that looks for a listening socket in /proc. Connecting instead
// would leave an error about a broken TLS handshake in the node's log each time.
func listening(port int) *composeProbe {
	return &composeProbe{
		Exec:         &composeExec{Command: fmt.Sprintf("exec grep -qE '^ *[0-9]+: [0-9A-F]+:%04X [0-9A-F]+:0000 0A' /proc/net/tcp /proc/net/tcp6", port)},
		InitialDelay: 1, PeriodSeconds: 3, TimeoutSeconds: 3, FailureThreshold: 20,
	}
}

func (l Layout) composeFile() string { return l.Run("process-compose.yaml") }

// socket is the supervisor's control socket. A path of a socket is limited to about 100
// bytes, so a state folder deep in the file system has it in the temporary folder, in a
// folder that only its owner can enter.
func (l Layout) socket() string {
	path := l.Run("supervisor.sock")
	if len(path) < 100 {
		return path
	}
	sum := sha256.Sum256([]byte(l.State))
	return filepath.Join(os.TempDir(), "zhenglian-"+strconv.Itoa(os.Getuid())+"-"+hex.EncodeToString(sum[:8]), "supervisor.sock")
}

// supervisor talks to process-compose.
type supervisor struct {
	layout Layout
	client *http.Client
}

func newSupervisor(l Layout) *supervisor {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.socket())
	}
	return &supervisor{layout: l, client: &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 30 * time.Second,
	}}
}

// supervised is what the supervisor knows about one process.
type supervised struct {
	Name     string `json:"name"`
	Status   string `json:"status"`
	Health   string `json:"is_ready"`
	Restarts int    `json:"restarts"`
	PID      int    `json:"pid"`
	ExitCode int    `json:"exit_code"`
	Running  bool   `json:"is_running"`
	Age      int64  `json:"age"` // ns
	Mem      int64  `json:"mem"` // bytes
}

func (s *supervisor) call(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("supervisor: %s %s: %s: %s", method, path, resp.Status, lastLine(body))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("supervisor: %s: %w", path, err)
	}
	return nil
}

// alive reports whether the supervisor answers.
func (s *supervisor) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return s.call(ctx, http.MethodGet, "/live", nil) == nil
}

// list returns the supervised processes by name.
func (s *supervisor) list(ctx context.Context) (map[string]supervised, error) {
	var answer struct {
		Data []supervised `json:"data"`
	}
	if err := s.call(ctx, http.MethodGet, "/processes", &answer); err != nil {
		return nil, err
	}
	byName := make(map[string]supervised, len(answer.Data))
	for _, p := range answer.Data {
		byName[p.Name] = p
	}
	return byName, nil
}

// launch starts the supervisor detached from this process and waits until it answers.
func (s *supervisor) launch(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(s.layout.socket()), 0o700); err != nil {
		return err
	}
	cmd := exec.Command(s.layout.Program("process-compose"),
		"-f", s.layout.composeFile(), "-t=false", "--keep-project", "--disable-dotenv",
		"-U", "-u", s.layout.socket(), "-L", s.layout.Log(supervisorName))
	cmd.Dir = s.layout.Run()
	cmd.Env = append(cleanEnvironment(), "NO_COLOR=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for !s.alive(ctx) {
		select {
		case err := <-ended:
			return &Problem{
				Cause:  fmt.Sprintf("the supervisor ended at once (%v)", err),
				Remedy: "see " + s.layout.Log(supervisorName), Err: err,
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// start starts those of the processes that are not running and waits until all of them
// listen on all their ports. It gives up on one that keeps ending.
func (s *supervisor) start(ctx context.Context, listeners []Listener, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("still not listening after %s", patience))
	defer cancel()
	before, err := s.list(ctx)
	if err != nil {
		return err
	}
	asked := map[string]bool{}
	for _, lis := range listeners {
		p, ok := before[lis.Process]
		if !ok {
			return fmt.Errorf("the supervisor does not know %s", lis.Process)
		}
		if asked[lis.Process] || p.Running || p.Status == "Pending" || p.Status == "Restarting" || p.Status == "Launching" {
			continue
		}
		asked[lis.Process] = true
		if err := s.call(ctx, http.MethodPost, "/process/start/"+url.PathEscape(lis.Process), nil); err != nil {
			return fmt.Errorf("start %s: %w", lis.Process, err)
		}
	}
	for {
		now, err := s.list(ctx)
		if err != nil {
			return err
		}
		open, err := listeningPorts()
		if err != nil {
			return err
		}
		var missing *Listener
		for _, lis := range listeners {
			p := now[lis.Process]
			if p.Restarts >= before[lis.Process].Restarts+3 {
				return problem("see "+s.layout.Log(lis.Process), "%s ended %d times, last with exit code %d", lis.Process, p.Restarts, p.ExitCode)
			}
			if missing == nil && (!p.Running || !open[lis.Port]) {
				missing = &lis
			}
		}
		if missing == nil {
			return nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return &Problem{Cause: fmt.Sprintf("%s, port %d: %v", missing.Process, missing.Port, err), Remedy: "see " + s.layout.Log(missing.Process), Err: err}
		}
	}
}

// restart stops and starts one process.
func (s *supervisor) restart(ctx context.Context, name string) error {
	return s.call(ctx, http.MethodPost, "/process/restart/"+url.PathEscape(name), nil)
}

// end stops those of the processes that are running, in their order, and returns when
// they are gone.
func (s *supervisor) end(ctx context.Context, names ...string) error {
	for _, name := range names {
		known, err := s.list(ctx)
		if err != nil {
			return err
		}
		if !known[name].Running {
			continue
		}
		if err := s.halt(ctx, name); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; {
			found, err := s.layout.processes()
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(found, func(p process) bool { return p.Name == name }) {
				break
			}
			if time.Now().After(deadline) {
				return problem("see "+s.layout.Log(name), "%s does not stop", name)
			}
			if err := sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// halt stops a process, or the attempts to start it.
func (s *supervisor) halt(ctx context.Context, name string) error {
	return s.call(ctx, http.MethodPatch, "/process/stop/"+url.PathEscape(name), nil)
}

// supervise changes what the supervisor knows to the definition and further chaincode
// slots. It starts nothing that did not run; processes that are no longer known are
// stopped.
func (s *supervisor) supervise(ctx context.Context, def *Definition, slots []int) error {
	known, err := s.list(ctx)
	if err != nil {
		return err
	}
	// A process whose entry changes in any way is started anew, so each keeps the switch
	// with which the supervisor was started; new ones wait to be started.
	off := map[string]bool{}
	for name := range known {
		var entry struct {
			Disabled bool `json:"disabled"`
		}
		if err := s.call(ctx, http.MethodGet, "/process/info/"+url.PathEscape(name), &entry); err != nil {
			continue // removed before: the supervisor lists it for ever
		}
		off[name] = entry.Disabled
	}
	err = renderProcesses(s.layout, def, slots, func(_, process string) bool {
		disabled, ok := off[process]
		return disabled || !ok
	})
	if err != nil {
		return err
	}
	if err := s.call(ctx, http.MethodPost, "/project/configuration", nil); err != nil {
		return fmt.Errorf("change the supervised processes: %w", err)
	}
	// An entry that another release of this program wrote may differ after all, and then
	// its process was stopped.
	var running []Listener
	for _, dept := range def.Departments {
		for _, lis := range dept.Listeners() {
			if known[lis.Process].Running {
				running = append(running, lis)
			}
		}
	}
	return s.start(ctx, running, 60*time.Second)
}

// stop asks the supervisor to end everything and itself.
func (s *supervisor) stop(ctx context.Context) error {
	return s.call(ctx, http.MethodPost, "/project/stop", nil)
}

// cleanEnvironment is what programs get of the caller's environment: a stray CORE_PEER_…
// or ORDERER_… variable would silently change a node.
func cleanEnvironment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LANG", "TZ", "SSL_CERT_FILE"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
