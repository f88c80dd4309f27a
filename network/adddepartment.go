package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go/common"
	"github.com/hyperledger/fabric-protos-go/msp"
	"github.com/hyperledger/fabric-protos-go/peer"
)

// AddResult is a department that joined.
type AddResult struct {
	Department string `json:"department"` // "" if the definition names nobody new
	URL        string `json:"url,omitempty"`
	Orderers   int    `json:"orderers"` // that take part in ordering
	Quorum     int    `json:"quorum"`   // departments that sign every write from now on
	Registered bool   `json:"registered"`
}

// AddDepartment takes in the one department that the edited definition has besides: its
// authority and identities, a change of the channel signed by a majority of the present
// members, its nodes, its place among the orderers once its orderer has caught up, the
// chaincode, the trust file and its gateway. The others' ledgers and indexes stay as they
// are; their gateways restart one after the other to learn of it. An interrupted run is
// completed by the same call.
func (c *Consortium) AddDepartment(ctx context.Context) (*AddResult, error) {
	o, err := c.operate(ctx)
	if err != nil {
		return nil, err
	}
	defer o.close()
	next, changed, err := o.edited("add-department")
	if err != nil {
		return nil, err
	}
	if len(changed.added) == 0 {
		return &AddResult{Orderers: len(o.def.Departments), Quorum: o.def.Quorum()}, nil
	}
	dept := next.Departments[len(next.Departments)-1]
	a := &addition{operation: o, next: next, dept: dept, result: &AddResult{
		Department: dept.Code, URL: dept.URL(), Orderers: len(next.Departments), Quorum: next.Quorum(),
	}}
	for _, s := range []struct {
		name string
		run  func(context.Context) (string, error)
	}{
		{"look at the others", a.preflight},
		{"start its authority", a.startAuthority},
		{"enrol and render", a.enrol},
		{"admit it to the channel", a.admit},
		{"start its nodes", a.startNodes},
		{"let its orderer catch up", a.joinOrderer},
		{"let its orderer order", a.orders},
		{"let its peer join", a.joinPeer},
		{"tell the verifiers", a.accept},
		{"start its gateway", a.startGateway},
		{"tell the other gateways", a.tellOthers},
		{"register it on the ledger", a.register},
	} {
		if err := c.Progress.Step(s.name, func() (string, error) { return s.run(ctx) }); err != nil {
			return nil, err
		}
	}
	return a.result, nil
}

type addition struct {
	*operation
	next   *Definition
	dept   Department
	result *AddResult
}

func (a *addition) preflight(context.Context) (string, error) {
	if err := a.othersRun(a.dept); err != nil { // membership changes when everybody is well
		return "", err
	}
	if err := checkFreeSpace(a.Layout.State, minFreeBytes); err != nil {
		return "", err
	}
	running, err := a.Layout.processes()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d departments run", len(a.def.Departments)), checkPorts(&Definition{Departments: []Department{a.dept}}, running, a.Gateways)
}

func (a *addition) startAuthority(ctx context.Context) (string, error) {
	if err := renderCA(a.Layout, a.next, a.dept); err != nil {
		return "", err
	}
	for _, kind := range append(slices.Clone(nodeKinds), chaincodeKinds[a.dept.slot]) {
		if err := os.MkdirAll(a.Layout.Department(a.dept.Code, kind), 0o700); err != nil {
			return "", err
		}
	}
	if err := a.supervisor.supervise(ctx, a.next, nil); err != nil {
		return "", err
	}
	return "", a.start(ctx, a.dept, "ca")
}

func (a *addition) enrol(ctx context.Context) (string, error) {
	fetched, err := enrol(ctx, a.Layout, a.next, a.dept)
	if err != nil {
		return "", err
	}
	_, packageID, err := loadPackage(a.Layout, a.next.Chaincode)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d certificates", fetched), renderDepartment(a.Layout, a.next, a.dept, packageID)
}

func (a *addition) admit(ctx context.Context) (string, error) {
	ca, err := os.ReadFile(a.Layout.Department(a.dept.Code, "msp", "cacerts", "ca.pem"))
	if err != nil {
		return "", err
	}
	tls, err := a.Layout.tlsRoot(a.dept.Code)
	if err != nil {
		return "", err
	}
	signers := a.signers(a.def.Lead)
	pattern, _ := a.def.Department(a.def.Lead)
	changed, err := a.admins.reconfigure(ctx, signers, func(channel *common.ConfigGroup) error {
		return admitTo(channel, pattern.MSPID, a.dept, ca, tls)
	})
	if !changed && err == nil {
		return "admitted before", nil
	}
	return "signed by " + strings.Join(signers, ", "), err
}

