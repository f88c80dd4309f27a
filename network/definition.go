package network

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// DefinitionFormat is the format of consortium.yaml written by this release.
const DefinitionFormat = "zhenglian-consortium/1"

// Definition is the consortium as consortium.yaml states it.
type Definition struct {
	Format         string       `yaml:"format" json:"format"`
	Domain         string       `yaml:"domain" json:"domain"` // prefix of log origins and CA names
	Channel        string       `yaml:"channel" json:"channel"`
	Chaincode      Chaincode    `yaml:"chaincode" json:"chaincode"`
	Lead           string       `yaml:"lead" json:"lead"` // code of the lead department
	Endorsement    string       `yaml:"endorsement" json:"endorsement"`
	AnchorInterval Duration     `yaml:"anchorInterval" json:"anchorInterval"`
	Redis          string       `yaml:"redis" json:"redis"`                       // empty: no shared cache
	Limits         *Limits      `yaml:"limits,omitempty" json:"limits,omitempty"` // absent: the gateways' own
	Evidence       *Evidence    `yaml:"evidence,omitempty" json:"evidence,omitempty"`
	Ordering       Ordering     `yaml:"ordering" json:"ordering"`
	Departments    []Department `yaml:"departments" json:"departments"`
}

// Evidence says how far the anchoring of access records may fall behind.
type Evidence struct {
	MaxLag Duration `yaml:"maxLag" json:"maxLag"` // age of the oldest unanchored record above which a gateway releases nothing
}

// Limits are how many requests per second a gateway takes, and how many at once. A zero
// leaves the gateway's own limit.
type Limits struct {
	AddressPerSecond  float64 `yaml:"addressPerSecond" json:"addressPerSecond,omitempty"` // from one address without a token
	AddressBurst      int     `yaml:"addressBurst" json:"addressBurst,omitempty"`
	IdentityPerSecond float64 `yaml:"identityPerSecond" json:"identityPerSecond,omitempty"` // with the tokens of one role
	IdentityBurst     int     `yaml:"identityBurst" json:"identityBurst,omitempty"`
	PublicPerSecond   float64 `yaml:"publicPerSecond" json:"publicPerSecond,omitempty"` // without a token, from all addresses together
	PublicBurst       int     `yaml:"publicBurst" json:"publicBurst,omitempty"`
}

// Chaincode names the one chaincode of the channel.
type Chaincode struct {
	Name    string `yaml:"name" json:"name"`
	Version string `yaml:"version" json:"version"`
}

// Label is the label of the chaincode's package, the part of its package ID that
// people read.
func (c Chaincode) Label() string { return c.Name + "_" + c.Version }

// Ordering holds the limits and timers of SmartBFT. They are part of the channel's
// configuration.
type Ordering struct {
	MaxMessages               uint32   `yaml:"maxMessages" json:"maxMessages"` // transactions in a block
	MaxBytes                  uint32   `yaml:"maxBytes" json:"maxBytes"`       // bytes in a block
	RequestBatchMaxInterval   Duration `yaml:"requestBatchMaxInterval" json:"requestBatchMaxInterval"`
	RequestForwardTimeout     Duration `yaml:"requestForwardTimeout" json:"requestForwardTimeout"`
	RequestComplainTimeout    Duration `yaml:"requestComplainTimeout" json:"requestComplainTimeout"`
	RequestAutoRemoveTimeout  Duration `yaml:"requestAutoRemoveTimeout" json:"requestAutoRemoveTimeout"`
	ViewChangeResendInterval  Duration `yaml:"viewChangeResendInterval" json:"viewChangeResendInterval"`
	ViewChangeTimeout         Duration `yaml:"viewChangeTimeout" json:"viewChangeTimeout"`
	LeaderHeartbeatTimeout    Duration `yaml:"leaderHeartbeatTimeout" json:"leaderHeartbeatTimeout"`
	LeaderHeartbeatCount      uint64   `yaml:"leaderHeartbeatCount" json:"leaderHeartbeatCount"`
	CollectTimeout            Duration `yaml:"collectTimeout" json:"collectTimeout"`
	IncomingMessageBufferSize uint64   `yaml:"incomingMessageBufferSize" json:"incomingMessageBufferSize"`
	RequestPoolSize           uint64   `yaml:"requestPoolSize" json:"requestPoolSize"`
}

