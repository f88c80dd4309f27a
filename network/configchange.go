package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go/common"
	"github.com/hyperledger/fabric-sdk-go/pkg/client/ledger"
	"github.com/hyperledger/fabric-sdk-go/pkg/client/resmgmt"
	"github.com/hyperledger/fabric-sdk-go/pkg/common/errors/status"
	"github.com/hyperledger/fabric-sdk-go/pkg/fabsdk"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// ErrUnknown is wrapped by the error of a submission of which nobody can say yet whether
// it takes effect. Submitting the same file again says so, and does no harm.
var ErrUnknown = errors.New("outcome unknown")

// configHost is one department's operator at work on the channel's configuration, with
// what the department's own state folder has: its admin's key, and of the others public
// certificates. Its peer and orderer must run; what supervises them does not matter.
type configHost struct {
	*operation
	dept Department
}

// configuring prepares a command of the department with the code; "" is the only one whose
// admin's key is in the state folder.
func (c *Consortium) configuring(code string) (*configHost, error) {
	state, err := c.Layout.LoadState()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem("name a department's state folder with --state", "there is no consortium in %s", c.Layout.State)
	}
	if err != nil {
		return nil, err
	}
	def, err := c.Definition()
	if err != nil {
		return nil, err
	}
	own := c.Layout.administered(def)
	if code == "" && len(own) == 1 {
		code = own[0]
	}
	if code == "" {
		return nil, problem("name one with --department", "%s has the admin's key of %d departments", c.Layout.State, len(own))
	}
	dept, ok := def.Department(code)
	if !ok {
		return nil, problem("name one with --department", "%q is no department of the consortium", code)
	}
	if !slices.Contains(own, code) {
		return nil, problem("work on the machine of "+code, "%s has no admin's key of %s", c.Layout.State, code)
	}
	copied := *c
	o := &operation{Consortium: &copied, def: def, state: state, unlock: func() {}}
	if err := o.connect(); err != nil {
		return nil, err
	}
	return &configHost{operation: o, dept: dept}, nil
}

// administered are the departments whose admin's key is in the state folder.
func (l Layout) administered(def *Definition) []string {
	var codes []string
	for _, dept := range def.Departments {
		if exists(l.Department(dept.Code, "users", "admin", "key.pem")) {
			codes = append(codes, dept.Code)
		}
	}
	return codes
}

// exclude keeps other commands that change the state folder out until close.
func (h *configHost) exclude() error {
	unlock, err := h.lock()
	if err == nil {
		h.unlock = unlock
	}
	return err
}

// present is the channel's configuration as the own peer has it, with its block.
func (h *configHost) present(ctx context.Context) (*common.Block, *common.Config, error) {
	block, err := h.admins.configBlock(ctx, h.dept.Code)
	if err != nil {
		return nil, nil, &Problem{Cause: err.Error(), Remedy: "see that peer-" + h.dept.Code + " runs", Err: err}
	}
	config, err := readConfig(block)
	return block, config, err
}

// look reviews a proposal. One that was committed is said to be, and anything else that
// does not follow from the present configuration is refused.
func (h *configHost) look(ctx context.Context, p *proposal) (*ConfigReview, *common.Config, error) {
	block, current, err := h.present(ctx)
	if err != nil {
		return nil, nil, err
	}
	if p.update.GetChannelId() == h.def.Channel && p.base < current.Sequence {
		number, found, err := h.committedIn(ctx, block, p)
		if err != nil {
			return nil, nil, err
		}
		if found {
			return &ConfigReview{
				Channel: h.def.Channel, Digest: p.file.Digest, Base: p.base, Summary: []string{}, Signatures: []ConfigSigner{}, Policies: []ConfigPolicy{},
				Committed: true, Block: number,
			}, current, nil
		}
	}
	r, err := p.review(h.def.Channel, current, time.Now())
	return r, current, err
}

