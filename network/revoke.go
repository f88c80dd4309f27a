package network

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-protos-go/common"
)

// Revocation says what to revoke: the present certificate of an identity, which gets a
// new key and certificate first, or the certificate in a file.
type Revocation struct {
	Department  string
	Identity    string
	Certificate string
	Reason      string // as RFC 5280 names it, such as keycompromise
}

// revocable are the identities that revoke replaces. An orderer's is part of the channel:
// rotate it and revoke the old certificate by its file. TLS certificates have another
// authority, whose lists no node reads.
var revocable = []string{"admin", "auditor", "gateway", "issuing", "operator", "peer", "reviewer"}

// RevokeResult is what was revoked and where it is known.
type RevokeResult struct {
	Department string `json:"department"`
	Identity   string `json:"identity,omitempty"`
	Serial     string `json:"serial"` // hexadecimal
	Subject    string `json:"subject"`
	List       string `json:"list"`    // file of the authority's revocation list
	Revoked    int    `json:"revoked"` // certificates in the list
	Channel    bool   `json:"channel"` // the channel's configuration changed
}

// Revoke revokes a certificate at its department's authority and makes the list known to
// the channel, whose peers and orderers refuse the certificate from that block on, and to
// the trust file. An interrupted run is completed by the same call.
func (c *Consortium) Revoke(ctx context.Context, r Revocation) (*RevokeResult, error) {
	if (r.Identity == "") == (r.Certificate == "") {
		return nil, problem("give one of them", "revoke needs either --identity or --certificate")
	}
	if r.Identity != "" && !slices.Contains(revocable, r.Identity) {
		return nil, problem("choose one of "+strings.Join(revocable, ", ")+", or rotate it and name the old certificate's file with --certificate",
			"the identity %q cannot be replaced here", r.Identity)
	}
	o, err := c.operate(ctx)
	if err != nil {
		return nil, err
	}
	defer o.close()
	dept, err := o.department(r.Department)
	if err != nil {
		return nil, err
	}
	result := &RevokeResult{Department: dept.Code, Identity: r.Identity}
	var cert *x509.Certificate
	var used []string // kinds of processes that use the certificate
	news := false     // for verifiers
	steps := []struct {
		name string
		run  func() (string, error)
	}{
		{"find the certificate", func() (string, error) {
			path := r.Certificate
			if r.Identity != "" {
				if path, err = o.markRevoked(dept, r.Identity); err != nil {
					return "", err
				}
			}
			if cert, err = readCertificate(path); err != nil {
				return "", err
			}
			result.Serial, result.Subject = hex.EncodeToString(cert.SerialNumber.Bytes()), cert.Subject.String()
			return fmt.Sprintf("serial %s of %s", result.Serial, cert.Subject.CommonName), issuedBy(o.Layout, dept, cert)
		}},
		{"replace it", func() (string, error) {
			if r.Identity == "" {
				return "nothing to replace", nil
			}
			used, err = o.replace(ctx, dept, r.Identity, cert)
			return "new key and certificate", err
		}},
		{"revoke it", func() (string, error) { return "", o.revokeAt(ctx, dept, cert, r.Reason, result) }},
		{"tell the channel", func() (string, error) {
			list, err := os.ReadFile(result.List)
			if err != nil {
				return "", err
			}
			// A department's own admin decides about its own MSP.
			result.Channel, err = o.admins.reconfigure(ctx, []string{dept.Code}, func(channel *common.ConfigGroup) error {
				return setCRLs(channel, dept.MSPID, [][]byte{list})
			})
			return fmt.Sprintf("%d revoked certificates known", result.Revoked), err
		}},
		{"tell the verifiers", func() (string, error) {
			before, err := os.ReadFile(o.Layout.Trust())
			if err != nil {
				return "", err
			}
			if err := writeTrust(o.Layout, o.def); err != nil {
				return "", err
			}
			after, err := os.ReadFile(o.Layout.Trust())
			news = !bytes.Equal(before, after)
			return o.Layout.Trust(), err
		}},
		{"restart what uses it", func() (string, error) {
			if slices.Contains(used, "peer") {
				if err := o.restart(ctx, dept, "peer"); err != nil {
					return "", err
				}
			}
			if news { // all serve the trust file
				return o.restartGateways(ctx, o.def.Departments...)
			}
			if len(used) > 0 {
				return o.restartGateways(ctx, dept)
			}
			return "nothing", nil
		}},
	}
	for _, s := range steps {
		if err := c.Progress.Step(s.name, s.run); err != nil {
			return nil, err
		}
	}
	if r.Identity != "" {
		return result, os.Remove(o.Layout.revoking(dept, r.Identity))
	}
	return result, nil
}

