package ledgertest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/ledger"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

const attestTransaction = "evidence:Attest"

// attest runs evidence:Attest for a department's gateway and has the signers'
// peers sign the answer.
func (c *Chain) attest(caller domain.Caller, args domain.AttestArgs, signers []Department) (ledger.SignedRead, error) {
	argument, err := domain.Canonical(args)
	if err != nil {
		return ledger.SignedRead{}, err
	}
	tx := c.next()
	creator := c.keys[caller.MSPID].Client
	nonce := []byte(tx.ID)[:24]
	id := sha256.Sum256(append(slices.Clone(nonce), creator.Serialized()...))
	tx.ID = domain.TxID(hex.EncodeToString(id[:])) // as Fabric derives it

	result, writes, err := c.run(proposal{Caller: caller, Transaction: attestTransaction, Argument: argument}, tx)
	if err != nil {
		return ledger.SignedRead{}, err
	}
	if len(writes) > 0 {
		return ledger.SignedRead{}, fmt.Errorf("%s writes %s: it must only read", attestTransaction, writes[0].Key)
	}
	key := domain.KeyOf(args.Kind, args.ID)
	_, found := c.state[key]
	read := prooftest.Read{
		Channel: Channel, HeaderType: 3, HeaderChaincode: Chaincode, Chaincode: Chaincode,
		Args: [][]byte{[]byte(attestTransaction), argument},
		Time: tx.Time, Nonce: nonce, Creator: creator,
		AnswerChaincode: Chaincode, Version: Version, Status: 200, Payload: result,
		Namespaces: []prooftest.Namespace{
			{Name: "_lifecycle", Reads: []prooftest.KeyRead{{Key: "namespaces/fields/" + Chaincode + "/Sequence", Found: true, Block: 1}}},
			{Name: Chaincode, Reads: []prooftest.KeyRead{{Key: key, Found: found, Block: uint64(len(c.blocks) - 1)}}},
		},
	}
	for _, d := range signers {
		read.Signers = append(read.Signers, c.keys[d.MSPID].Peer)
	}
	signed := ledger.SignedRead{Proposal: read.ProposalBytes(), Response: read.ResponseBytes()}
	for _, e := range read.Endorsements() {
		signed.Endorsements = append(signed.Endorsements, ledger.Endorsement{Endorser: e.Endorser, Signature: e.Signature})
	}
	return signed, nil
}