// committedIn looks for the block that brought a proposal into force, from the channel's
// last configuration block back to the configuration that the proposal changes.
func (h *configHost) committedIn(ctx context.Context, block *common.Block, p *proposal) (uint64, bool, error) {
	client, err := h.admins.ledger(h.dept.Code)
	if err != nil {
		return 0, false, err
	}
	at := func(number uint64) (*common.Block, error) {
		block, err := client.QueryBlock(number, ledger.WithTargetEndpoints(peerName(h.dept.Code)), ledger.WithParentContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("ask peer-%s for block %d: %w", h.dept.Code, number, err)
		}
		return block, nil
	}
	for {
		config, update, err := readLastUpdate(block)
		if err != nil {
			return 0, false, err
		}
		number := block.GetHeader().GetNumber()
		if bytes.Equal(update, p.file.Update) {
			return number, true, nil
		}
		if config.Sequence <= p.base+1 || number == 0 {
			return 0, false, nil
		}
		before, err := at(number - 1)
		if err != nil {
			return 0, false, err
		}
		index, err := lastConfig(before)
		if err != nil {
			return 0, false, err
		}
		if index >= number {
			return 0, false, fmt.Errorf("block %d names block %d as the last configuration", number-1, index)
		}
		if block, err = at(index); err != nil {
			return 0, false, err
		}
	}
}

// readLastUpdate reads a configuration block: the configuration and the bytes of the
// update that made it, none in the first block.
func readLastUpdate(block *common.Block) (*common.Config, []byte, error) {
	config, err := readConfig(block)
	if err != nil {
		return nil, nil, err
	}
	var outer, inner common.Payload
	var envelope common.Envelope
	var configEnvelope common.ConfigEnvelope
	var update common.ConfigUpdateEnvelope
	err = errors.Join(unmarshal(block.Data.Data[0], &envelope), unmarshal(envelope.Payload, &outer), unmarshal(outer.Data, &configEnvelope))
	if err == nil && configEnvelope.LastUpdate != nil {
		err = errors.Join(unmarshal(configEnvelope.LastUpdate.Payload, &inner), unmarshal(inner.Data, &update))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the channel's last change: %w", err)
	}
	return config, update.ConfigUpdate, nil
}

// lastConfig is the number of the last configuration block as a block names it in what its
// orderers signed.
func lastConfig(block *common.Block) (uint64, error) {
	metadata := block.GetMetadata().GetMetadata()
	if len(metadata) <= int(common.BlockMetadataIndex_SIGNATURES) {
		return 0, errors.New("a block has no metadata")
	}
	var outer common.Metadata
	var inner common.OrdererBlockMetadata
	if err := unmarshal(metadata[common.BlockMetadataIndex_SIGNATURES], &outer); err != nil {
		return 0, fmt.Errorf("read a block's metadata: %w", err)
	}
	if err := unmarshal(outer.Value, &inner); err != nil {
		return 0, fmt.Errorf("read a block's metadata: %w", err)
	}
	return inner.GetLastConfig().GetIndex(), nil
}

// ReviewConfig says what the proposal in a file would do to the channel and who has signed
// it.
func (c *Consortium) ReviewConfig(ctx context.Context, department, file string) (*ConfigReview, error) {
	h, err := c.configuring(department)
	if err != nil {
		return nil, err
	}
	defer h.close()
	p, err := readProposal(file)
	if err != nil {
		return nil, err
	}
	r, _, err := h.look(ctx, p)
	return r, err
}

