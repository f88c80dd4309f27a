package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/fabricledger"
	"github.com/zhenglian/zhenglian/gateway/httpapi"
	"github.com/zhenglian/zhenglian/gateway/print"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/tilelog"
	"github.com/zhenglian/zhenglian/proof"
)

// gatewayFormat names the format of gateway.json.
const gatewayFormat = "zhenglian-gateway/1"

// gatewayConfig is gateway.json. Its paths are relative to its own folder. Every
// field is required up to anchorInterval, the others are not; [gatewayOwn] tells
// which of them a department sets by itself.
type gatewayConfig struct {
	Format         string                `json:"format"`
	Department     domain.DepartmentCode `json:"department"`
	Channel        string                `json:"channel"`
	Chaincode      string                `json:"chaincode"`
	Listen         string                `json:"listen"`            // host:port
	PublicURL      string                `json:"publicUrl"`         // scheme and host that links and QR codes carry
	Trust          string                `json:"trust"`             // file with the trust anchors
	Peers          []gatewayPeer         `json:"peers"`             // own peer first, then the order of failing over
	Service        gatewayIdentity       `json:"service"`           // the gateway's own identity
	Users          []gatewayUser         `json:"users"`             // one per role
	Tokens         string                `json:"tokens"`            // file with the hashed access tokens
	Data           string                `json:"data"`              // folder of the index and the log
	Log            gatewayLog            `json:"log"`               // access log
	AnchorInterval string                `json:"anchorInterval"`    // for example "2s", 100ms to 1m
	Redis          string                `json:"redis"`             // URL, see rediscache.Options; "" keeps the cache in the process
	Issuing        *gatewayIssuing       `json:"issuing,omitempty"` // without it no certificate's face items are signed or kept
	Evidence       *gatewayEvidence      `json:"evidence,omitempty"`
	Gateways       []gatewayAddress      `json:"gateways,omitempty"` // of the other departments, whose logs are watched
	Audit          *gatewayAudit         `json:"audit,omitempty"`    // reads all logs for auditors; without it only the own one
	gatewayOwn
}

type gatewayPeer struct {
	Department domain.DepartmentCode `json:"department"`
	MSPID      domain.MSPID          `json:"mspId"`
	Endpoint   string                `json:"endpoint"` // host:port
	TLSRoots   string                `json:"tlsRoots"` // PEM file
	ServerName string                `json:"serverName"`
}

type gatewayIdentity struct {
	MSPID       domain.MSPID `json:"mspId"`
	Certificate string       `json:"certificate"` // PEM file
	Key         string       `json:"key"`         // PEM file
}

type gatewayUser struct {
	Role        domain.Role `json:"role"`
	Certificate string      `json:"certificate"`
	Key         string      `json:"key"`
}

type gatewayLog struct {
	Origin string `json:"origin"` // C2SP checkpoint origin
	Key    string `json:"key"`    // file with the private key, note signer key text
}

// gatewayLimits replace the limits on requests that the gateway has by itself.
// A zero field keeps that limit.
type gatewayLimits struct {
	AddressPerSecond  float64 `json:"addressPerSecond"` // without a token, per address
	AddressBurst      int     `json:"addressBurst"`
	IdentityPerSecond float64 `json:"identityPerSecond"` // with a token, per role
	IdentityBurst     int     `json:"identityBurst"`
	PublicPerSecond   float64 `json:"publicPerSecond"` // without a token, all together
	PublicBurst       int     `json:"publicBurst"`
	RecordsWaiting    int     `json:"recordsWaiting"` // access records that may wait to be written to the log, at most 1,000,000
	WritesInHand      int     `json:"writesInHand"`   // writes that may be endorsed or ordered at one time, at most 10,000
}

// mostRecordsWaiting is about a gigabyte of records, and minutes of work.
const mostRecordsWaiting = 1_000_000

// mostWritesInHand is all that an outbox takes in.
const mostWritesInHand = 10_000