// Department is one member: its names, its MSP and where its programs are.
type Department struct {
	Code      string `yaml:"code" json:"code"`
	NameZh    string `yaml:"nameZh" json:"nameZh"`
	NameEn    string `yaml:"nameEn" json:"nameEn"`
	USCC      string `yaml:"uscc" json:"uscc"` // 统一社会信用代码, GB 32100
	MSPID     string `yaml:"mspId" json:"mspId"`
	Host      string `yaml:"host" json:"host"`                               // where others reach it
	Listen    string `yaml:"listen,omitempty" json:"listen"`                 // what its programs bind to; 127.0.0.1 if empty
	PublicURL string `yaml:"publicUrl,omitempty" json:"publicUrl,omitempty"` // of its gateway; from host and port if empty
	Ports     Ports  `yaml:"ports" json:"ports"`

	slot int // where its chaincode process is; see State.Slot
}

// Ports are the TCP ports of one department's programs.
type Ports struct {
	Gateway           int `yaml:"gateway" json:"gateway"`
	Peer              int `yaml:"peer" json:"peer"`
	PeerChaincode     int `yaml:"peerChaincode" json:"peerChaincode"`
	PeerOperations    int `yaml:"peerOperations" json:"peerOperations"`
	CA                int `yaml:"ca" json:"ca"`
	Orderer           int `yaml:"orderer" json:"orderer"`
	OrdererCluster    int `yaml:"ordererCluster" json:"ordererCluster"`
	OrdererAdmin      int `yaml:"ordererAdmin" json:"ordererAdmin"`
	OrdererOperations int `yaml:"ordererOperations" json:"ordererOperations"`
	Chaincode         int `yaml:"chaincode" json:"chaincode"`
	ChaincodeNext     int `yaml:"chaincodeNext,omitempty" json:"chaincodeNext,omitempty"` // of every second upgrade; the one after chaincode if absent
}

// Listener is one port of a department and the program that binds it.
type Listener struct {
	Use     string // the key in consortium.yaml, such as "ordererAdmin"
	Process string // the supervised process, such as "orderer-police"
	Host    string
	Port    int
}

// Listeners lists every fixed port of the department.
func (d Department) Listeners() []Listener {
	return []Listener{
		{"gateway", "gateway-" + d.Code, d.Listen, d.Ports.Gateway},
		{"peer", "peer-" + d.Code, d.Listen, d.Ports.Peer},
		{"peerChaincode", "peer-" + d.Code, d.Listen, d.Ports.PeerChaincode},
		{"peerOperations", "peer-" + d.Code, d.Listen, d.Ports.PeerOperations},
		{"ca", "ca-" + d.Code, d.Listen, d.Ports.CA},
		{"orderer", "orderer-" + d.Code, d.Listen, d.Ports.Orderer},
		{"ordererCluster", "orderer-" + d.Code, d.Listen, d.Ports.OrdererCluster},
		{"ordererAdmin", "orderer-" + d.Code, d.Listen, d.Ports.OrdererAdmin},
		{"ordererOperations", "orderer-" + d.Code, d.Listen, d.Ports.OrdererOperations},
		{"chaincode", d.process("chaincode"), d.Listen, d.chaincodePort(d.slot)},
	}
}

// process is the supervised process of a kind.
func (d Department) process(kind string) string {
	if kind == "chaincode" {
		kind = chaincodeKinds[d.slot]
	}
	return kind + "-" + d.Code
}

// chaincodePort is the port of the chaincode process in one of the two slots.
func (d Department) chaincodePort(slot int) int {
	switch {
	case slot == 0:
		return d.Ports.Chaincode
	case d.Ports.ChaincodeNext != 0:
		return d.Ports.ChaincodeNext
	}
	return d.Ports.Chaincode + 1
}

// setSlot says where the chaincode processes are.
func (d *Definition) setSlot(slot int) {
	for i := range d.Departments {
		d.Departments[i].slot = slot
	}
}

// URL is where people and programs reach the department's gateway.
func (d Department) URL() string {
	if d.PublicURL != "" {
		return d.PublicURL
	}
	return "http://" + net.JoinHostPort(d.Host, strconv.Itoa(d.Ports.Gateway))
}

// Duration is a time.Duration written as Go writes it, such as "200ms".
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration such as "200ms".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 200ms or 4s", text)
	}
	*d = Duration(v)
	return nil
}

// LoadDefinition reads and validates the consortium definition in the file at path.
func LoadDefinition(path string) (*Definition, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the consortium definition: %w", err)
	}
	def, err := ParseDefinition(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return def, nil
}