// SignConfig adds the signature of the own admin to the proposal in a file, if its digest
// is the one that somebody read. An earlier signature of the department that still counts
// stays, another is replaced. It answers the review with the signature, and whether it is
// new.
func (c *Consortium) SignConfig(ctx context.Context, department, file, digest string) (*ConfigReview, bool, error) {
	h, err := c.configuring(department)
	if err != nil {
		return nil, false, err
	}
	defer h.close()
	p, err := readProposal(file)
	if err != nil {
		return nil, false, err
	}
	if p.file.Digest != digest {
		return nil, false, problem("look at it with config show", "%s has the digest %s and not %s", file, p.file.Digest, digest)
	}
	r, current, err := h.look(ctx, p)
	if err != nil {
		return nil, false, err
	}
	if r.Committed {
		return nil, false, problem("there is nothing to sign", "the change was committed in block %d", r.Block)
	}
	if i := slices.Index(p.members, h.dept.MSPID); i >= 0 && r.Signatures[i].Counts {
		return r, false, nil
	}
	s, err := h.sign(p.file.Update)
	if err != nil {
		return nil, false, err
	}
	if _, err := p.signerOf(current.ChannelGroup, s, time.Now()); err != nil {
		return nil, false, &Problem{Cause: fmt.Sprintf("the channel would not count the signature of %s: %v", h.dept.Code, err), Remedy: "see the certificate of its admin", Err: err}
	}
	p.set(h.dept.MSPID, s)
	if r, err = p.review(h.def.Channel, current, time.Now()); err != nil {
		return nil, false, err
	}
	return r, true, writeProposal(file, p)
}

// sign signs an update as the own admin.
func (h *configHost) sign(update []byte) (ConfigSignature, error) {
	admin, err := h.admins.sdk.Context(fabsdk.WithUser("admin"), fabsdk.WithOrg(h.dept.Code))()
	if err != nil {
		return ConfigSignature{}, fmt.Errorf("sign as the admin of %s: %w", h.dept.Code, err)
	}
	creator, err := admin.Serialize()
	if err != nil {
		return ConfigSignature{}, err
	}
	header, err := signingHeader(creator)
	if err != nil {
		return ConfigSignature{}, err
	}
	signature, err := admin.SigningManager().Sign(slices.Concat(header, update), admin.PrivateKey())
	if err != nil {
		return ConfigSignature{}, fmt.Errorf("sign as the admin of %s: %w", h.dept.Code, err)
	}
	return ConfigSignature{Header: header, Signature: signature}, nil
}

// MergeConfig takes the signatures that count of other copies of a proposal over into the
// file. It answers the review and how many it took.
func (c *Consortium) MergeConfig(ctx context.Context, department, file string, others []string) (*ConfigReview, int, error) {
	h, err := c.configuring(department)
	if err != nil {
		return nil, 0, err
	}
	defer h.close()
	p, r, taken, err := h.gather(ctx, append([]string{file}, others...))
	if err != nil || taken == 0 {
		return r, 0, err
	}
	return r, taken, writeProposal(file, p)
}

// gather reads a proposal with the signatures of all its copies.
func (h *configHost) gather(ctx context.Context, files []string) (*proposal, *ConfigReview, int, error) {
	var first *proposal
	var r *ConfigReview
	var current *common.Config
	taken := 0
	for i, file := range files {
		p, err := readProposal(file)
		if err != nil {
			return nil, nil, 0, err
		}
		if i == 0 {
			first = p
			if r, current, err = h.look(ctx, p); err != nil || r.Committed {
				return p, r, 0, err
			}
			continue
		}
		n, err := first.merge(current.ChannelGroup, p, time.Now())
		if err != nil {
			return nil, nil, 0, &Problem{Cause: fmt.Sprintf("%s cannot be merged into %s: %v", file, files[0], err), Remedy: "merge copies of one proposal", Err: err}
		}
		taken += n
	}
	r, err := first.review(h.def.Channel, current, time.Now())
	return first, r, taken, err
}

// SubmitResult is a change of the channel that is in force.
type SubmitResult struct {
	Digest  string `json:"digest"`
	Block   uint64 `json:"block"`
	Already bool   `json:"already"` // it was in force before
}

// SubmitConfig hands the proposal in the files, copies of one, to the own orderer, or to
// another's when that one is down, and waits until the own peer has the block that brings
// it into force. An error that wraps [ErrUnknown] says neither that it does nor that it
// does not.
func (c *Consortium) SubmitConfig(ctx context.Context, department string, files []string) (*SubmitResult, error) {
	h, err := c.configuring(department)
	if err != nil {
		return nil, err
	}
	defer h.close()
	p, r, _, err := h.gather(ctx, files)
	if err != nil {
		return nil, err
	}
	if r.Committed {
		return &SubmitResult{Digest: r.Digest, Block: r.Block, Already: true}, nil
	}
	if !r.Enough {
		return nil, problem("have more departments sign it", "the signatures are not enough: %s", missing(r))
	}
	refused := h.handOver(ctx, p, r)
	return h.awaitCommit(ctx, p, refused)
}

