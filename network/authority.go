package network

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// crlExpiry is how long a revocation list says that it is good. Fabric and the verifier
// take the last one they have; the next revocation replaces it.
const crlExpiry = 365 * 24 * time.Hour

// authority is a department's enrolment CA, administered by its registrar.
type authority struct {
	layout  Layout
	dept    Department
	scratch string // the registrar's own certificate
}

// administer enrols the registrar at a department's CA, which must be running. close
// forgets its key.
func administer(ctx context.Context, l Layout, dept Department) (*authority, error) {
	known, err := l.loadSecrets(dept.Code)
	if err != nil {
		return nil, err
	}
	a := &authority{layout: l, dept: dept, scratch: l.Department(dept.Code, "ca", "enrolling", registrar)}
	if err := os.RemoveAll(a.scratch); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(a.scratch, 0o700); err != nil {
		return nil, err
	}
	if err := a.client(ctx, registrar+":"+known[registrar]+"@", "enroll"); err != nil {
		a.close()
		return nil, fmt.Errorf("enrol the registrar of %s: %w", dept.Code, err)
	}
	return a, nil
}

func (a *authority) close() { _ = os.RemoveAll(a.scratch) } // the next one begins by removing it

// client runs fabric-ca-client. user is empty or ends in @.
func (a *authority) client(ctx context.Context, user, command string, args ...string) error {
	cmd := exec.CommandContext(ctx, a.layout.Program("fabric-ca-client"), append([]string{
		command, "--home", a.scratch, "--mspdir", "msp", "--caname", enrolmentCA,
		"--tls.certfiles", a.layout.Department(a.dept.Code, "ca", "ca-cert.pem"),
	}, args...)...)
	cmd.Env = append(cleanEnvironment(), "FABRIC_CA_CLIENT_URL=https://"+user+net.JoinHostPort(a.dept.Host, strconv.Itoa(a.dept.Ports.CA)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fabric-ca-client %s: %w: %s", command, err, lastLine(out))
	}
	return nil
}

// revoke revokes one certificate of this authority.
func (a *authority) revoke(ctx context.Context, cert *x509.Certificate, reason string) error {
	serial := strings.TrimLeft(hex.EncodeToString(cert.SerialNumber.Bytes()), "0")
	return a.client(ctx, "", "revoke", "--revoke.serial", serial, "--revoke.aki", hex.EncodeToString(cert.AuthorityKeyId), "--revoke.reason", reason)
}

// crl is the authority's whole revocation list now, as PEM.
func (a *authority) crl(ctx context.Context) ([]byte, error) {
	if err := a.client(ctx, "", "gencrl"); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(a.scratch, "msp", "crls", "crl.pem"))
}

// revoked are the entries of a revocation list in PEM; none if it cannot be read.
func revoked(list []byte) []x509.RevocationListEntry {
	block, _ := pem.Decode(list)
	if block == nil {
		return nil
	}
	parsed, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil
	}
	return parsed.RevokedCertificateEntries
}

// listed reports whether a revocation list names the certificate.
func listed(list []byte, cert *x509.Certificate) bool {
	for _, entry := range revoked(list) {
		if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

// readCertificate reads the first certificate of a PEM file.
func readCertificate(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(bytes.TrimSpace(data))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}

// issuedBy requires the certificate to be of the department's enrolment CA.
func issuedBy(l Layout, dept Department, cert *x509.Certificate) error {
	root, err := readCertificate(l.Department(dept.Code, "msp", "cacerts", "ca.pem"))
	if err != nil {
		return err
	}
	if err := cert.CheckSignatureFrom(root); err != nil {
		return problem("name the department whose certificate it is, or another file",
			"the certificate was not issued by the enrolment authority of %s", dept.Code)
	}
	return nil
}
