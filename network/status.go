package network

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hyperledger/fabric-sdk-go/pkg/client/ledger"
	"github.com/hyperledger/fabric-sdk-go/pkg/common/providers/fab"
	"golang.org/x/sync/errgroup"
)

// Status is the consortium at one moment.
type Status struct {
	State        string              `json:"state"` // running, degraded or down
	Processes    []ProcessStatus     `json:"processes"`
	Channel      string              `json:"channel"`
	Heights      []Height            `json:"heights"`
	HeightsEqual bool                `json:"heightsEqual"`
	Orderers     []Height            `json:"orderers"`     // without hashes
	OrderersKeep bool                `json:"orderersKeep"` // each has at least the blocks that a peer has
	Chaincode    *ChaincodeStatus    `json:"chaincode"`    // nil if no peer could say
	Certificates []CertificateStatus `json:"certificates"`
	Gateways     []Gateway           `json:"gateways"`
}

// ProcessStatus is one process of the consortium.
type ProcessStatus struct {
	Name     string `json:"name"`
	Running  bool   `json:"running"`
	PID      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts"`
	Seconds  int64  `json:"seconds"` // since its start
	RSS      int64  `json:"rss"`     // bytes
}

// Height is how far the ledger of a peer or an orderer is.
type Height struct {
	Department string `json:"department"`
	Height     uint64 `json:"height"`
	Hash       string `json:"hash,omitempty"` // of the last block, base64url
	Error      string `json:"error,omitempty"`
}

// ChaincodeStatus is the committed definition.
type ChaincodeStatus struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Sequence int64  `json:"sequence"`
}

// CertificateStatus is how long a certificate file is still valid.
type CertificateStatus struct {
	File     string `json:"file"` // below the state folder
	DaysLeft int    `json:"daysLeft"`
}

// Status looks at everything without changing anything.
func (c *Consortium) Status(ctx context.Context) (*Status, error) {
	def, err := c.Definition()
	if err != nil {
		return nil, err
	}
	st := &Status{State: "down", Channel: def.Channel, Heights: []Height{}, Orderers: []Height{}, Processes: []ProcessStatus{}, Certificates: []CertificateStatus{}, Gateways: []Gateway{}}
	if _, err := c.Layout.LoadState(); errors.Is(err, fs.ErrNotExist) {
		return st, nil
	} else if err != nil {
		return nil, err
	}
	if err := c.processStatus(ctx, def, st); err != nil {
		return nil, err
	}
	st.Certificates = certificates(c.Layout, def, time.Now())
	if st.State == "down" {
		return st, nil
	}
	if st.process("gateway-"+def.Lead) != nil { // not after up --without-gateways
		st.Gateways = c.gateways(ctx, def)
	}
	if err := c.ledgerStatus(ctx, def, st); err != nil {
		return nil, err
	}
	if notReady := slices.ContainsFunc(st.Gateways, func(g Gateway) bool { return !g.Ready }); notReady || !st.HeightsEqual || !st.OrderersKeep || st.Chaincode == nil {
		st.State = "degraded"
	}
	return st, nil
}

func (c *Consortium) processStatus(ctx context.Context, def *Definition, st *Status) error {
	found, err := c.Layout.processes()
	if err != nil {
		return err
	}
	pids := map[string]int{}
	for _, p := range found {
		pids[p.Name] = p.PID
	}
	known := map[string]supervised{}
	if pids[supervisorName] != 0 {
		known, err = newSupervisor(c.Layout).list(ctx)
		if err != nil {
			return err
		}
	}
	names := []string{supervisorName}
	for _, dept := range def.Departments {
		for _, kind := range nodeKinds {
			name := dept.process(kind)
			if kind == "gateway" && known[name].Status == "Disabled" {
				continue // up --without-gateways
			}
			names = append(names, name)
		}
	}
	up := 0
	for _, name := range names {
		p := ProcessStatus{Name: name, PID: pids[name], Running: pids[name] != 0}
		if p.Running {
			up++
		}
		if k, ok := known[name]; ok {
			p.Restarts, p.Seconds, p.RSS = k.Restarts, int64(time.Duration(k.Age).Seconds()), max(k.Mem, 0)
		}
		st.Processes = append(st.Processes, p)
	}
	switch up {
	case 0:
		st.State = "down"
	case len(names):
		st.State = "running"
	default:
		st.State = "degraded"
	}
	return nil
}

