package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// UpgradeResult is the chaincode after an upgrade.
type UpgradeResult struct {
	Version   string   `json:"version"`
	Before    string   `json:"before"` // the same if there was nothing to upgrade
	Sequence  int64    `json:"sequence"`
	PackageID string   `json:"packageId"`
	Late      []string `json:"late"` // departments whose peers do not have it yet; the same command completes them
}

// Upgrade brings the chaincode to the version in the edited definition. The processes of
// the new version start beside the old ones, which endorse until the definition is
// committed with the approval of a majority and go when every peer that answers has
// committed it. Departments that were away follow when Upgrade is called again.
func (c *Consortium) Upgrade(ctx context.Context) (*UpgradeResult, error) {
	o, err := c.operate(ctx)
	if err != nil {
		return nil, err
	}
	defer o.close()
	next, changed, err := o.edited("upgrade")
	if err != nil {
		return nil, err
	}
	u := &upgrade{operation: o, next: next, old: o.state.Slot, result: &UpgradeResult{
		Version: next.Chaincode.Version, Before: o.def.Chaincode.Version, Late: []string{},
	}}
	if changed.command != "" {
		if slices.Contains(o.state.Versions, next.Chaincode.Version) {
			return nil, problem("choose a version that was never used", "version %s was used before: proofs name it", next.Chaincode.Version)
		}
		next.setSlot(1 - o.state.Slot)
	}
	for _, s := range []struct {
		name string
		run  func(context.Context) (string, error)
	}{
		{"build the chaincode", u.build},
		{"start the new chaincode", u.startChaincode},
		{"trust both versions", u.trustBoth},
		{"install it", u.install},
		{"agree on it", u.agree},
		{"wait for the peers", u.await},
		{"stop the old chaincode", u.finish},
	} {
		if err := c.Progress.Step(s.name, func() (string, error) { return s.run(ctx) }); err != nil {
			return nil, err
		}
	}
	return u.result, nil
}

type upgrade struct {
	*operation
	next      *Definition
	old       int // slot
	pkg       []byte
	packageID string
	result    *UpgradeResult
}

func (u *upgrade) slot() int { return u.next.Departments[0].slot }

func (u *upgrade) build(ctx context.Context) (string, error) {
	repo := u.sourceTree()
	stale, err := outdated(u.Layout, repo, false)
	if err != nil {
		return "", err
	}
	stale = slices.DeleteFunc(stale, func(p program) bool { return p.name != "zhenglian-chaincode" })
	if len(stale) == 0 {
		return "up to date", nil
	}
	if err := checkBuildTools(ctx, repo, stale); err != nil {
		return "", err
	}
	return "built", build(ctx, u.Layout, repo, stale[0])
}

func (u *upgrade) startChaincode(ctx context.Context) (string, error) {
	var err error
	if u.pkg, u.packageID, err = loadPackage(u.Layout, u.next.Chaincode); err != nil {
		return "", err
	}
	u.result.PackageID = u.packageID
	var listeners []Listener
	for _, dept := range u.next.Departments {
		// The peer takes the address of the process from here when it installs the package.
		if err := errors.Join(renderChaincode(u.Layout, dept, u.packageID), renderBuilder(u.Layout, dept)); err != nil {
			return "", err
		}
		listeners = append(listeners, u.listeners(dept, "chaincode")...)
	}
	if u.slot() != u.old {
		if err := u.supervisor.supervise(ctx, u.def, []int{u.slot()}); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d run %s", len(listeners), shortID(u.packageID)), u.supervisor.start(ctx, listeners, 60*time.Second)
}

// trustBoth has verifiers, the gateways among them, accept the new version before the
// first answer carries it.
func (u *upgrade) trustBoth(ctx context.Context) (string, error) {
	if u.slot() == u.old {
		return "nothing to change", nil
	}
	if !slices.Contains(u.state.Versions, u.def.Chaincode.Version) {
		u.state.Versions = append(u.state.Versions, u.def.Chaincode.Version)
		if err := u.Layout.saveState(u.state); err != nil {
			return "", err
		}
	}
	before, err := os.ReadFile(u.Layout.Trust())
	if err != nil {
		return "", err
	}
	if err := writeTrust(u.Layout, u.next); err != nil {
		return "", err
	}
	if after, err := os.ReadFile(u.Layout.Trust()); err == nil && string(after) == string(before) {
		return "known already", nil
	}
	return u.restartGateways(ctx, u.def.Departments...)
}

func (u *upgrade) install(ctx context.Context) (string, error) {
	slot := u.slot()
	u.def, u.next = u.next, u.def // the administrators work for the new definition
	defer func() { u.def, u.next = u.next, u.def }()
	if err := u.connect(); err != nil {
		return "", err
	}
	failed := make([]error, len(u.def.Departments))
	installed := make([]bool, len(u.def.Departments))
	var group errgroup.Group
	for i, dept := range u.def.Departments {
		group.Go(func() error {
			installed[i], failed[i] = u.admins.install(ctx, dept.Code, u.pkg, u.packageID)
			return nil
		})
	}
	_ = group.Wait() // failed carries the failures
	for i, dept := range u.def.Departments {
		if failed[i] != nil {
			u.result.Late = append(u.result.Late, dept.Code)
		}
	}
	if len(failed)-len(u.result.Late) < u.def.Quorum() {
		return "", errors.Join(failed...)
	}
	return fmt.Sprintf("%d installed, for the processes in %s", count(installed), chaincodeKinds[slot]), nil
}

func (u *upgrade) agree(ctx context.Context) (string, error) {
	return agree(ctx, u.Layout, u.admins, u.packageID, u.def.Quorum())
}

// await waits until every peer that answers has committed the new definition.
func (u *upgrade) await(ctx context.Context) (string, error) {
	for _, dept := range u.next.Departments {
		for deadline := time.Now().Add(30 * time.Second); ; {
			current, ok, err := u.admins.committed(ctx, dept.Code)
			if err == nil && ok && current.Version == u.next.Chaincode.Version {
				u.result.Sequence = current.Sequence
				break
			}
			if err != nil {
				if !slices.Contains(u.result.Late, dept.Code) {
					u.result.Late = append(u.result.Late, dept.Code)
				}
				break
			}
			if time.Now().After(deadline) {
				return "", problem("see "+u.Layout.Log("peer-"+dept.Code), "peer-%s has not committed version %s", dept.Code, u.next.Chaincode.Version)
			}
			if err := sleep(ctx, 200*time.Millisecond); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%d have sequence %d", len(u.next.Departments)-len(u.result.Late), u.result.Sequence), nil
}

func (u *upgrade) finish(ctx context.Context) (string, error) {
	if u.slot() == u.old {
		return "it is gone", nil
	}
	u.state.Slot = u.slot()
	if err := u.accept(u.next); err != nil {
		return "", err
	}
	if err := u.supervisor.supervise(ctx, u.def, nil); err != nil {
		return "", err
	}
	// What the supervisor starts next time, everything.
	if err := renderSupervision(u.Layout, u.def, func(kind string) bool { return kind == "gateway" && !u.Gateways }); err != nil {
		return "", err
	}
	for _, dept := range u.def.Departments {
		if slices.Contains(u.result.Late, dept.Code) {
			continue
		}
		if err := u.awaitReady(ctx, dept); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s %s serves", u.def.Chaincode.Name, u.def.Chaincode.Version), nil
}