// ParseDefinition decodes and validates a consortium definition. Unknown keys,
// duplicate keys and a second document are errors.
func ParseDefinition(data []byte) (*Definition, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var def Definition
	if err := dec.Decode(&def); err != nil {
		// The decoder lists one finding a line; a diagnosis is one line.
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("a second YAML document follows the definition")
	}
	for i := range def.Departments {
		if def.Departments[i].Listen == "" {
			def.Departments[i].Listen = "127.0.0.1"
		}
	}
	if err := def.Validate(); err != nil {
		return nil, err
	}
	return &def, nil
}

// Digest identifies what the definition says, whatever its comments and layout.
func (d *Definition) Digest() string {
	data, err := json.Marshal(d)
	if err != nil {
		panic(err) // plain strings and numbers always encode
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Quorum is how many departments must sign: a majority.
func (d *Definition) Quorum() int { return len(d.Departments)/2 + 1 }

// Department returns the department with the code.
func (d *Definition) Department(code string) (Department, bool) {
	for _, dept := range d.Departments {
		if dept.Code == code {
			return dept, true
		}
	}
	return Department{}, false
}

// LogOrigin is the name of a department's access log in its checkpoints.
func (d *Definition) LogOrigin(code string) string { return d.Domain + "/log/" + code }

var (
	codePattern    = regexp.MustCompile(`^[a-z][a-z0-9]{1,19}$`)
	mspIDPattern   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{1,39}$`)
	channelPattern = regexp.MustCompile(`^[a-z][a-z0-9.-]{0,99}$`)
	namePattern    = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)
	versionPattern = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._+-]{0,39}$`)
	domainPattern  = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)+$`)
	hostPattern    = regexp.MustCompile(`^[0-9A-Za-z.:-]+$`)
)

// Validate reports the first field that breaks a rule, by its path in the file and the
// rule in words.
func (d *Definition) Validate() error {
	rules := []struct {
		field string
		ok    bool
		rule  string
	}{
		{"format", d.Format == DefinitionFormat, "must be " + DefinitionFormat},
		{"domain", domainPattern.MatchString(d.Domain), "must be a lower-case domain name"},
		{"channel", channelPattern.MatchString(d.Channel), "must be lower-case letters, digits, dots and dashes"},
		{"chaincode.name", namePattern.MatchString(d.Chaincode.Name), "must be lower-case letters, digits, dashes and underscores"},
		{"chaincode.version", versionPattern.MatchString(d.Chaincode.Version), "must be letters, digits and . _ + -"},
		{"endorsement", d.Endorsement == "majority", "must be majority"},
		{"anchorInterval", time.Duration(d.AnchorInterval) >= 100*time.Millisecond, "must be at least 100ms"},
		{"evidence.maxLag", d.Evidence == nil || d.Evidence.MaxLag >= Duration(time.Second) && d.Evidence.MaxLag <= Duration(time.Hour), "must be 1s to 1h"},
		{"limits", d.Limits == nil || min(d.Limits.AddressPerSecond, d.Limits.IdentityPerSecond, d.Limits.PublicPerSecond,
			float64(min(d.Limits.AddressBurst, d.Limits.IdentityBurst, d.Limits.PublicBurst))) >= 0, "must not be negative"},
		{"redis", d.Redis == "" || strings.HasPrefix(d.Redis, "redis://") || strings.HasPrefix(d.Redis, "rediss://") || strings.HasPrefix(d.Redis, "unix://"), "must be empty or a redis://, rediss:// or unix:// URL"},
		{"departments", len(d.Departments) >= 3, "must be at least 3: among fewer no majority is a check on anyone"},
	}
	for _, r := range rules {
		if !r.ok {
			return fmt.Errorf("%s %s", r.field, r.rule)
		}
	}
	if err := d.Ordering.validate(); err != nil {
		return err
	}
	if _, ok := d.Department(d.Lead); !ok {
		return fmt.Errorf("lead must be the code of one of the departments, and %q is not", d.Lead)
	}
	return d.validateDepartments()
}

// validate mirrors the rules of SmartBFT, which would otherwise stop every orderer at
// its start with a panic.
func (o Ordering) validate() error {
	rules := []struct {
		field string
		ok    bool
		rule  string
	}{
		{"maxMessages", o.MaxMessages > 0, "must be positive"},
		{"maxBytes", o.MaxBytes >= 1<<20, "must be at least 1048576"},
		{"requestBatchMaxInterval", o.RequestBatchMaxInterval > 0, "must be positive"},
		{"requestForwardTimeout", o.RequestForwardTimeout > 0, "must be positive"},
		{"requestComplainTimeout", o.RequestComplainTimeout >= o.RequestForwardTimeout, "must not be shorter than requestForwardTimeout"},
		{"requestAutoRemoveTimeout", o.RequestAutoRemoveTimeout >= o.RequestComplainTimeout, "must not be shorter than requestComplainTimeout"},
		{"viewChangeResendInterval", o.ViewChangeResendInterval > 0, "must be positive"},
		{"viewChangeTimeout", o.ViewChangeTimeout >= o.ViewChangeResendInterval, "must not be shorter than viewChangeResendInterval"},
		{"leaderHeartbeatTimeout", o.LeaderHeartbeatTimeout > 0, "must be positive"},
		{"leaderHeartbeatCount", o.LeaderHeartbeatCount > 0, "must be positive"},
		{"collectTimeout", o.CollectTimeout > 0, "must be positive"},
		{"incomingMessageBufferSize", o.IncomingMessageBufferSize > 0, "must be positive"},
		{"requestPoolSize", o.RequestPoolSize >= 2*uint64(o.MaxMessages), "must be at least twice maxMessages"},
	}
	for _, r := range rules {
		if !r.ok {
			return fmt.Errorf("ordering.%s %s", r.field, r.rule)
		}
	}
	return nil
}

func (d *Definition) validateDepartments() error {
	unique := map[string]string{} // kind and value -> the field that has it
	claim := func(field, kind, value string) error {
		if first, taken := unique[kind+" "+value]; taken {
			return fmt.Errorf("%s must be unique, and %s has %s as well", field, first, value)
		}
		unique[kind+" "+value] = field
		return nil
	}
	for i, dept := range d.Departments {
		at := fmt.Sprintf("departments[%d]", i)
		if dept.Code != "" {
			at = fmt.Sprintf("departments[%s]", dept.Code)
		}
		rules := []struct {
			field string
			ok    bool
			rule  string
		}{
			{"code", codePattern.MatchString(dept.Code), "must be 2 to 20 lower-case letters and digits"},
			{"nameZh", dept.NameZh != "" && !strings.ContainsAny(dept.NameZh, "\r\n\""), "must be a name on one line"},
			{"nameEn", dept.NameEn != "" && !strings.ContainsAny(dept.NameEn, "\r\n\""), "must be a name on one line"},
			{"mspId", mspIDPattern.MatchString(dept.MSPID), "must be letters and digits"},
			{"host", hostPattern.MatchString(dept.Host), "must be a host name or an IP address"},
			{"listen", net.ParseIP(dept.Listen) != nil, "must be an IP address"},
			{"publicUrl", dept.PublicURL == "" || strings.HasPrefix(dept.PublicURL, "http://") || strings.HasPrefix(dept.PublicURL, "https://"), "must be an http or https URL"},
		}
		for _, r := range rules {
			if !r.ok {
				return fmt.Errorf("%s.%s %s", at, r.field, r.rule)
			}
		}
		if err := checkUSCC(dept.USCC); err != nil {
			return fmt.Errorf("%s.uscc %w", at, err)
		}
		for _, c := range []struct{ kind, value string }{{"code", dept.Code}, {"uscc", dept.USCC}, {"mspId", dept.MSPID}} {
			if err := claim(at+"."+c.kind, c.kind, c.value); err != nil {
				return err
			}
		}
		for _, l := range dept.Listeners() {
			field := at + ".ports." + l.Use
			if l.Port < 1024 || l.Port > 65535 {
				return fmt.Errorf("%s must be between 1024 and 65535", field)
			}
			if err := claim(field, "port", net.JoinHostPort(l.Host, strconv.Itoa(l.Port))); err != nil {
				return err
			}
		}
		// The port of the next upgrade, which nothing listens on until then.
		next := at + ".ports.chaincodeNext"
		if port := dept.chaincodePort(1); port < 1024 || port > 65535 {
			return fmt.Errorf("%s must be between 1024 and 65535", next)
		}
		if err := claim(next, "port", net.JoinHostPort(dept.Listen, strconv.Itoa(dept.chaincodePort(1)))); err != nil {
			return err
		}
	}
	return nil
}

// checkUSCC checks the form and the check character of a unified social credit code
// (统一社会信用代码, GB 32100): weights 3^i mod 31 over 17 characters.
func checkUSCC(code string) error {
	const alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
	if len(code) != 18 {
		return errors.New("must be the 18 characters of a unified social credit code")
	}
	sum, weight := 0, 1
	for i := range 17 {
		v := strings.IndexByte(alphabet, code[i])
		if v < 0 {
			return fmt.Errorf("must be a unified social credit code, which has no %q", code[i])
		}
		sum += v * weight
		weight = weight * 3 % 31
	}
	if want := alphabet[(31-sum%31)%31]; code[17] != want {
		return fmt.Errorf("must end in the check character %q", want)
	}
	return nil
}
