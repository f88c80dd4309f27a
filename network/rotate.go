package network

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go/common"
)

// RotateResult says which certificates of a department are new.
type RotateResult struct {
	Department string    `json:"department"`
	Renewed    []string  `json:"renewed"`    // identities; "ca" is the authority's own TLS certificate
	Kept       int       `json:"kept"`       // certificates that end later than asked
	NextEnd    time.Time `json:"nextEnd"`    // when the first of all ends now
	Retired    string    `json:"retired"`    // folder of the certificates that were replaced
	BlocksMade uint64    `json:"blocksMade"` // by the consortium meanwhile: it did not stop
}

// Rotate gives a department new keys and certificates in place of those that end within
// the time. Its programs restart one after the other, so that its peer, its orderer and
// its gateway are away for seconds, each at another time, and the consortium for none. An
// orderer's certificates are part of the channel: they change by a configuration update
// that a majority signs. An interrupted run is completed by the same call.
func (c *Consortium) Rotate(ctx context.Context, department string, within time.Duration) (*RotateResult, error) {
	o, err := c.operate(ctx)
	if err != nil {
		return nil, err
	}
	defer o.close()
	dept, err := o.department(department)
	if err != nil {
		return nil, err
	}
	r := &rotation{operation: o, dept: dept, before: time.Now().Add(within), result: &RotateResult{
		Department: dept.Code, Renewed: []string{}, Retired: o.Layout.Department(dept.Code, "retired"),
	}}
	for _, s := range []struct {
		name string
		run  func(context.Context) (string, error)
	}{
		{"look at the others", r.preflight},
		{"renew the authority's own", r.authority},
		{"renew users and gateway", r.users},
		{"renew peer and chaincode", r.peer},
		{"renew the orderer", r.orderer},
		{"restart the gateway", r.gateway},
		{"look at the result", r.check},
	} {
		if err := c.Progress.Step(s.name, func() (string, error) { return s.run(ctx) }); err != nil {
			return nil, err
		}
	}
	return r.result, nil
}

type rotation struct {
	*operation
	dept      Department
	before    time.Time // certificates that end before are renewed
	height    uint64    // at the beginning
	gatewayIs bool      // to be restarted
	result    *RotateResult
}

func (r *rotation) preflight(ctx context.Context) (string, error) {
	if err := r.othersRun(r.dept); err != nil {
		return "", err
	}
	r.height = r.admins.height(ctx, r.def.Lead).Height
	return fmt.Sprintf("%d blocks", r.height), r.awaitOrderers(ctx)
}

// awaitOrderers waits until every orderer has what the lead's peer has: one that was
// restarted catches up some seconds later, and two that are away stop the ordering.
func (r *rotation) awaitOrderers(ctx context.Context) error {
	height := r.admins.height(ctx, r.def.Lead).Height
	for _, dept := range r.def.Departments {
		if _, err := r.awaitParticipation(ctx, dept, "consenter", height); err != nil {
			return err
		}
	}
	return nil
}

// due reports whether the certificate in the file ends too soon.
func (r *rotation) due(path string) (bool, error) {
	cert, err := readCertificate(path)
	if err != nil {
		return false, err
	}
	if cert.NotAfter.Before(r.before) {
		return true, nil
	}
	r.result.Kept++
	return false, nil
}

// renew enrols those of the identities anew whose certificates are due, and answers
// whether there were any. Nothing reads the files before its program starts again.
func (r *rotation) renew(ctx context.Context, names ...string) (bool, error) {
	known, err := r.Layout.loadSecrets(r.dept.Code)
	if err != nil {
		return false, err
	}
	renewed := false
	for _, name := range names {
		id, ok := identityNamed(name)
		if !ok {
			return false, fmt.Errorf("there is no identity %q", name)
		}
		cert := r.Layout.Department(r.dept.Code, id.Cert)
		due, err := r.due(cert)
		if err != nil {
			return false, err
		}
		if !due {
			continue
		}
		if err := r.retire(name, cert); err != nil {
			return false, err
		}
		id.Secret = known[name]
		if err := enrolOne(ctx, r.Layout, r.dept, id, cert, r.Layout.Department(r.dept.Code, id.Key)); err != nil {
			return false, fmt.Errorf("enrol %s of %s: %w", name, r.dept.Code, err)
		}
		renewed = true
		r.result.Renewed = append(r.result.Renewed, name)
	}
	return renewed, nil
}

