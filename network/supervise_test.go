package network

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeSupervisor answers like process-compose on the layout's socket.
type fakeSupervisor struct {
	mu        sync.Mutex
	processes map[string]supervised
	started   []string
	onStart   func(p *supervised) // what starting does to the process
}

func (f *fakeSupervisor) serve(t *testing.T, l Layout) *supervisor {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(l.socket()), 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", l.socket())
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /processes", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		var all []supervised
		for _, p := range f.processes {
			all = append(all, p)
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"data": all}); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("POST /process/start/{name}", func(_ http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		p := f.processes[r.PathValue("name")]
		f.started = append(f.started, p.Name)
		f.onStart(&p)
		f.processes[p.Name] = p
	})
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: mux}}
	srv.Start()
	t.Cleanup(srv.Close)
	return newSupervisor(l)
}

func TestStartWaitsUntilListening(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	l := Layout{State: t.TempDir()}
	f := &fakeSupervisor{
		processes: map[string]supervised{
			"peer-police":    {Name: "peer-police", Status: "Disabled"},
			"orderer-police": {Name: "orderer-police", Status: "Running", Running: true},
		},
		onStart: func(p *supervised) { p.Running, p.Status = true, "Running" },
	}
	s := f.serve(t, l)
	if !s.alive(t.Context()) {
		t.Fatal("the supervisor does not answer")
	}
	err = s.start(t.Context(), []Listener{
		{Process: "peer-police", Port: port}, {Process: "orderer-police", Port: port}, {Process: "peer-police", Port: port},
	}, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.started) != 1 || f.started[0] != "peer-police" {
		t.Errorf("started %v, want the peer once and the running orderer never", f.started)
	}
}

func TestStartGivesUp(t *testing.T) {
	tests := []struct {
		name    string
		onStart func(p *supervised)
		want    string
	}{
		{"it keeps ending", func(p *supervised) { p.Status, p.Restarts, p.ExitCode = "Restarting", 7, 2 }, "peer-police ended 7 times, last with exit code 2"},
		{"it never listens", func(p *supervised) { p.Status, p.Running = "Running", true }, "peer-police, port 1: still not listening after 200ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := Layout{State: t.TempDir()}
			f := &fakeSupervisor{
				onStart:   tt.onStart,
				processes: map[string]supervised{"peer-police": {Name: "peer-police", Restarts: 4}},
			}
			err := f.serve(t, l).start(t.Context(), []Listener{{Process: "peer-police", Port: 1}}, 200*time.Millisecond)
			wantProblem(t, err, tt.want, "see "+l.Log("peer-police"))
		})
	}
}

func TestSocketPathFits(t *testing.T) {
	short := Layout{State: "/srv/zhenglian"}
	if got, want := short.socket(), "/srv/zhenglian/run/supervisor.sock"; got != want {
		t.Errorf("socket() = %s, want %s", got, want)
	}
	deep := Layout{State: "/" + strings.Repeat("deep/", 40)}
	other := Layout{State: "/" + strings.Repeat("deep/", 41)}
	if got := deep.socket(); len(got) > 107 { // sun_path of unix(7) with its final zero
		t.Errorf("socket() = %s has %d bytes", got, len(got))
	}
	if deep.socket() == other.socket() {
		t.Error("two state folders share a socket")
	}
}

func TestGatewayReadiness(t *testing.T) {
	healthy := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !healthy {
			http.Error(w, "no combination\nof peers", http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	def := defaultDefinition(t)
	freePorts(t, def)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if def.Departments[0].Ports.Gateway, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	c := &Consortium{}
	if g := c.gateways(t.Context(), def); !g[0].Ready || g[1].Ready || g[1].Detail == "" {
		t.Errorf("gateways = %+v, want the first ready and the second not", g)
	}
	healthy = false
	if g := c.gateways(t.Context(), def); g[0].Ready || g[0].Detail != "503 Service Unavailable no combination of peers" {
		t.Errorf("gateway = %+v, want the reason on one line", g[0])
	}
}