// admitTo makes a department, with the roots of its authorities in PEM, a member of the
// channel like the present one with the MSP ID pattern, unless it is one.
func admitTo(channel *common.ConfigGroup, pattern string, dept Department, ca, tls []byte) error {
	for _, section := range []string{applicationGroup, ordererGroup} {
		if channel.Groups[section] != nil && channel.Groups[section].Groups[dept.MSPID] != nil {
			continue // admitted by an earlier run
		}
		model, err := departmentGroup(channel, section, pattern)
		if err != nil {
			return err
		}
		group, err := likeDepartment(model, dept, ca, tls)
		if err != nil {
			return err
		}
		channel.Groups[section].Groups[dept.MSPID] = group
	}
	return nil
}

// likeDepartment makes the configuration of a new member from a present one's: the same
// policies about another MSP.
func likeDepartment(model *common.ConfigGroup, dept Department, ca, tls []byte) (*common.ConfigGroup, error) {
	group := clone(model)
	group.Version = 0
	for name, value := range group.Values {
		value.Version = 0
		var err error
		switch name {
		case mspValue:
			value.Value, err = likeMSP(value.Value, dept, ca, tls)
		case "AnchorPeers":
			value.Value, err = marshal(&peer.AnchorPeers{AnchorPeers: []*peer.AnchorPeer{{Host: dept.Host, Port: int32(dept.Ports.Peer)}}}) //nolint:gosec // a port
		case "Endpoints":
			value.Value, err = marshal(&common.OrdererAddresses{Addresses: []string{net.JoinHostPort(dept.Host, strconv.Itoa(dept.Ports.Orderer))}})
		default:
			err = errors.New("not known")
		}
		if err != nil {
			return nil, fmt.Errorf("the value %s of a member: %w", name, err)
		}
	}
	for name, policy := range group.Policies {
		policy.Version = 0
		if policy.Policy.GetType() != int32(common.Policy_SIGNATURE) {
			return nil, fmt.Errorf("the policy %s of a member is no signature policy", name)
		}
		var envelope common.SignaturePolicyEnvelope
		if err := unmarshal(policy.Policy.Value, &envelope); err != nil {
			return nil, fmt.Errorf("the policy %s of a member: %w", name, err)
		}
		for _, principal := range envelope.Identities {
			var role msp.MSPRole
			if principal.PrincipalClassification != msp.MSPPrincipal_ROLE {
				return nil, fmt.Errorf("the policy %s of a member names something else than a role", name)
			}
			err := unmarshal(principal.Principal, &role)
			if err == nil {
				role.MspIdentifier = dept.MSPID
				principal.Principal, err = marshal(&role)
			}
			if err != nil {
				return nil, fmt.Errorf("the policy %s of a member: %w", name, err)
			}
		}
		var err error
		if policy.Policy.Value, err = marshal(&envelope); err != nil {
			return nil, err
		}
	}
	return group, nil
}

// likeMSP is the MSP of a department, with the cryptography and the units of a present
// member's.
func likeMSP(model []byte, dept Department, ca, tls []byte) ([]byte, error) {
	var outer msp.MSPConfig
	var old msp.FabricMSPConfig
	if err := errors.Join(unmarshal(model, &outer), unmarshal(outer.Config, &old)); err != nil {
		return nil, err
	}
	units := old.FabricNodeOus
	if units.GetClientOuIdentifier() == nil || units.GetPeerOuIdentifier() == nil || units.GetAdminOuIdentifier() == nil || units.GetOrdererOuIdentifier() == nil {
		return nil, errors.New("the present members do not tell roles apart")
	}
	for _, unit := range []*msp.FabricOUIdentifier{units.ClientOuIdentifier, units.PeerOuIdentifier, units.AdminOuIdentifier, units.OrdererOuIdentifier} {
		unit.Certificate = ca
	}
	inner, err := marshal(&msp.FabricMSPConfig{
		Name: dept.MSPID, RootCerts: [][]byte{ca}, TlsRootCerts: [][]byte{tls},
		CryptoConfig: old.CryptoConfig, FabricNodeOus: units,
	})
	if err != nil {
		return nil, err
	}
	return marshal(&msp.MSPConfig{Type: outer.Type, Config: inner})
}