// gatewaySetup is a configuration with the contents of the files it names.
type gatewaySetup struct {
	gatewayConfig
	dir        string // of the configuration
	trust      []byte
	anchors    *proof.Anchors
	department proof.Department // the own one, from the anchors
	fabric     fabricledger.Config
	logKey     string
	issuer     *credential.Issuer // nil: no issuing key
	printer    *print.Printer
	interval   time.Duration
	address    httpapi.Rate
	identity   httpapi.Rate
	public     httpapi.Rate

	maxLag time.Duration

	recordsWaiting int // 0: the log's own
	writesInHand   int // 0: the outbox's own
	watch          watchSetup
	monitor        []domain.UnusualRule
	audit          *auditSetup // nil: none

	identities identitySetup
}

// configReader gathers what is wrong, so that one run names it all.
type configReader struct {
	file string
	dir  string
	errs []error
}

func (r *configReader) fault(field, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s: field %s: %w", r.file, field, fmt.Errorf(format, args...)))
}

// require reports whether value is given.
func (r *configReader) require(field, value string) bool {
	if value == "" {
		r.fault(field, "is missing")
	}
	return value != ""
}

// path answers where a path of the configuration leads.
func (r *configReader) path(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(r.dir, p)
}

// contents answers the file that a field names, nil if it cannot be read. No
// file of a gateway is large.
func (r *configReader) contents(field, p string) []byte {
	if !r.require(field, p) {
		return nil
	}
	f, err := os.Open(r.path(p))
	if err != nil {
		r.fault(field, "%w", err)
		return nil
	}
	defer func() { _ = f.Close() }() // read only
	const most = 4 << 20
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		r.fault(field, "%w", err)
		return nil
	case len(data) > most:
		r.fault(field, "%s is larger than %d bytes", r.path(p), most)
		return nil
	case len(data) == 0:
		r.fault(field, "%s is empty", r.path(p))
		return nil
	}
	return data
}

func (r *configReader) hostPort(field, value string) {
	if !r.require(field, value) {
		return
	}
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		r.fault(field, "%q is not host:port", value)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		r.fault(field, "%q is not a port number", port)
	}
}

// duration reads a duration between two bounds; "" is normal.
func (r *configReader) duration(field, value string, normal, least, most time.Duration) time.Duration {
	if value == "" {
		return normal
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > most {
		r.fault(field, "%q is not a duration of %s to %s", value, least, most)
	}
	return d
}

var departmentPattern = regexp.MustCompile(`^[a-z][a-z0-9]{1,19}$`)

func (r *configReader) departmentCode(field string, c domain.DepartmentCode) bool {
	if !r.require(field, string(c)) {
		return false
	}
	if !departmentPattern.MatchString(string(c)) {
		r.fault(field, "%q is not a department code", c)
		return false
	}
	return true
}

// loadGateway reads and checks the configuration file and every file it names.
// Its error names file and field of everything that is wrong. redis, if not "",
// stands in for the field of that name.
func loadGateway(file, redis string) (*gatewaySetup, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the gateway's configuration: %w", err)
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", file, err)
	}
	r := &configReader{file: file, dir: filepath.Dir(absolute)}
	s := &gatewaySetup{dir: r.dir}
	if err := decodeStrictly(data, &s.gatewayConfig); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	own, err := s.readOwn(r.dir)
	if err != nil {
		return nil, err
	}
	if own {
		r.file += " with " + ownFile
	}
	if s.Format != gatewayFormat {
		return nil, fmt.Errorf("%s: field format: %q is not %q, the one this program reads", file, s.Format, gatewayFormat)
	}
	if redis != "" {
		s.Redis = redis
	}
	s.read(r)
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return s, nil
}

