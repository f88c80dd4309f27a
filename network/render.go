package network

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"golang.org/x/mod/sumdb/note"
)

//go:embed templates
var templates embed.FS

// page is what a template sees.
type page struct {
	Def        *Definition
	Dept       Department
	BuilderDir string
	Snapshots  string
}

func renderTemplate(name string, l Layout, def *Definition, dept Department, data any) ([]byte, error) {
	funcs := template.FuncMap{
		"q":    strconv.Quote, // a Go string literal is a YAML double-quoted scalar for every value here
		"addr": func(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) },
		"inc":  func(i int) int { return i + 1 },
		"ordererFile": func(code, file string) string {
			return l.Department(code, "orderer", filepath.FromSlash(file))
		},
		"mspDir": func(code string) string { return l.Department(code, "msp") },
	}
	t, err := template.New(name).Funcs(funcs).ParseFS(templates, "templates/"+name)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	if data == nil {
		data = page{
			Def: def, Dept: dept, BuilderDir: l.at(l.Department(dept.Code, "peer", "builder")),
			Snapshots: l.at(l.Department(dept.Code, "peer", "data", "snapshots")),
		}
	}
	var buf bytes.Buffer
	if err := t.Execute(&buf, data); err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	return buf.Bytes(), nil
}

// renderCA writes the configuration of a department's CA server. It needs nothing but
// the definition, so it is there before the first certificate.
func renderCA(l Layout, def *Definition, dept Department) error {
	known, err := l.loadSecrets(dept.Code)
	if err != nil {
		return err
	}
	for _, ca := range []string{enrolmentCA, tlsCA} {
		data := struct {
			page
			Name            string
			Main            bool
			Registrar       string
			RegistrarSecret string
			CRLExpiry       time.Duration
			Identities      []identity
		}{
			page: page{Def: def, Dept: dept}, Name: ca, Main: ca == enrolmentCA,
			Registrar: registrar, RegistrarSecret: known[registrar], CRLExpiry: crlExpiry,
		}
		for _, id := range identities() {
			if id.CA == ca {
				id.Secret = known[id.Name]
				data.Identities = append(data.Identities, id)
			}
		}
		config, err := renderTemplate("ca.yaml.tmpl", l, def, dept, data)
		if err != nil {
			return err
		}
		dir := l.Department(dept.Code, "ca")
		if ca == tlsCA {
			dir = filepath.Join(dir, tlsCA)
		}
		if err := writeFile(filepath.Join(dir, "fabric-ca-server-config.yaml"), config, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// renderDepartment writes everything of a department that follows from the definition
// and the enrolled certificates of all departments. packageID is the chaincode package
// that its peer installs.
func renderDepartment(l Layout, def *Definition, dept Department, packageID string) error {
	steps := []func() error{
		func() error { return renderNode(l, def, dept, "peer", "core.yaml") },
		func() error { return renderNode(l, def, dept, "orderer", "orderer.yaml") },
		func() error { return renderClusterRoots(l, def, dept) },
		func() error { return renderBuilder(l, dept) },
		func() error { return renderChaincode(l, dept, packageID) },
		func() error { return renderTokens(l, dept) },
		func() error { return renderGateway(l, def, dept) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("render %s: %w", dept.Code, err)
		}
	}
	return nil
}

func renderNode(l Layout, def *Definition, dept Department, node, file string) error {
	config, err := renderTemplate(file+".tmpl", l, def, dept, nil)
	if err != nil {
		return err
	}
	return writeFile(l.Department(dept.Code, node, file), config, 0o644)
}

// renderClusterRoots tells the orderer which TLS roots its fellow orderers have.
func renderClusterRoots(l Layout, def *Definition, dept Department) error {
	for _, other := range def.Departments {
		root, err := l.tlsRoot(other.Code)
		if err != nil {
			return err
		}
		if err := writeFile(l.Department(dept.Code, "orderer", "tls", "cluster-"+other.Code+".pem"), root, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tlsRoot is the root certificate of a department's TLS certificates.
func (l Layout) tlsRoot(code string) ([]byte, error) {
	return os.ReadFile(l.Department(code, "msp", "tlscacerts", "tlsca.pem"))
}

// renderBuilder writes the external builder with which the peer "builds" a chaincode
// that is already running, and the connection to that chaincode.
func renderBuilder(l Layout, dept Department) error {
	for _, script := range []string{"detect", "build", "release"} {
		data, err := fs.ReadFile(templates, "templates/builder/"+script)
		if err != nil {
			return err
		}
		if err := writeFile(l.Department(dept.Code, "peer", "builder", "bin", script), data, 0o755); err != nil {
			return err
		}
	}
	read := func(elem ...string) string {
		data, err := os.ReadFile(l.Department(dept.Code, elem...))
		if err != nil {
			return ""
		}
		return string(data)
	}
	connection := struct {
		Address            string `json:"address"`
		DialTimeout        string `json:"dial_timeout"`
		TLSRequired        bool   `json:"tls_required"`
		ClientAuthRequired bool   `json:"client_auth_required"`
		ClientKey          string `json:"client_key"`
		ClientCert         string `json:"client_cert"`
		RootCert           string `json:"root_cert"`
	}{
		Address:     net.JoinHostPort(dept.Listen, strconv.Itoa(dept.chaincodePort(dept.slot))),
		DialTimeout: "10s", TLSRequired: true, ClientAuthRequired: true,
		ClientKey:  read("peer", "tls", "server.key"),
		ClientCert: read("peer", "tls", "server.pem"),
		RootCert:   read("peer", "tls", "ca.pem"),
	}
	if connection.ClientKey == "" || connection.ClientCert == "" || connection.RootCert == "" {
		return errors.New("the peer has no TLS certificate yet")
	}
	return writeJSON(l.Department(dept.Code, "peer", "builder", "connection.json"), connection)
}

// renderChaincode writes the configuration of the department's chaincode process.
func renderChaincode(l Layout, dept Department, packageID string) error {
	type tlsFiles struct {
		Certificate string `json:"certificate"`
		Key         string `json:"key"`
		ClientRoots string `json:"clientRoots"`
	}
	certificates := "" // both slots use the certificate in the first one's folder
	if dept.slot != 0 {
		certificates = "../" + chaincodeKinds[0] + "/"
	}
	return writeJSON(l.Department(dept.Code, chaincodeKinds[dept.slot], "chaincode.json"), struct {
		Listen      string   `json:"listen"`
		ChaincodeID string   `json:"chaincodeId"`
		TLS         tlsFiles `json:"tls"`
	}{
		Listen:      net.JoinHostPort(dept.Listen, strconv.Itoa(dept.chaincodePort(dept.slot))),
		ChaincodeID: packageID,
		TLS:         tlsFiles{Certificate: certificates + "server.pem", Key: certificates + "server.key", ClientRoots: certificates + "peer-ca.pem"},
	})
}

// tokens is the file of a department's access tokens.
func (l Layout) tokens(code string) string { return filepath.Join(l.State, "tokens", code+".json") }

// drawTokens answers the department's access tokens, one a role. It draws those that
// there are not yet.
func drawTokens(l Layout, code string) (map[string]string, error) {
	plain := l.tokens(code)
	tokens := map[string]string{}
	data, err := os.ReadFile(plain)
	if err == nil {
		err = json.Unmarshal(data, &tokens)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", plain, err)
	}
	for _, role := range Roles {
		if tokens[role] == "" {
			tokens[role] = "zl_" + randomText(32)
		}
	}
	return tokens, writeJSON(plain, tokens)
}

// renderTokens gives the gateway the hashes of its department's tokens.
func renderTokens(l Layout, dept Department) error {
	tokens, err := drawTokens(l, dept.Code)
	if err != nil {
		return err
	}
	type hashed struct {
		Role   string `json:"role"`
		SHA256 string `json:"sha256"`
	}
	var hashes []hashed
	for _, role := range Roles {
		sum := sha256.Sum256([]byte(tokens[role]))
		hashes = append(hashes, hashed{Role: role, SHA256: hex.EncodeToString(sum[:])})
	}
	return writeJSON(l.Department(dept.Code, "gateway", "tokens.json"), struct {
		Format string   `json:"format"`
		Tokens []hashed `json:"tokens"`
	}{"zhenglian-tokens/1", hashes})
}

// logKey returns the verifier key of the department's access log. It draws the key pair
// if there is none.
func logKey(l Layout, def *Definition, code string) (string, error) {
	private, public := l.Department(code, "gateway", "log.key"), l.Department(code, "gateway", "log.pub")
	if exists(private) {
		data, err := os.ReadFile(public)
		return strings.TrimSpace(string(data)), err
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, def.LogOrigin(code))
	if err != nil {
		return "", fmt.Errorf("draw the log key of %s: %w", code, err)
	}
	// The public half first: a private key without it would look finished.
	if err := writeFile(public, []byte(vkey+"\n"), 0o644); err != nil {
		return "", err
	}
	return vkey, writeFile(private, []byte(skey+"\n"), 0o600)
}

type gatewayPeer struct {
	Department string `json:"department"`
	MSPID      string `json:"mspId"`
	Endpoint   string `json:"endpoint"`
	TLSRoots   string `json:"tlsRoots"`
	ServerName string `json:"serverName"`
}

type gatewayService struct {
	MSPID       string `json:"mspId"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

type gatewayIssuing struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

type gatewayUser struct {
	Role        string `json:"role"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

type gatewayLog struct {
	Origin string `json:"origin"`
	Key    string `json:"key"`
}

// gatewayConfig is gateway.json, format zhenglian-gateway/1. Its paths are relative to
// its folder.
type gatewayConfig struct {
	Format         string         `json:"format"`
	Department     string         `json:"department"`
	Channel        string         `json:"channel"`
	Chaincode      string         `json:"chaincode"`
	Listen         string         `json:"listen"`
	PublicURL      string         `json:"publicUrl"`
	Trust          string         `json:"trust"`
	Peers          []gatewayPeer  `json:"peers"` // the department's own first
	Service        gatewayService `json:"service"`
	Issuing        gatewayIssuing `json:"issuing"` // signs the certificates for citizens
	Users          []gatewayUser  `json:"users"`
	Tokens         string         `json:"tokens"`
	Data           string         `json:"data"`
	Log            gatewayLog     `json:"log"`
	AnchorInterval string         `json:"anchorInterval"`
	Redis          string         `json:"redis"`
	Limits         *Limits        `json:"limits,omitempty"`
	Evidence       *Evidence      `json:"evidence,omitempty"`
	Gateways       []gatewayAt    `json:"gateways"`        // of the others, whose logs it watches
	Audit          *gatewayAudit  `json:"audit,omitempty"` // of the lead's gateway
}

type gatewayAt struct {
	Department string `json:"department"`
	URL        string `json:"url"`
}

type gatewayAudit struct {
	Trail string       `json:"trail"`
	Logs  []auditedLog `json:"logs"`
}

type auditedLog struct {
	Department string `json:"department"`
	URL        string `json:"url"`
	TokenFile  string `json:"tokenFile"`
}

// renderAudit has the lead's gateway read all logs, its own included. It is given
// an auditor's token of every department: the one secret of others in its folder.
func renderAudit(l Layout, def *Definition, lead Department) (*gatewayAudit, error) {
	audit := &gatewayAudit{Trail: "data/trail.db"}
	for _, dept := range def.Departments {
		file := "audit/" + dept.Code + ".token"
		path := l.Department(lead.Code, "gateway", filepath.FromSlash(file))
		// On a host of its own the lead has the others' auditors' tokens here and nowhere else.
		if dept.Code != lead.Code && exists(path) && !exists(l.tokens(dept.Code)) {
			audit.Logs = append(audit.Logs, auditedLog{Department: dept.Code, URL: dept.URL(), TokenFile: file})
			continue
		}
		tokens, err := drawTokens(l, dept.Code)
		if err != nil {
			return nil, err
		}
		if err := writeFile(path, []byte(tokens["auditor"]+"\n"), 0o600); err != nil {
			return nil, err
		}
		audit.Logs = append(audit.Logs, auditedLog{Department: dept.Code, URL: dept.URL(), TokenFile: file})
	}
	return audit, nil
}

// renderGateway writes the configuration of the department's gateway and the log key.
func renderGateway(l Layout, def *Definition, dept Department) error {
	if _, err := logKey(l, def, dept.Code); err != nil {
		return err
	}
	config := gatewayConfig{
		Format: "zhenglian-gateway/1", Department: dept.Code, Channel: def.Channel, Chaincode: def.Chaincode.Name,
		Listen:    net.JoinHostPort(dept.Listen, strconv.Itoa(dept.Ports.Gateway)),
		PublicURL: dept.URL(), Trust: "../../../trust/consortium.json",
		Service: gatewayService{MSPID: dept.MSPID, Certificate: "identity/cert.pem", Key: "identity/key.pem"},
		Issuing: gatewayIssuing{Certificate: "issuing/cert.pem", Key: "issuing/key.pem"},
		Tokens:  "tokens.json", Data: "data",
		Log:            gatewayLog{Origin: def.LogOrigin(dept.Code), Key: "log.key"},
		AnchorInterval: def.AnchorInterval.String(), Redis: def.Redis, Limits: def.Limits,
		Evidence: def.Evidence, Gateways: []gatewayAt{},
	}
	peer := func(d Department) error {
		root, err := l.tlsRoot(d.Code)
		if err != nil {
			return err
		}
		serverName := d.Host
		if ip := net.ParseIP(d.Host); ip != nil && ip.IsLoopback() {
			serverName = "localhost"
		}
		config.Peers = append(config.Peers, gatewayPeer{
			Department: d.Code, MSPID: d.MSPID,
			Endpoint: net.JoinHostPort(d.Host, strconv.Itoa(d.Ports.Peer)),
			TLSRoots: "tls/" + d.Code + ".pem", ServerName: serverName,
		})
		return writeFile(l.Department(dept.Code, "gateway", "tls", d.Code+".pem"), root, 0o644)
	}
	if err := peer(dept); err != nil {
		return err
	}
	for _, other := range def.Departments {
		if other.Code == dept.Code {
			continue
		}
		if err := peer(other); err != nil {
			return err
		}
		config.Gateways = append(config.Gateways, gatewayAt{Department: other.Code, URL: other.URL()})
	}
	if dept.Code == def.Lead {
		audit, err := renderAudit(l, def, dept)
		if err != nil {
			return err
		}
		config.Audit = audit
	}
	for _, role := range Roles {
		config.Users = append(config.Users, gatewayUser{
			Role:        role,
			Certificate: "../users/" + role + "/cert.pem", Key: "../users/" + role + "/key.pem",
		})
	}
	if err := os.MkdirAll(l.Department(dept.Code, "gateway", "data"), 0o700); err != nil {
		return err
	}
	return writeJSON(l.Department(dept.Code, "gateway", "gateway.json"), config)
}