func (a *addition) startNodes(ctx context.Context) (string, error) {
	return "", a.start(ctx, a.dept, "orderer", "chaincode", "peer")
}

// participation is what an orderer says about a channel.
type participation struct {
	Status   string `json:"status"`            // active, onboarding, …
	Relation string `json:"consensusRelation"` // consenter, follower, …
	Height   uint64 `json:"height"`
}

// participates asks a department's orderer how it takes part in the channel.
func participates(ctx context.Context, l Layout, def *Definition, dept Department) (participation, error) {
	var p participation
	out, err := osnadmin(ctx, l, dept, "list", "--channelID", def.Channel)
	if err != nil {
		return p, err
	}
	_, body, ok := strings.Cut(out, "{")
	if !ok || !strings.Contains(out, "Status: 200") {
		return p, fmt.Errorf("osnadmin: %s", strings.Join(strings.Fields(out), " "))
	}
	if err := json.NewDecoder(strings.NewReader("{" + body)).Decode(&p); err != nil {
		return p, fmt.Errorf("osnadmin: %w", err)
	}
	return p, nil
}

// awaitParticipation waits until a department's orderer is active in the relation and has
// the block before height.
func (o *operation) awaitParticipation(ctx context.Context, dept Department, relation string, height uint64) (participation, error) {
	for deadline := time.Now().Add(readyWait); ; {
		p, err := participates(ctx, o.Layout, o.def, dept)
		if err == nil && p.Status == "active" && p.Relation == relation && p.Height >= height {
			return p, nil
		}
		if time.Now().After(deadline) {
			return p, problem("see "+o.Layout.Log("orderer-"+dept.Code), "orderer-%s is %s, %s with %d blocks, and should be an active %s with %d (%v)", dept.Code, p.Status, p.Relation, p.Height, relation, height, err)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return p, err
		}
	}
}

func (a *addition) joinOrderer(ctx context.Context) (string, error) {
	block, err := a.admins.configBlock(ctx, a.def.Lead)
	if err != nil {
		return "", err
	}
	data, err := marshal(block)
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(a.Layout.GenesisBlock()), "join-"+a.dept.Code+".block")
	if err := writeFile(path, data, 0o644); err != nil {
		return "", err
	}
	if _, err := joinOrderer(ctx, a.Layout, a.def, a.dept, path); err != nil {
		return "", err
	}
	height := a.admins.height(ctx, a.def.Lead).Height
	for _, relation := range []string{"follower", "consenter"} { // the latter after an earlier run
		p, err := participates(ctx, a.Layout, a.def, a.dept)
		if err == nil && p.Relation == relation {
			p, err = a.awaitParticipation(ctx, a.dept, relation, height)
			return fmt.Sprintf("%d blocks, as a %s", p.Height, p.Relation), err
		}
	}
	p, err := a.awaitParticipation(ctx, a.dept, "follower", height)
	return fmt.Sprintf("%d blocks, as a %s", p.Height, p.Relation), err
}

func (a *addition) orders(ctx context.Context) (string, error) {
	own, err := consenterOf(a.Layout, a.dept, 0)
	if err != nil {
		return "", err
	}
	quorum := 0
	_, err = a.admins.reconfigure(ctx, a.signers(a.def.Lead), func(channel *common.ConfigGroup) error {
		return changeConsenters(channel, func(list []consenter) ([]consenter, error) {
			list = withConsenter(list, own)
			quorum = bftQuorum(len(list))
			return list, nil
		})
	})
	if err != nil {
		return "", err
	}
	_, err = a.awaitParticipation(ctx, a.dept, "consenter", 0)
	return fmt.Sprintf("%d orderers, %d of them sign a block", a.result.Orderers, quorum), err
}

// withConsenter is the list with one more orderer, under the next number, unless its
// department has one.
func withConsenter(list []consenter, own consenter) []consenter {
	last := uint32(0)
	for _, c := range list {
		if c.MSPID == own.MSPID {
			return list
		}
		last = max(last, c.ID)
	}
	own.ID = last + 1
	return append(list, own)
}