// retire keeps the certificate that is replaced, without its key: revoke takes it from
// here.
func (r *rotation) retire(name, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	cert, err := readCertificate(path)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(r.result.Retired, fmt.Sprintf("%s-%x.pem", name, cert.SerialNumber)), data, 0o644)
}

func (r *rotation) authority(ctx context.Context) (string, error) {
	cert := r.Layout.Department(r.dept.Code, "ca", "tls-cert.pem")
	due, err := r.due(cert)
	if err != nil || !due {
		return "not due", err
	}
	// The server issues itself a new one when it starts without.
	if err := errors.Join(r.retire("ca", cert), r.supervisor.end(ctx, r.dept.process("ca")), os.Remove(cert)); err != nil {
		return "", err
	}
	if err := r.start(ctx, r.dept, "ca"); err != nil {
		return "", err
	}
	r.result.Renewed = append(r.result.Renewed, "ca")
	return "", nil
}

func (r *rotation) users(ctx context.Context) (string, error) {
	renewed, err := r.renew(ctx, append([]string{"gateway", "issuing", "operations-tls"}, Roles...)...)
	if err != nil {
		return "", err
	}
	r.gatewayIs = r.gatewayIs || renewed
	// The administration client may hold the old admin's key.
	return fmt.Sprintf("%d new", len(r.result.Renewed)), r.connect()
}

func (r *rotation) peer(ctx context.Context) (string, error) {
	renewed, err := r.renew(ctx, "peer", "peer-tls", "chaincode-tls")
	if err != nil || !renewed {
		return "not due", err
	}
	if err := errors.Join(renderBuilder(r.Layout, r.dept), renewConnections(r.Layout, r.dept)); err != nil {
		return "", err
	}
	height := r.admins.height(ctx, r.def.Lead).Height
	if err := r.restart(ctx, r.dept, "peer", "chaincode"); err != nil {
		return "", err
	}
	if err := r.connect(); err != nil {
		return "", err
	}
	h, err := r.awaitHeight(ctx, r.dept.Code, height)
	return fmt.Sprintf("%d blocks", h.Height), err
}

// renewConnections gives the peer's new TLS certificate to the connections of the packages
// it has built: each has the certificate of the day it was installed.
func renewConnections(l Layout, dept Department) error {
	fresh, err := os.ReadFile(l.Department(dept.Code, "peer", "builder", "connection.json"))
	if err != nil {
		return err
	}
	var now map[string]any
	if err := json.Unmarshal(fresh, &now); err != nil {
		return err
	}
	return filepath.WalkDir(l.Department(dept.Code, "peer", "data", "externalbuilder"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing is built yet
		}
		if err != nil || d.IsDir() || d.Name() != "connection.json" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var built map[string]any
		if err := json.Unmarshal(data, &built); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, key := range []string{"client_key", "client_cert", "root_cert"} {
			built[key] = now[key]
		}
		return writeJSON(path, built)
	})
}

// orderer renews the orderer's certificates: first beside the present ones, then in the
// channel, then in their place.
func (r *rotation) orderer(ctx context.Context) (string, error) {
	staged := r.Layout.Department(r.dept.Code, "orderer", "next")
	ids := ordererIdentities
	if !exists(filepath.Join(staged, "complete")) {
		due := false
		for _, name := range ids {
			id, _ := identityNamed(name)
			one, err := r.due(r.Layout.Department(r.dept.Code, id.Cert))
			if err != nil {
				return "", err
			}
			due = due || one
		}
		if !due {
			return "not due", nil
		}
		// Both, because the channel names them together.
		if err := r.stageOrderer(ctx, staged, ids); err != nil {
			return "", err
		}
	}
	identity, err := os.ReadFile(filepath.Join(staged, "orderer.pem"))
	if err != nil {
		return "", err
	}
	tls, err := os.ReadFile(filepath.Join(staged, "orderer-tls.pem"))
	if err != nil {
		return "", err
	}
	if err := r.awaitOrderers(ctx); err != nil {
		return "", err
	}
	_, err = r.admins.reconfigure(ctx, r.signers(r.def.Lead), func(channel *common.ConfigGroup) error {
		return renewConsenter(channel, r.dept.MSPID, identity, tls)
	})
	if err != nil {
		return "", err
	}
	if err := r.supervisor.end(ctx, r.dept.process("orderer")); err != nil {
		return "", err
	}
	if err := r.installOrderer(staged, ids); err != nil {
		return "", err
	}
	if err := r.start(ctx, r.dept, "orderer"); err != nil {
		return "", err
	}
	if err := r.awaitOrderers(ctx); err != nil {
		return "", err
	}
	return "the channel knows them", os.RemoveAll(staged)
}

