package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hyperledger/fabric-sdk-go/pkg/client/resmgmt"
	"golang.org/x/sync/errgroup"
)

// loadPackage returns the chaincode package of the consortium, making it if there is
// none. The bytes on disk win, so that the package ID survives another Go release.
func loadPackage(l Layout, c Chaincode) (data []byte, packageID string, err error) {
	data, packageID, err = chaincodePackage(c)
	if err != nil {
		return nil, "", fmt.Errorf("package chaincode %s: %w", c.Label(), err)
	}
	path := filepath.Join(l.State, "chaincode", c.Label()+".tar.gz")
	if stored, err := os.ReadFile(path); err == nil {
		return stored, packageIDOf(c, stored), nil
	}
	return data, packageID, writeFile(path, data, 0o644)
}

// installChaincode installs the package on every peer that lacks it.
func installChaincode(ctx context.Context, l Layout, admins *administrators, pkg []byte, packageID string) (int, error) {
	installed := make([]bool, len(admins.def.Departments))
	group, ctx := errgroup.WithContext(ctx)
	for i, dept := range admins.def.Departments {
		group.Go(func() error {
			var err error
			installed[i], err = admins.install(ctx, dept.Code, pkg, packageID)
			if err != nil {
				return &Problem{
					Cause:  fmt.Sprintf("peer-%s does not install %s: %v", dept.Code, shortID(packageID), err),
					Remedy: "see " + l.Log("peer-"+dept.Code) + " and run up again", Err: err,
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return count(installed), err
}

func (a *administrators) install(ctx context.Context, code string, pkg []byte, packageID string) (bool, error) {
	client, err := a.resources(code)
	if err != nil {
		return false, err
	}
	peer := resmgmt.WithTargetEndpoints(peerName(code))
	have, err := client.LifecycleQueryInstalledCC(peer, patience(), resmgmt.WithParentContext(ctx))
	if err != nil {
		return false, err
	}
	for _, cc := range have {
		if cc.PackageID == packageID {
			return false, nil
		}
	}
	answers, err := client.LifecycleInstallCC(resmgmt.LifecycleInstallCCRequest{Label: a.def.Chaincode.Label(), Package: pkg},
		peer, patience(), unhurried(), resmgmt.WithParentContext(ctx))
	if err != nil {
		return false, err
	}
	for _, answer := range answers {
		if answer.PackageID != packageID {
			return false, fmt.Errorf("the peer computed package ID %s", answer.PackageID)
		}
	}
	return true, nil
}

// committed is the chaincode definition that the channel has, and whether it has one.
func (a *administrators) committed(ctx context.Context, code string) (resmgmt.LifecycleChaincodeDefinition, bool, error) {
	client, err := a.resources(code)
	if err != nil {
		return resmgmt.LifecycleChaincodeDefinition{}, false, err
	}
	defs, err := client.LifecycleQueryCommittedCC(a.def.Channel, resmgmt.LifecycleQueryCommittedCCRequest{},
		resmgmt.WithTargetEndpoints(peerName(code)), patience(), resmgmt.WithParentContext(ctx))
	if err != nil {
		return resmgmt.LifecycleChaincodeDefinition{}, false, fmt.Errorf("ask peer-%s for the committed chaincode: %w", code, err)
	}
	for _, d := range defs {
		if d.Name == a.def.Chaincode.Name {
			return d, true, nil
		}
	}
	return resmgmt.LifecycleChaincodeDefinition{}, false, nil
}

// agree approves the chaincode definition for every department and commits it, unless
// the channel already has it. Departments approve at the same time: each approval waits
// for a block of its own. It requires need of them; those that cannot approve now are
// named in the result.
func agree(ctx context.Context, l Layout, admins *administrators, packageID string, need int) (string, error) {
	def := admins.def
	lead := def.Lead
	current, ok, err := admins.committed(ctx, lead)
	if err != nil {
		return "", err
	}
	sequence := current.Sequence + 1
	if ok && current.Version == def.Chaincode.Version {
		sequence = current.Sequence
	}
	fresh, failed := make([]bool, len(def.Departments)), make([]error, len(def.Departments))
	var group errgroup.Group
	for i, dept := range def.Departments {
		group.Go(func() error {
			var err error
			fresh[i], err = admins.approve(ctx, dept.Code, packageID, sequence)
			if err != nil {
				failed[i] = &Problem{
					Cause:  fmt.Sprintf("%s does not approve %s: %v", dept.Code, shortID(packageID), err),
					Remedy: "see " + l.Log("peer-"+dept.Code) + " and " + l.Log("orderer-"+dept.Code) + ", then run the command again", Err: err,
				}
			}
			return nil
		})
	}
	_ = group.Wait() // failed carries the failures
	var approved, late []string
	for i, dept := range def.Departments {
		if failed[i] == nil {
			approved = append(approved, dept.Code)
		} else {
			late = append(late, dept.Code)
		}
	}
	if len(approved) < need {
		return "", errors.Join(failed...)
	}
	result := fmt.Sprintf("%d approved", count(fresh))
	if len(late) > 0 {
		result += " (not " + strings.Join(late, ", ") + ")"
	}
	if ok && current.Version == def.Chaincode.Version {
		return fmt.Sprintf("%s, sequence %d was committed before", result, sequence), nil
	}
	if err := admins.commit(ctx, sequence, approved); err != nil {
		return "", &Problem{
			Cause:  fmt.Sprintf("channel %s does not commit %s: %v", def.Channel, shortID(packageID), err),
			Remedy: "see " + l.Log("peer-"+lead) + " and run the command again", Err: err,
		}
	}
	return fmt.Sprintf("%s, committed as sequence %d", result, sequence), nil
}

// approved is what a department approved as the sequence.
func (a *administrators) approved(ctx context.Context, code string, sequence int64) (resmgmt.LifecycleApprovedChaincodeDefinition, error) {
	client, err := a.resources(code)
	if err != nil {
		return resmgmt.LifecycleApprovedChaincodeDefinition{}, err
	}
	return client.LifecycleQueryApprovedCC(a.def.Channel, resmgmt.LifecycleQueryApprovedCCRequest{
		Name: a.def.Chaincode.Name, Sequence: sequence,
	}, resmgmt.WithTargetEndpoints(peerName(code)), resmgmt.WithParentContext(ctx))
}

// approve approves the definition for a department, unless it did so before.
func (a *administrators) approve(ctx context.Context, code, packageID string, sequence int64) (bool, error) {
	client, err := a.resources(code)
	if err != nil {
		return false, err
	}
	peer := resmgmt.WithTargetEndpoints(peerName(code))
	approved, err := a.approved(ctx, code, sequence)
	if err == nil && approved.PackageID == packageID && approved.Version == a.def.Chaincode.Version {
		return false, nil
	}
	_, err = client.LifecycleApproveCC(a.def.Channel, resmgmt.LifecycleApproveCCRequest{
		Name: a.def.Chaincode.Name, Version: a.def.Chaincode.Version, PackageID: packageID, Sequence: sequence,
		EndorsementPlugin: "escc", ValidationPlugin: "vscc", ChannelConfigPolicy: endorsementPolicy,
	}, peer, resmgmt.WithOrdererEndpoint(ordererName(code)), patience(), unhurried(), resmgmt.WithParentContext(ctx))
	if err != nil && strings.Contains(err.Error(), "attempted to redefine uncommitted sequence") {
		return false, nil // approved before, with the same content
	}
	return err == nil, err
}

// endorsementPolicy is the channel's policy for writes: a majority of the departments.
const endorsementPolicy = "/Channel/Application/Endorsement"

// commit commits the definition as the lead once its peer knows that all of approved
// approved it. Their peers endorse.
func (a *administrators) commit(ctx context.Context, sequence int64, approved []string) error {
	client, err := a.resources(a.def.Lead)
	if err != nil {
		return err
	}
	leadPeer := resmgmt.WithTargetEndpoints(peerName(a.def.Lead))
	deadline := time.Now().Add(30 * time.Second)
	for {
		ready, err := client.LifecycleCheckCCCommitReadiness(a.def.Channel, resmgmt.LifecycleCheckCCCommitReadinessRequest{
			Name: a.def.Chaincode.Name, Version: a.def.Chaincode.Version, Sequence: sequence,
			EndorsementPlugin: "escc", ValidationPlugin: "vscc", ChannelConfigPolicy: endorsementPolicy,
		}, leadPeer, patience(), resmgmt.WithParentContext(ctx))
		if err != nil {
			return fmt.Errorf("check the approvals: %w", err)
		}
		given := 0
		for _, ok := range ready.Approvals {
			if ok {
				given++
			}
		}
		if given >= len(approved) {
			break
		}
		// Approvals are on the ledger, but not all of them at the lead's peer yet.
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d departments approved", given, len(approved))
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	peers := make([]string, 0, len(approved))
	for _, code := range approved {
		peers = append(peers, peerName(code))
	}
	for {
		_, err = client.LifecycleCommitCC(a.def.Channel, resmgmt.LifecycleCommitCCRequest{
			Name: a.def.Chaincode.Name, Version: a.def.Chaincode.Version, Sequence: sequence,
			EndorsementPlugin: "escc", ValidationPlugin: "vscc", ChannelConfigPolicy: endorsementPolicy,
		}, resmgmt.WithTargetEndpoints(peers...), resmgmt.WithOrdererEndpoint(ordererName(a.def.Lead)), patience(), unhurried(), resmgmt.WithParentContext(ctx))
		// Another department's peer may have its own approval a block later than the lead's.
		if err == nil || !strings.Contains(err.Error(), "not agreed to by this org") || time.Now().After(deadline) {
			return err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}