func (s *gatewaySetup) read(r *configReader) {
	r.require("channel", s.Channel)
	r.require("chaincode", s.Chaincode)
	r.require("data", s.Data)
	s.Data = r.path(s.Data)
	r.hostPort("listen", s.Listen)
	s.readTrust(r)
	s.readURLs(r)
	s.readPeers(r)
	s.readIdentities(r)
	s.readIssuing(r)
	s.readLog(r)
	s.readLimits(r)
	s.readEvidence(r)
	s.readWatch(r)
	s.readMonitor(r)
	s.readAudit(r)
	s.readObservation(r)
	s.readOIDC(r)
	s.readMTLS(r)
	s.readHolders(r)
	if data := r.contents("tokens", s.Tokens); data != nil {
		if _, err := service.NewTokens(s.Department, data); err != nil {
			r.fault("tokens", "%s: %w", r.path(s.Tokens), err)
		}
	}
	if r.require("anchorInterval", s.AnchorInterval) {
		s.interval = r.duration("anchorInterval", s.AnchorInterval, 0, 100*time.Millisecond, time.Minute)
	}
}

func (s *gatewaySetup) readTrust(r *configReader) {
	known := r.departmentCode("department", s.Department)
	s.trust = r.contents("trust", s.Trust)
	if s.trust == nil {
		return
	}
	anchors, err := proof.ParseAnchors(s.trust)
	if err != nil {
		r.fault("trust", "%s: %w", r.path(s.Trust), err)
		return
	}
	s.anchors = anchors
	if s.Channel != anchors.Channel {
		r.fault("channel", "is %q, and the trust anchors are of %q", s.Channel, anchors.Channel)
	}
	if s.Chaincode != anchors.Chaincode {
		r.fault("chaincode", "is %q, and the trust anchors are of %q", s.Chaincode, anchors.Chaincode)
	}
	for _, d := range anchors.Departments {
		if d.Code == s.Department {
			s.department = d
			return
		}
	}
	if known {
		r.fault("department", "the trust anchors do not name %q", s.Department)
	}
}