// missing names the policies that are not satisfied.
func missing(r *ConfigReview) string {
	var lacking []string
	for _, policy := range r.Policies {
		if !policy.Satisfied {
			lacking = append(lacking, policy.Policy+" asks for "+policy.Rule)
		}
	}
	return strings.Join(lacking, ", ")
}

// handOver gives the update with the signatures that count to an orderer. A [*Problem] is
// a refusal of all of them; after any other error the outcome is open.
func (h *configHost) handOver(ctx context.Context, p *proposal, r *ConfigReview) error {
	transaction, err := updateEnvelope(h.def.Channel, p.file.Update)
	if err != nil {
		return err
	}
	var signatures []*common.ConfigSignature
	for i, s := range p.file.Signatures {
		if r.Signatures[i].Counts {
			signatures = append(signatures, &common.ConfigSignature{SignatureHeader: s.Header, Signature: s.Signature})
		}
	}
	client, err := h.admins.resources(h.dept.Code)
	if err != nil {
		return err
	}
	codes := []string{h.dept.Code}
	for _, dept := range h.def.Departments {
		if dept.Code != h.dept.Code {
			codes = append(codes, dept.Code)
		}
	}
	open := false
	for _, code := range codes {
		_, err = client.SaveChannel(resmgmt.SaveChannelRequest{ChannelID: h.def.Channel, ChannelConfig: bytes.NewReader(transaction)},
			resmgmt.WithConfigSignatures(signatures...), resmgmt.WithOrdererEndpoint(ordererName(code)), unhurried(), resmgmt.WithParentContext(ctx))
		if err == nil {
			return nil
		}
		open = open || !isRefusal(err)
		if ctx.Err() != nil {
			break
		}
	}
	if open {
		return err
	}
	return &Problem{Cause: fmt.Sprintf("the orderers refuse the change of the channel: %v", err), Remedy: "look at it with config show", Err: err}
}

// isRefusal reports whether an orderer answered that it will not order the change.
func isRefusal(err error) bool {
	var s *status.Status
	if !errors.As(err, &s) || s.Group != status.OrdererServerStatus {
		return false
	}
	return s.Code == int32(common.Status_BAD_REQUEST) || s.Code == int32(common.Status_FORBIDDEN) || s.Code == int32(common.Status_NOT_FOUND)
}

// refusalWait is how long a refused change is looked for all the same: it is refused, too,
// when somebody else submitted it just before and the own peer is a little behind.
const refusalWait = 3 * time.Second

// awaitCommit waits until the own peer has the proposal's block. refused is what handing
// it over answered.
func (h *configHost) awaitCommit(ctx context.Context, p *proposal, refused error) (*SubmitResult, error) {
	began := time.Now()
	for deadline := began.Add(configWait); ; {
		block, _, err := h.present(ctx)
		if err == nil {
			var number uint64
			var found bool
			if number, found, err = h.committedIn(ctx, block, p); found {
				return &SubmitResult{Digest: p.file.Digest, Block: number}, nil
			}
		}
		var final *Problem
		if err == nil && errors.As(refused, &final) && time.Since(began) > refusalWait {
			return nil, final
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			cause := fmt.Sprintf("unknown: peer-%s has no block with the change after %s", h.dept.Code, configWait)
			if err := errors.Join(refused, err); err != nil {
				cause += " (" + err.Error() + ")"
			}
			return nil, &Problem{Cause: cause, Remedy: "submit the same file again, which says whether it was committed", Err: ErrUnknown}
		}
		_ = sleep(ctx, 200*time.Millisecond) // the condition above ends the wait
	}
}

// AdoptResult is what a department's state folder took over from the channel.
type AdoptResult struct {
	Changed []string `json:"changed"`
	Restart []string `json:"restart"` // kinds of the own processes that read it at their start
}

