package network

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/hyperledger/fabric-protos-go/common"
	"github.com/hyperledger/fabric-protos-go/msp"
	"github.com/hyperledger/fabric-sdk-go/pkg/client/resmgmt"
)

// configFileFormat is the format of the file that goes from department to department.
const configFileFormat = "zhenglian-config-update/1"

// configFileLimit bounds the file, in bytes. Admitting a department takes some 30 KB.
const configFileLimit = 1 << 20

// ConfigFile is a change of the channel's configuration that waits for signatures. It
// comes from elsewhere: what it changes is computed from Update and the configuration of
// the own peer, never read from Summary.
type ConfigFile struct {
	Format     string            `json:"format"`
	Digest     string            `json:"digest"`     // of Update: "sha256:" and hexadecimal
	Summary    []string          `json:"summary"`    // what config show computes, for people; a file whose summary says something else is refused
	Update     []byte            `json:"update"`     // common.ConfigUpdate
	Signatures []ConfigSignature `json:"signatures"` // at most one of a member
}

// ConfigSignature is an admin's signature of an update.
type ConfigSignature struct {
	Header    []byte `json:"header"`    // common.SignatureHeader
	Signature []byte `json:"signature"` // ECDSA of Header and Update together, ASN.1
}

// proposal is a change that was read from a file or computed.
type proposal struct {
	file    *ConfigFile
	update  *common.ConfigUpdate
	base    uint64   // sequence of the configuration that it changes
	members []string // MSP IDs of the signatures, in their order
}

// baseKey names what an update says beside the configuration: the sequence of the
// configuration that it was made for. Fabric takes no notice of it, and it is signed.
const baseKey = "zhenglian.base"

// propose computes the update from one configuration to the next.
func propose(channel string, current, next *common.Config) (*proposal, error) {
	update, err := resmgmt.CalculateConfigUpdate(channel, current, next)
	if err != nil {
		return nil, fmt.Errorf("compare the configurations: %w", err)
	}
	update.IsolatedData = map[string][]byte{baseKey: []byte(strconv.FormatUint(current.Sequence, 10))}
	data, err := marshal(update)
	if err != nil {
		return nil, err
	}
	p := &proposal{update: update, base: current.Sequence}
	p.file = &ConfigFile{Format: configFileFormat, Digest: digestOf(data), Update: data, Signatures: []ConfigSignature{}}
	p.file.Summary, err = p.summary(current)
	return p, err
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// summary says what the update makes of the configuration, computed from its bytes.
func (p *proposal) summary(current *common.Config) ([]string, error) {
	next, err := applied(current, p.update)
	if err != nil {
		return nil, err
	}
	lines := difference(outlineOf(current), outlineOf(next))
	return append([]string{fmt.Sprintf("channel %s, from configuration %d to %d", plain(p.update.ChannelId), p.base, p.base+1)}, lines...), nil
}

// encode writes the file as it must be read.
func (f *ConfigFile) encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(f)
	return out.Bytes(), err
}

// readProposal reads a file that somebody else may have written: a regular file of bounded
// size in exactly the bytes that this program writes. Signatures are not verified here.
func readProposal(path string) (*proposal, error) {
	// Without waiting for the other end of a pipe.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, problem("name the file that config propose wrote", "%s is no file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, configFileLimit+1))
	if err != nil {
		return nil, err
	}
	p, err := parseProposal(data)
	if err != nil {
		return nil, &Problem{Cause: fmt.Sprintf("%s is refused: %v", path, err), Remedy: "ask for the file as config propose wrote it", Err: err}
	}
	return p, nil
}

func parseProposal(data []byte) (*proposal, error) {
	if len(data) > configFileLimit {
		return nil, fmt.Errorf("it has more than %d bytes", configFileLimit)
	}
	var file ConfigFile
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("it is no proposal: %s", plain(err.Error()))
	}
	if file.Format != configFileFormat {
		return nil, fmt.Errorf("its format is %s and this program knows %s", plain(file.Format), configFileFormat)
	}
	// One file has one form: no member twice, none in other letters, nothing behind the end.
	if again, err := file.encode(); err != nil || !bytes.Equal(again, data) {
		return nil, errors.New("it is not written as this program writes it")
	}
	if digestOf(file.Update) != file.Digest {
		return nil, errors.New("its digest is not that of its update")
	}
	p := &proposal{file: &file, update: &common.ConfigUpdate{}}
	if err := unmarshal(file.Update, p.update); err != nil {
		return nil, fmt.Errorf("its update cannot be read: %w", err)
	}
	base := string(p.update.IsolatedData[baseKey])
	var err error
	if p.base, err = strconv.ParseUint(base, 10, 63); err != nil || strconv.FormatUint(p.base, 10) != base || len(p.update.IsolatedData) != 1 {
		return nil, errors.New("its update does not say which configuration it changes")
	}
	for _, s := range file.Signatures {
		_, id, err := s.creator()
		if err != nil {
			return nil, err
		}
		if slices.Contains(p.members, id) {
			return nil, fmt.Errorf("it has two signatures of %s", plain(id))
		}
		p.members = append(p.members, id)
	}
	return p, nil
}