// renewConsenter gives a department's orderer in the channel other certificates, PEM.
func renewConsenter(channel *common.ConfigGroup, mspID string, identity, tls []byte) error {
	return changeConsenters(channel, func(list []consenter) ([]consenter, error) {
		i := slices.IndexFunc(list, func(c consenter) bool { return c.MSPID == mspID })
		if i < 0 {
			return nil, fmt.Errorf("%s has no orderer in the channel", mspID)
		}
		list[i].Identity, list[i].ClientTLSCert, list[i].ServerTLSCert = identity, tls, tls
		return list, nil
	})
}

// installOrderer puts the staged keys and certificates in the place of the present ones.
func (r *rotation) installOrderer(staged string, names []string) error {
	for _, name := range names {
		id, _ := identityNamed(name)
		for from, to := range map[string]string{name + ".key": id.Key, name + ".pem": id.Cert} {
			data, err := os.ReadFile(filepath.Join(staged, from))
			if err != nil {
				return err
			}
			mode := fs.FileMode(0o644)
			if strings.HasSuffix(from, ".key") {
				mode = 0o600
			}
			if err := writeFile(r.Layout.Department(r.dept.Code, to), data, mode); err != nil {
				return err
			}
		}
		r.result.Renewed = append(r.result.Renewed, name)
	}
	return nil
}

// ordererIdentities are those that the channel's configuration names.
var ordererIdentities = []string{"orderer", "orderer-tls"}

// stageOrderer enrols the identities into a folder beside the present certificates.
func (r *rotation) stageOrderer(ctx context.Context, staged string, names []string) error {
	known, err := r.Layout.loadSecrets(r.dept.Code)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, _ := identityNamed(name)
		if err := r.retire(name, r.Layout.Department(r.dept.Code, id.Cert)); err != nil {
			return err
		}
		id.Secret = known[name]
		if err := enrolOne(ctx, r.Layout, r.dept, id, filepath.Join(staged, name+".pem"), filepath.Join(staged, name+".key")); err != nil {
			return fmt.Errorf("enrol %s of %s: %w", name, r.dept.Code, err)
		}
	}
	return writeFile(filepath.Join(staged, "complete"), nil, 0o600)
}

func (r *rotation) gateway(ctx context.Context) (string, error) {
	if !r.gatewayIs {
		return "not due", nil
	}
	return r.restartGateways(ctx, r.dept)
}

// check requires every certificate of the department to last now.
func (r *rotation) check(ctx context.Context) (string, error) {
	list := certificates(r.Layout, &Definition{Departments: []Department{r.dept}}, time.Now())
	var first *x509.Certificate
	for _, c := range list {
		cert, err := readCertificate(filepath.Join(r.Layout.State, c.File))
		if err != nil {
			return "", err
		}
		if first == nil || cert.NotAfter.Before(first.NotAfter) {
			first = cert
		}
	}
	if first == nil {
		return "", fmt.Errorf("%s has no certificates", r.dept.Code)
	}
	r.result.NextEnd = first.NotAfter.UTC()
	if !bytes.Equal(first.RawSubject, first.RawIssuer) && first.NotAfter.Before(r.before) && first.NotAfter.Sub(first.NotBefore) > time.Until(r.before) {
		return "", fmt.Errorf("the certificate of %s still ends at %s", first.Subject, r.result.NextEnd.Format(time.RFC3339))
	}
	r.result.BlocksMade = r.admins.height(ctx, r.def.Lead).Height - r.height
	return fmt.Sprintf("%d new, the first ends %s", len(r.result.Renewed), r.result.NextEnd.Format("2006-01-02")), nil
}