func (a *addition) joinPeer(ctx context.Context) (string, error) {
	height := a.admins.height(ctx, a.def.Lead).Height
	pkg, packageID, err := loadPackage(a.Layout, a.next.Chaincode)
	if err != nil {
		return "", err
	}
	admins, err := connectAdministrators(a.Layout, a.next)
	if err != nil {
		return "", err
	}
	a.admins.close()
	a.admins = admins
	if _, err := admins.joinPeer(ctx, a.dept.Code); err != nil {
		return "", &Problem{Cause: fmt.Sprintf("peer-%s does not join: %v", a.dept.Code, err), Remedy: "see " + a.Layout.Log("peer-"+a.dept.Code), Err: err}
	}
	if _, err := a.awaitHeight(ctx, a.dept.Code, height); err != nil {
		return "", err
	}
	if _, err := admins.install(ctx, a.dept.Code, pkg, packageID); err != nil {
		return "", err
	}
	approved, err := agree(ctx, a.Layout, admins, packageID, len(a.next.Departments))
	return fmt.Sprintf("%d blocks; %s", height, approved), err
}

func (a *addition) accept(context.Context) (string, error) {
	if err := a.operation.accept(a.next); err != nil {
		return "", err
	}
	return a.Layout.Trust(), a.rerender()
}

func (a *addition) startGateway(ctx context.Context) (string, error) {
	if err := a.start(ctx, a.dept, "gateway"); err != nil {
		return "", err
	}
	return "", a.awaitReady(ctx, a.dept)
}

func (a *addition) tellOthers(ctx context.Context) (string, error) {
	result, err := a.restartGateways(ctx, a.def.Departments[:len(a.def.Departments)-1]...)
	if err != nil {
		return "", err
	}
	return result, renderSupervision(a.Layout, a.def, func(kind string) bool { return kind == "gateway" && !a.Gateways })
}

// register enters the department and its log on the ledger, as the lead's admin and its
// own, where the lead itself is entered: otherwise nobody uses the ledger yet.
func (a *addition) register(ctx context.Context) (string, error) {
	if !a.Gateways {
		return "no gateway runs", nil
	}
	lead, _ := a.def.Department(a.def.Lead)
	known, err := a.registered(ctx, lead, lead)
	if err != nil || !known {
		return "the lead is not registered yet", err
	}
	err = a.call(ctx, lead, http.MethodPost, "/v1/departments", map[string]any{
		"code": a.dept.Code, "mspId": a.dept.MSPID, "nameZh": a.dept.NameZh, "nameEn": a.dept.NameEn, "uscc": a.dept.USCC, "lead": false,
	}, nil)
	if err != nil {
		return "", err
	}
	// Its own gateway learns of it from the next block.
	for deadline := time.Now().Add(30 * time.Second); ; {
		known, err := a.registered(ctx, a.dept, a.dept)
		if err != nil {
			return "", err
		}
		if known {
			break
		}
		if time.Now().After(deadline) {
			return "", problem("see "+a.Layout.Log("gateway-"+a.dept.Code), "gateway-%s does not learn of its registration", a.dept.Code)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
	key, err := logKey(a.Layout, a.def, a.dept.Code)
	if err != nil {
		return "", err
	}
	if err := a.call(ctx, a.dept, http.MethodPost, "/v1/logs", map[string]any{"origin": a.def.LogOrigin(a.dept.Code), "verifierKey": key}, nil); err != nil {
		return "", err
	}
	a.result.Registered = true
	return a.dept.NameZh + " and its log", nil
}

// registered asks a gateway whether the ledger knows a department.
func (a *addition) registered(ctx context.Context, at, dept Department) (bool, error) {
	var list struct {
		Items []struct {
			Record struct {
				Code string `json:"code"`
			} `json:"record"`
		} `json:"items"`
	}
	if err := a.call(ctx, at, http.MethodGet, "/v1/departments?limit=200", nil, &list); err != nil {
		return false, err
	}
	for _, item := range list.Items {
		if item.Record.Code == dept.Code {
			return true, nil
		}
	}
	return false, nil
}

// call asks a department's gateway as its admin. What exists already is no error.
func (o *operation) call(ctx context.Context, dept Department, method, path string, body, into any) error {
	tokens, err := drawTokens(o.Layout, dept.Code)
	if err != nil {
		return err
	}
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+net.JoinHostPort(dept.Listen, strconv.Itoa(dept.Ports.Gateway))+path, reader)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+tokens["admin"])
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("gateway-%s: %w", dept.Code, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("gateway-%s: %w", dept.Code, err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusConflict:
	default:
		return fmt.Errorf("gateway-%s: %s %s: %s: %.300s", dept.Code, method, path, resp.Status, strings.Join(strings.Fields(string(answer)), " "))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("gateway-%s: %s %s: %w", dept.Code, method, path, err)
	}
	return nil
}