// creator is who made a signature, as it says: its serialized identity and MSP ID.
func (s ConfigSignature) creator() ([]byte, string, error) {
	var header common.SignatureHeader
	var id msp.SerializedIdentity
	if err := unmarshal(s.Header, &header); err != nil {
		return nil, "", fmt.Errorf("a signature's header cannot be read: %w", err)
	}
	if err := unmarshal(header.Creator, &id); err != nil {
		return nil, "", fmt.Errorf("a signature's creator cannot be read: %w", err)
	}
	return header.Creator, id.Mspid, nil
}

// signerOf verifies one of the proposal's signatures against the channel's configuration.
func (p *proposal) signerOf(channel *common.ConfigGroup, s ConfigSignature, now time.Time) (*signer, error) {
	creator, id, err := s.creator()
	if err != nil {
		return &signer{mspID: id}, err
	}
	who, err := identify(channel, creator, now)
	if err != nil {
		return who, err
	}
	return who, who.verifySignature(s.Header, p.file.Update, s.Signature)
}

// set gives the proposal a member's signature in place of its earlier one.
func (p *proposal) set(mspID string, s ConfigSignature) {
	if i := slices.Index(p.members, mspID); i >= 0 {
		p.file.Signatures[i] = s
		return
	}
	p.members = append(p.members, mspID)
	p.file.Signatures = append(p.file.Signatures, s)
}

// merge takes over the signatures of another copy that count in the channel, where this
// one has none of that member that counts. It answers how many those were.
func (p *proposal) merge(channel *common.ConfigGroup, other *proposal, now time.Time) (int, error) {
	if !bytes.Equal(p.file.Update, other.file.Update) {
		return 0, fmt.Errorf("they are different changes, %s and %s", p.file.Digest, other.file.Digest)
	}
	taken := 0
	for i, s := range other.file.Signatures {
		if _, err := p.signerOf(channel, s, now); err != nil {
			continue
		}
		if at := slices.Index(p.members, other.members[i]); at >= 0 {
			if _, err := p.signerOf(channel, p.file.Signatures[at], now); err == nil {
				continue
			}
		}
		p.set(other.members[i], s)
		taken++
	}
	return taken, nil
}

// ConfigReview is what a proposal would do to the channel, and who agrees.
type ConfigReview struct {
	Channel    string         `json:"channel"`
	Digest     string         `json:"digest"`
	Base       uint64         `json:"base"`    // sequence of the configuration that it changes
	Summary    []string       `json:"summary"` // computed from the update and the channel's configuration
	Signatures []ConfigSigner `json:"signatures"`
	Policies   []ConfigPolicy `json:"policies"`
	Enough     bool           `json:"enough"` // the signatures satisfy all policies

	Committed bool   `json:"committed"` // already; nothing but Channel, Digest and Base is said besides
	Block     uint64 `json:"block,omitempty"`
}

// ConfigSigner is a signature of a proposal.
type ConfigSigner struct {
	MSPID   string `json:"mspId"`
	Subject string `json:"subject,omitempty"`
	Serial  string `json:"serial,omitempty"` // hexadecimal
	Counts  bool   `json:"counts"`
	Why     string `json:"why,omitempty"` // it does not count
}

// review checks a proposal against the channel's present configuration. It refuses what
// cannot follow from it.
func (p *proposal) review(channel string, current *common.Config, now time.Time) (*ConfigReview, error) {
	if p.update.GetChannelId() != channel {
		return nil, problem("sign changes of your own channel only", "the file changes the channel %s and this one is %s", plain(p.update.GetChannelId()), channel)
	}
	if p.base > current.Sequence {
		return nil, problem("wait until your peer has it, or propose the change anew", "the file changes configuration %d and your peer has %d", p.base, current.Sequence)
	}
	if p.base < current.Sequence {
		return nil, problem("propose the change anew", "the file changes configuration %d and the channel has %d", p.base, current.Sequence)
	}
	summary, err := p.summary(current)
	if err != nil {
		return nil, &Problem{Cause: fmt.Sprintf("the file is refused: %v", err), Remedy: "propose the change anew", Err: err}
	}
	if !slices.Equal(summary, p.file.Summary) {
		return nil, problem("use the release with which it was proposed, or propose the change anew",
			"the file is refused: its summary does not say what its update does")
	}
	r := &ConfigReview{Channel: channel, Digest: p.file.Digest, Base: p.base, Summary: summary, Signatures: []ConfigSigner{}, Enough: true}
	var signers []*signer
	for _, s := range p.file.Signatures {
		who, err := p.signerOf(current.ChannelGroup, s, now)
		entry := ConfigSigner{MSPID: plain(who.mspID), Counts: err == nil}
		if who.cert != nil {
			entry.Subject, entry.Serial = plain(who.cert.Subject.String()), hex.EncodeToString(who.cert.SerialNumber.Bytes())
		}
		if err != nil {
			entry.Why = plain(err.Error())
		} else {
			signers = append(signers, who)
		}
		r.Signatures = append(r.Signatures, entry)
	}
	r.Policies = policiesOf(current.ChannelGroup, p.update, signers)
	for _, policy := range r.Policies {
		r.Enough = r.Enough && policy.Satisfied
	}
	return r, nil
}

// signingHeader is the header of a new signature of an identity.
func signingHeader(creator []byte) ([]byte, error) {
	nonce := make([]byte, 24)
	rand.Read(nonce) // never fails (crypto/rand)
	return marshal(&common.SignatureHeader{Creator: creator, Nonce: nonce})
}