// AdoptConfig brings the own state folder to what the channel has since a change of it
// was committed: revocation lists of all departments and the trust file, the new
// certificates of the own orderer, and the edited definition's ordering.
func (c *Consortium) AdoptConfig(ctx context.Context, department string) (*AdoptResult, error) {
	h, err := c.configuring(department)
	if err != nil {
		return nil, err
	}
	defer h.close()
	if err := h.exclude(); err != nil {
		return nil, err
	}
	_, current, err := h.present(ctx)
	if err != nil {
		return nil, err
	}
	result := &AdoptResult{Changed: []string{}, Restart: []string{}}
	for _, adopt := range []func(*common.ConfigGroup, *AdoptResult) error{h.adoptLists, h.adoptOrderer, h.adoptOrdering} {
		if err := adopt(current.ChannelGroup, result); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// adoptLists writes the departments' revocation lists in the channel to their folders and
// to the trust file, whose other content stays as it is.
func (h *configHost) adoptLists(channel *common.ConfigGroup, result *AdoptResult) error {
	data, err := os.ReadFile(h.Layout.Trust())
	if err != nil {
		return err
	}
	anchors, err := proof.ParseAnchors(data)
	if err != nil {
		return fmt.Errorf("%s: %w", h.Layout.Trust(), err)
	}
	for _, dept := range h.def.Departments {
		config, err := memberMSP(channel, dept.MSPID)
		if err != nil {
			return err
		}
		if len(config.RevocationList) > 1 {
			return fmt.Errorf("the channel has %d revocation lists of %s", len(config.RevocationList), dept.Code)
		}
		for _, list := range config.RevocationList {
			if had, err := os.ReadFile(h.Layout.crl(dept.Code)); err == nil && len(revoked(had)) > len(revoked(list)) {
				continue // a newer one waits to be proposed
			}
			if err := writeFile(h.Layout.crl(dept.Code), list, 0o644); err != nil {
				return err
			}
			for i := range anchors.Departments {
				if string(anchors.Departments[i].MSPID) == dept.MSPID {
					anchors.Departments[i].CRLs = []string{string(list)}
				}
			}
		}
	}
	after, err := domain.Canonical(anchors)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, after) {
		result.Changed, result.Restart = append(result.Changed, h.Layout.Trust()), append(result.Restart, "gateway")
	}
	return writeFile(h.Layout.Trust(), after, 0o644)
}

// adoptOrderer puts the own orderer's staged certificates in the place of the present
// ones if the channel names them.
func (h *configHost) adoptOrderer(channel *common.ConfigGroup, result *AdoptResult) error {
	staged := h.Layout.Department(h.dept.Code, "orderer", "next")
	identity, err := os.ReadFile(filepath.Join(staged, "orderer.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := readConsenters(channel.GetGroups()[ordererGroup].GetValues()[orderersValue].GetValue())
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(c consenter) bool { return c.MSPID == h.dept.MSPID && bytes.Equal(c.Identity, identity) }) {
		return nil
	}
	r := h.rotation()
	if err := r.installOrderer(staged, ordererIdentities); err != nil {
		return err
	}
	result.Changed, result.Restart = append(result.Changed, r.result.Renewed...), append(result.Restart, "orderer")
	return os.RemoveAll(staged)
}

// adoptOrdering accepts the edited definition if the channel has its ordering and nothing
// else of it was edited.
func (h *configHost) adoptOrdering(channel *common.ConfigGroup, result *AdoptResult) error {
	next, err := LoadDefinition(h.DefinitionPath)
	if errors.Is(err, fs.ErrNotExist) || err == nil && h.def.changeTo(next).command != reorder {
		return nil
	}
	if err != nil {
		return err
	}
	as := clone(channel)
	if err := setOrdering(as, next.Ordering); err != nil {
		return err
	}
	if !equal(as, channel) {
		return nil
	}
	result.Changed = append(result.Changed, h.Layout.DefinitionCopy())
	return h.accept(next)
}
