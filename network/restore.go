package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hyperledger/fabric-sdk-go/pkg/client/channel"
	"github.com/hyperledger/fabric-sdk-go/pkg/fabsdk"

	"github.com/zhenglian/zhenglian/domain"
)

// RestoreResult is a department that is back.
type RestoreResult struct {
	Manifest
	NewHost   bool   `json:"newHost"`             // only the files are there: nothing else of the consortium is on this host
	HeightNow uint64 `json:"heightNow,omitempty"` // of its peer, the same as the others'
	Anchored  uint64 `json:"anchored"`            // entries of its log that the ledger anchors
}

// Restore brings a department back from a backup where its folder is gone: into the state
// folder of a running consortium, whose supervisor then starts it, or into a state folder
// that does not exist yet, on a host of its own.
//
// It refuses a backup whose access log is shorter than what the ledger has anchored: a log
// that went on from there would be a second history.
func (c *Consortium) Restore(ctx context.Context, department, file string, secret Secret) (*RestoreResult, error) {
	result := &RestoreResult{}
	if !exists(c.Layout.State) {
		result.NewHost = true
		return result, c.restoreHost(ctx, department, file, secret, result)
	}
	o, err := c.operate(ctx)
	if err != nil {
		return nil, err
	}
	defer o.close()
	dept, err := o.department(department)
	if err != nil {
		return nil, err
	}
	home := o.Layout.Department(dept.Code)
	if exists(home) {
		return nil, problem("move it away first: a restore replaces nothing", "%s exists", home)
	}
	scratch := filepath.Join(o.Layout.State, ".restoring-"+dept.Code)
	staged := Layout{State: scratch, Bin: o.Layout.Bin}
	steps := []struct {
		name string
		run  func() (string, error)
	}{
		{"keep " + dept.Code + " stopped", func() (string, error) {
			if err := o.othersRun(dept); err != nil {
				return "", err
			}
			return "", o.quiet(ctx, dept)
		}},
		{"read the backup", func() (string, error) {
			if err := os.RemoveAll(scratch); err != nil {
				return "", err
			}
			err := readBackup(file, scratch, secret, func(m Manifest) error {
				result.Manifest = m
				return o.matches(m, dept)
			}, isOwn(dept))
			return fmt.Sprintf("of %s, %d blocks, log of %d entries", result.TakenAt.Format("2006-01-02 15:04"), result.Height, result.LogSize), err
		}},
		{"compare log and ledger", func() (string, error) {
			// Its folder is away, so the others' admins ask.
			other := o.signers(dept.Code)[1]
			var err error
			result.Anchored, err = checkLog(ctx, o.admins, staged, dept, other)
			return fmt.Sprintf("%d entries anchored", result.Anchored), err
		}},
		{"put it in its place", func() (string, error) {
			if err := os.MkdirAll(filepath.Dir(home), 0o700); err != nil {
				return "", err
			}
			tokens := filepath.Join("tokens", dept.Code+".json")
			err := os.Rename(filepath.Join(scratch, tokens), filepath.Join(o.Layout.State, tokens))
			if err := errors.Join(err, os.Rename(staged.Department(dept.Code), home), os.RemoveAll(scratch)); err != nil {
				return "", err
			}
			if err := o.connect(); err != nil {
				return "", err
			}
			return "", o.rerender()
		}},
		{"start " + dept.Code, func() (string, error) { return "", o.start(ctx, dept, nodeKinds...) }},
		{"catch up", func() (string, error) {
			other := o.admins.height(ctx, o.signers(dept.Code)[1])
			h, err := o.awaitHeight(ctx, dept.Code, max(other.Height, result.Height))
			result.HeightNow = h.Height
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d blocks, %d since the backup", h.Height, h.Height-result.Height), o.awaitReady(ctx, dept)
		}},
	}
	for _, s := range steps {
		if err := c.Progress.Step(s.name, s.run); err != nil {
			return nil, errors.Join(err, os.RemoveAll(scratch))
		}
	}
	return result, nil
}

// restoreHost makes the state folder of a host that has nothing but the programs. The
// department's units start it.
func (c *Consortium) restoreHost(ctx context.Context, department, file string, secret Secret, result *RestoreResult) error {
	scratch := c.Layout.State + ".restoring"
	err := c.Progress.Step("read the backup", func() (string, error) {
		if err := os.RemoveAll(scratch); err != nil {
			return "", err
		}
		err := readBackup(file, scratch, secret, func(m Manifest) error {
			result.Manifest = m
			if m.Department != department {
				return problem("name that department", "the backup is of %s", m.Department)
			}
			return nil
		}, func(string) bool { return true })
		return fmt.Sprintf("of %s, %d blocks, log of %d entries", result.TakenAt.Format("2006-01-02 15:04"), result.Height, result.LogSize), err
	})
	if err != nil {
		return errors.Join(err, os.RemoveAll(scratch))
	}
	staged := Layout{State: scratch, Bin: c.Layout.Bin}
	err = c.Progress.Step("compare log and ledger", func() (string, error) {
		def, err := LoadDefinition(staged.DefinitionCopy())
		if err != nil {
			return "", err
		}
		dept, ok := def.Department(department)
		if !ok {
			return "", fmt.Errorf("the backup's definition has no %s", department)
		}
		admins, err := connectAdministrators(staged, def)
		if err != nil {
			return "", err
		}
		defer admins.close()
		for _, other := range def.Departments {
			if other.Code == dept.Code {
				continue
			}
			result.Anchored, err = checkLogAs(ctx, admins, staged, dept, dept.Code, other.Code)
			var refused *Problem
			if err == nil || errors.As(err, &refused) {
				return fmt.Sprintf("%d entries anchored", result.Anchored), err
			}
		}
		return "", &Problem{Cause: fmt.Sprintf("no other department's peer answers: %v", err), Remedy: "restore when one can be reached", Err: err}
	})
	if err != nil {
		return errors.Join(err, os.RemoveAll(scratch))
	}
	return c.Progress.Step("put it in its place", func() (string, error) {
		if err := os.Rename(scratch, c.Layout.State); err != nil {
			return "", err
		}
		def, err := c.Definition()
		if err != nil {
			return "", err
		}
		dept, _ := def.Department(department)
		_, packageID, err := loadPackage(c.Layout, def.Chaincode)
		if err != nil {
			return "", err
		}
		return c.Layout.State, renderDepartment(c.Layout, def, dept, packageID)
	})
}