// ledgerStatus asks each peer and each orderer for its height and the lead's peer for the chaincode.
func (c *Consortium) ledgerStatus(ctx context.Context, def *Definition, st *Status) error {
	admins, err := connectAdministrators(c.Layout, def)
	if err != nil {
		return err
	}
	defer admins.close()
	// A block reaches the peers within milliseconds of one another: differing heights
	// count only when they stay.
	for range 4 {
		st.Heights, st.HeightsEqual = admins.heights(ctx)
		if st.HeightsEqual {
			break
		}
		if err := sleep(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
	// A peer has a block from an orderer: one that has fewer does not follow the others.
	for range 4 {
		st.Orderers, st.OrderersKeep = orderersOf(ctx, c.Layout, def, highest(st.Heights))
		if st.OrderersKeep {
			break
		}
		if err := sleep(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
	for _, h := range st.Heights {
		if h.Error != "" {
			continue
		}
		if cc, ok, err := admins.committed(ctx, h.Department); err == nil && ok {
			st.Chaincode = &ChaincodeStatus{Name: cc.Name, Version: cc.Version, Sequence: cc.Sequence}
			break
		}
	}
	return nil
}

// heights asks every peer for its height. They are equal if all answered the same.
func (a *administrators) heights(ctx context.Context) ([]Height, bool) {
	heights := make([]Height, len(a.def.Departments))
	var group errgroup.Group
	for i, dept := range a.def.Departments {
		group.Go(func() error {
			heights[i] = a.height(ctx, dept.Code)
			return nil
		})
	}
	_ = group.Wait() // the heights carry the failures
	for _, h := range heights {
		if h.Error != "" || h.Height != heights[0].Height || h.Hash != heights[0].Hash {
			return heights, false
		}
	}
	return heights, true
}

// orderersOf asks every orderer for its height. They keep up if each has at least as
// many blocks as a peer had before.
func orderersOf(ctx context.Context, l Layout, def *Definition, least uint64) (heights []Height, keep bool) {
	heights = make([]Height, len(def.Departments))
	var group errgroup.Group
	for i, dept := range def.Departments {
		group.Go(func() error {
			heights[i] = Height{Department: dept.Code}
			p, err := participates(ctx, l, def, dept)
			if err != nil {
				heights[i].Error = firstSentence(err.Error())
			}
			heights[i].Height = p.Height
			return nil
		})
	}
	_ = group.Wait() // the heights carry the failures
	return heights, !slices.ContainsFunc(heights, func(h Height) bool { return h.Error != "" || h.Height < least })
}

func highest(heights []Height) (most uint64) {
	for _, h := range heights {
		most = max(most, h.Height)
	}
	return most
}

// height asks one peer for its height.
func (a *administrators) height(ctx context.Context, code string) Height {
	h := Height{Department: code}
	client, err := a.ledger(code)
	if err == nil {
		var info *fab.BlockchainInfoResponse
		info, err = client.QueryInfo(ledger.WithTargetEndpoints(peerName(code)), ledger.WithParentContext(ctx))
		if err == nil {
			h.Height, h.Hash = info.BCI.Height, hash64(info.BCI.CurrentBlockHash)
		}
	}
	if err != nil {
		h.Error = firstSentence(err.Error())
	}
	return h
}

// firstSentence shortens the SDK's nested errors to what is on the first line.
func firstSentence(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	if len(line) > 160 {
		line = line[:160] + "…"
	}
	return line
}

// certificates lists every certificate of the consortium, the one that ends first first.
func certificates(l Layout, def *Definition, now time.Time) []CertificateStatus {
	var files []string
	for _, dept := range def.Departments {
		for _, id := range identities() {
			files = append(files, l.Department(dept.Code, id.Cert))
		}
		files = append(files, l.Department(dept.Code, "ca", "tls-cert.pem"),
			l.Department(dept.Code, "ca", "ca-cert.pem"), l.Department(dept.Code, "ca", "tlsca", "ca-cert.pem"))
	}
	list := []CertificateStatus{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // not enrolled yet: no certificate to end
		}
		block, _ := pem.Decode(data)
		if block == nil {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		rel, err := filepath.Rel(l.State, file)
		if err != nil {
			rel = file
		}
		list = append(list, CertificateStatus{File: rel, DaysLeft: int(math.Floor(cert.NotAfter.Sub(now).Hours() / 24))})
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].DaysLeft < list[j].DaysLeft })
	return list
}

// Print writes the status for people, on one screen.
func (s *Status) Print(out io.Writer, def *Definition) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "consortium %s: %s\n", def.Channel, s.State)
	if len(s.Processes) == 0 {
		fmt.Fprintln(w, "nothing was started here yet; make up starts it")
		return w.Flush()
	}
	fmt.Fprintln(w, "\ndepartment\t"+strings.Join(nodeKinds, "\t")+"\theight\tgateway URL")
	for i, dept := range def.Departments {
		row := []string{dept.Code}
		for _, kind := range nodeKinds {
			row = append(row, s.process(dept.process(kind)).cell())
		}
		height, url := "–", "–"
		if i < len(s.Heights) {
			height = fmt.Sprint(s.Heights[i].Height)
			if s.Heights[i].Error != "" {
				height = "no answer"
			}
		}
		if i < len(s.Gateways) {
			url = s.Gateways[i].URL + " ready"
			if !s.Gateways[i].Ready {
				url = s.Gateways[i].URL + " not ready"
			}
		}
		fmt.Fprintln(w, strings.Join(append(row, height, url), "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if s.HeightsEqual {
		fmt.Fprintf(out, "heights     equal on %d peers\n", len(s.Heights))
	} else if len(s.Heights) > 0 {
		fmt.Fprintln(out, "heights     NOT EQUAL")
		for _, h := range s.Heights {
			if p := s.process("peer-" + h.Department); h.Error != "" && p != nil && p.Running {
				fmt.Fprintf(out, "            %s: %s\n", h.Department, h.Error)
			}
		}
	}
	for _, o := range s.Orderers {
		switch most := highest(s.Heights); {
		case o.Error != "":
			fmt.Fprintf(out, "orderer     %s: %s\n", o.Department, o.Error)
		case o.Height < most:
			fmt.Fprintf(out, "orderer     %s HAS %d OF %d BLOCKS\n", o.Department, o.Height, most)
		}
	}
	if s.Chaincode != nil {
		fmt.Fprintf(out, "chaincode   %s %s, sequence %d\n", s.Chaincode.Name, s.Chaincode.Version, s.Chaincode.Sequence)
	}
	if len(s.Certificates) > 0 {
		fmt.Fprintf(out, "certificates  %d, the first ends in %d days (%s)\n", len(s.Certificates), s.Certificates[0].DaysLeft, s.Certificates[0].File)
	}
	if sup := s.process(supervisorName); sup != nil && !sup.Running {
		fmt.Fprintln(out, "supervisor  not running")
	}
	return nil
}

// process finds a process by name, nil if there is none.
func (s *Status) process(name string) *ProcessStatus {
	for i := range s.Processes {
		if s.Processes[i].Name == name {
			return &s.Processes[i]
		}
	}
	return nil
}

func (p *ProcessStatus) cell() string {
	switch {
	case p == nil:
		return "–"
	case !p.Running:
		return "DOWN"
	case p.Restarts > 0:
		return fmt.Sprintf("up %s, %d restarts", since(p.Seconds), p.Restarts)
	}
	return "up " + since(p.Seconds)
}

// since is a duration in one unit.
func since(seconds int64) string {
	switch {
	case seconds < 120:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 2*3600:
		return fmt.Sprintf("%dm", seconds/60)
	case seconds < 48*3600:
		return fmt.Sprintf("%dh", seconds/3600)
	}
	return fmt.Sprintf("%dd", seconds/86400)
}