// revoking is the file that holds the certificate of an identity from the moment its
// revocation begins until it ends.
func (l Layout) revoking(dept Department, name string) string {
	return l.Department(dept.Code, "ca", "revoking", name+".pem")
}

// markRevoked notes which certificate is to be revoked, unless an earlier run did.
func (o *operation) markRevoked(dept Department, name string) (string, error) {
	path := o.Layout.revoking(dept, name)
	if exists(path) {
		return path, nil
	}
	id, ok := identityNamed(name)
	if !ok {
		return "", fmt.Errorf("there is no identity %q", name)
	}
	data, err := os.ReadFile(o.Layout.Department(dept.Code, id.Cert))
	if err != nil {
		return "", err
	}
	return path, writeFile(path, data, 0o644)
}

// replace enrols the identity anew if it still has the certificate, and answers the kinds
// of processes that read it.
func (o *operation) replace(ctx context.Context, dept Department, name string, old *x509.Certificate) ([]string, error) {
	id, _ := identityNamed(name)
	used := []string{"gateway"}
	if name == "peer" {
		used = append(used, "peer")
	}
	current, err := readCertificate(o.Layout.Department(dept.Code, id.Cert))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(current.Raw, old.Raw) {
		return used, nil // replaced by an earlier run
	}
	known, err := o.Layout.loadSecrets(dept.Code)
	if err != nil {
		return nil, err
	}
	id.Secret = known[name]
	if err := enrolOne(ctx, o.Layout, dept, id, o.Layout.Department(dept.Code, id.Cert), o.Layout.Department(dept.Code, id.Key)); err != nil {
		return nil, err
	}
	// The administration client may hold the old admin's key.
	return used, o.connect()
}

// revokeAt revokes the certificate and writes the authority's list to the places where
// nodes and verifiers read it.
func (o *operation) revokeAt(ctx context.Context, dept Department, cert *x509.Certificate, reason string, result *RevokeResult) error {
	result.List = o.Layout.crl(dept.Code)
	if list, err := os.ReadFile(result.List); err == nil && listed(list, cert) {
		result.Revoked = len(revoked(list))
		return nil // by an earlier run
	}
	registrar, err := administer(ctx, o.Layout, dept)
	if err != nil {
		return err
	}
	defer registrar.close()
	if err := registrar.revoke(ctx, cert, reason); err != nil {
		return err
	}
	list, err := registrar.crl(ctx)
	if err != nil {
		return err
	}
	if !listed(list, cert) {
		return fmt.Errorf("the authority of %s does not list %x among its revoked certificates", dept.Code, cert.SerialNumber)
	}
	for _, msp := range []string{"msp", "peer/msp", "orderer/msp"} {
		path := o.Layout.Department(dept.Code, filepath.FromSlash(msp), "crls", "crl.pem")
		if err := writeFile(path, list, 0o644); err != nil {
			return err
		}
	}
	result.Revoked = len(revoked(list))
	return nil
}

// crl is the file of a department's revocation list.
func (l Layout) crl(code string) string { return l.Department(code, "msp", "crls", "crl.pem") }

// revocationLists are the lists of a department that verifiers need, as PEM.
func (l Layout) revocationLists(code string) ([]string, error) {
	list, err := os.ReadFile(l.crl(code))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return []string{string(list)}, err
}

func identityNamed(name string) (identity, bool) {
	for _, id := range identities() {
		if id.Name == name {
			return id, true
		}
	}
	return identity{}, false
}