func (s *gatewaySetup) readURLs(r *configReader) {
	if r.require("publicUrl", s.PublicURL) {
		u, err := url.Parse(s.PublicURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
			strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || strings.Contains(s.PublicURL, "#") {
			r.fault("publicUrl", "%q is not http:// or https:// and a host", s.PublicURL)
		}
		s.PublicURL = strings.TrimSuffix(s.PublicURL, "/")
	}
}

func (s *gatewaySetup) readPeers(r *configReader) {
	s.fabric.Channel, s.fabric.Chaincode = s.Channel, s.Chaincode
	if len(s.Peers) == 0 {
		r.fault("peers", "there are none")
		return
	}
	if s.Peers[0].Department != s.Department {
		r.fault("peers[0].department", "the first peer must be the own department's, %q", s.Department)
	}
	var seen []domain.DepartmentCode
	for i, p := range s.Peers {
		at := fmt.Sprintf("peers[%d].", i)
		r.departmentCode(at+"department", p.Department)
		if slices.Contains(seen, p.Department) {
			r.fault(at+"department", "%q has a peer already", p.Department)
		}
		seen = append(seen, p.Department)
		r.require(at+"mspId", string(p.MSPID))
		r.hostPort(at+"endpoint", p.Endpoint)
		s.fabric.Peers = append(s.fabric.Peers, fabricledger.Peer{
			Department: p.Department, MSPID: p.MSPID, Endpoint: p.Endpoint,
			TLSRoots: r.contents(at+"tlsRoots", p.TLSRoots), ServerName: p.ServerName,
		})
	}
}

func (s *gatewaySetup) readIdentities(r *configReader) {
	s.fabric.Identities = make(map[domain.Role]fabricledger.Identity)
	r.require("service.mspId", string(s.Service.MSPID))
	if s.department.MSPID != "" && s.Service.MSPID != s.department.MSPID {
		r.fault("service.mspId", "is %q, and the trust anchors say %q", s.Service.MSPID, s.department.MSPID)
	}
	s.fabric.Identities[domain.RoleGateway] = fabricledger.Identity{
		MSPID:          s.Service.MSPID,
		CertificatePEM: r.contents("service.certificate", s.Service.Certificate),
		KeyPEM:         r.contents("service.key", s.Service.Key),
	}
	for i, u := range s.Users {
		if s.signsElsewhere(u.Role) {
			continue
		}
		at := fmt.Sprintf("users[%d].", i)
		if !slices.Contains(domain.Roles, u.Role) || u.Role == domain.RoleGateway {
			r.fault(at+"role", "%q is not the role of a user", u.Role)
			continue
		}
		if _, ok := s.fabric.Identities[u.Role]; ok {
			r.fault(at+"role", "%q has an identity already", u.Role)
			continue
		}
		s.fabric.Identities[u.Role] = fabricledger.Identity{
			MSPID:          s.Service.MSPID,
			CertificatePEM: r.contents(at+"certificate", u.Certificate),
			KeyPEM:         r.contents(at+"key", u.Key),
		}
	}
	for _, role := range domain.Roles {
		if _, ok := s.fabric.Identities[role]; !ok && !s.signsElsewhere(role) {
			r.fault("users", "role %q has no identity", role)
		}
	}
}

// signsElsewhere reports whether the keys of a role are not here.
func (s *gatewaySetup) signsElsewhere(role domain.Role) bool {
	return s.Signing != nil && role != domain.RoleGateway && slices.Contains(s.Signing.Roles, role)
}

// users are the identities of people whose keys are here.
func (s *gatewaySetup) users() []gatewayUser {
	return slices.DeleteFunc(slices.Clone(s.Users), func(u gatewayUser) bool { return s.signsElsewhere(u.Role) })
}

func (s *gatewaySetup) readLog(r *configReader) {
	r.require("log.origin", s.Log.Origin)
	data := r.contents("log.key", s.Log.Key)
	if data == nil {
		return
	}
	s.logKey = strings.TrimSpace(string(data))
	signer, err := note.NewSigner(s.logKey)
	if err != nil {
		r.fault("log.key", "%s holds no note signer key", r.path(s.Log.Key)) // err may hold the key
		return
	}
	if signer.Name() != s.Log.Origin {
		r.fault("log.key", "the key is of %q, and log.origin is %q", signer.Name(), s.Log.Origin)
	}
	if s.department.Code == "" {
		return
	}
	if s.department.LogOrigin != s.Log.Origin {
		r.fault("log.origin", "is %q, and the trust anchors say %q", s.Log.Origin, s.department.LogOrigin)
	}
	if verifier, err := tilelog.VerifierKey(s.logKey); err != nil || verifier != s.department.LogKey {
		r.fault("log.key", "is not the key that the trust anchors name for %s", s.Department)
	}
}

func (s *gatewaySetup) readLimits(r *configReader) {
	s.address, s.identity, s.public = httpapi.DefaultAddressRate, httpapi.DefaultIdentityRate, httpapi.DefaultPublicRate()
	if s.Limits == nil {
		return
	}
	set := func(field string, perSecond float64, burst int, rate *httpapi.Rate) {
		if perSecond < 0 || burst < 0 {
			r.fault("limits."+field, "is negative")
		}
		if perSecond > 0 {
			rate.PerSecond = perSecond
		}
		if burst > 0 {
			rate.Burst = burst
		}
	}
	set("address", s.Limits.AddressPerSecond, s.Limits.AddressBurst, &s.address)
	set("identity", s.Limits.IdentityPerSecond, s.Limits.IdentityBurst, &s.identity)
	set("public", s.Limits.PublicPerSecond, s.Limits.PublicBurst, &s.public)
	if n := s.Limits.RecordsWaiting; n < 0 || n > mostRecordsWaiting {
		r.fault("limits.recordsWaiting", "%d is not between 0 and %d", n, mostRecordsWaiting)
	} else {
		s.recordsWaiting = n
	}
	if n := s.Limits.WritesInHand; n < 0 || n > mostWritesInHand {
		r.fault("limits.writesInHand", "%d is not between 0 and %d", n, mostWritesInHand)
	} else {
		s.writesInHand = n
	}
}