// isOwn picks the entries of a backup that are the department's alone; the rest is in the
// state folder of a consortium already, perhaps newer.
func isOwn(dept Department) func(string) bool {
	return func(name string) bool {
		return name == "tokens/"+dept.Code+".json" || name == "departments/"+dept.Code || strings.HasPrefix(name, "departments/"+dept.Code+"/")
	}
}

// matches requires a backup to be of this department of this consortium.
func (o *operation) matches(m Manifest, dept Department) error {
	if m.Department != dept.Code || m.Channel != o.def.Channel {
		return problem("choose the right file", "the backup is of %s on channel %s", m.Department, m.Channel)
	}
	if m.Chaincode != o.def.Chaincode.Version {
		return problem("restore it, then run upgrade, with the definition of that time; or choose a later backup",
			"the backup was taken with chaincode version %s and the channel has %s", m.Chaincode, o.def.Chaincode.Version)
	}
	return nil
}

// quiet stops what the supervisor still tries to start of a department whose folder is
// gone.
func (o *operation) quiet(ctx context.Context, dept Department) error {
	for _, name := range o.processes(dept) {
		// One that is not running is stopped already.
		_ = o.supervisor.halt(ctx, name)
	}
	found, err := o.Layout.processes()
	if err != nil {
		return err
	}
	for _, p := range found {
		if strings.HasSuffix(p.Name, "-"+dept.Code) {
			return problem("stop it", "%s still runs (pid %d), in a folder that is gone", p.Name, p.PID)
		}
	}
	return nil
}

// checkLog compares the restored access log with its last anchor, asked as another
// department's admin of that department's peer.
func checkLog(ctx context.Context, admins *administrators, staged Layout, dept Department, other string) (uint64, error) {
	return checkLogAs(ctx, admins, staged, dept, other, other)
}

func checkLogAs(ctx context.Context, admins *administrators, staged Layout, dept Department, as, peer string) (uint64, error) {
	size, root, err := staged.logHead(dept.Code)
	if err != nil {
		return 0, err
	}
	anchored, err := admins.anchored(ctx, dept.Code, as, peer)
	if err != nil {
		return 0, err
	}
	if size < anchored.Size {
		return anchored.Size, problem("restore a later backup: going on from this one would make a second history of the log",
			"the access log in the backup has %d entries and the ledger anchors %d", size, anchored.Size)
	}
	if size == anchored.Size && size > 0 && root != anchored.Root {
		return anchored.Size, problem("look for who changed it: this is not the log that was anchored",
			"the access log in the backup has %d entries as the anchor has, and another root", size)
	}
	return anchored.Size, nil
}

// anchored is the registration of a department's access log, which holds its last anchor,
// as a peer has it. A log that was never registered is empty.
func (a *administrators) anchored(ctx context.Context, code, as, peer string) (domain.LogRegistration, error) {
	var registration domain.LogRegistration
	client, err := channel.New(a.sdk.ChannelContext(a.def.Channel, fabsdk.WithUser("admin"), fabsdk.WithOrg(as)))
	if err != nil {
		return registration, fmt.Errorf("ask as %s: %w", as, err)
	}
	argument, err := domain.Canonical(domain.AttestArgs{Kind: domain.KindLog, ID: code, Nonce: strings.Repeat("0", 32)})
	if err != nil {
		return registration, err
	}
	response, err := client.Query(channel.Request{ChaincodeID: a.def.Chaincode.Name, Fcn: "evidence:Attest", Args: [][]byte{argument}},
		channel.WithTargetEndpoints(peerName(peer)), channel.WithParentContext(ctx))
	if err != nil {
		return registration, fmt.Errorf("ask peer-%s for the last anchor of %s: %w", peer, code, err)
	}
	var statement domain.Statement
	if err := domain.ParseCanonical(response.Payload, &statement); err != nil {
		return registration, fmt.Errorf("the last anchor of %s: %w", code, err)
	}
	if !statement.Found {
		return registration, nil
	}
	if err := domain.ParseCanonical([]byte(statement.Record), &registration); err != nil {
		return registration, fmt.Errorf("the last anchor of %s: %w", code, err)
	}
	return registration, nil
}
