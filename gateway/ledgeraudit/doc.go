// Package ledgeraudit checks a department's copy of the ledger block by block,
// and compares it with the copies of the others.
//
// # Trust
//
// It trusts the hash of the channel's first block, which the auditor has pinned,
// and nothing that a peer says. From there each block must follow: the link to the
// one before, the data under the hash, the signatures of a quorum of the orderers
// that the configuration in force names, every transaction well formed and under
// its own identifier. What peers recorded as valid must be signed by its creator
// and by as many departments as the endorsement rule asks for.
//
// # What it cannot see
//
// No orderer signs the validation codes, so that a peer may lie about them in its
// own copy. Three things are compared instead: what can be computed again, the
// codes and commit hashes of the other departments, and signed reads of single
// codes. Whether a transaction read stale values, bears an identifier for the
// second time, or lacks an endorsement that a single key demands, is not computed
// again.
package ledgeraudit

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
)

// Rule names what a block or transaction breaks.
type Rule string

// The rules. The first group ends an audit: what follows a block that breaks one of
// them hangs in the air.
const (
	RuleGenesis       Rule = "genesis"       // the first block is the pinned one
	RuleNumber        Rule = "number"        // blocks are numbered without gaps
	RuleLink          Rule = "link"          // the header names the hash of the block before
	RuleData          Rule = "data"          // the data has the hash in the header
	RuleQuorum        Rule = "quorum"        // enough orderers signed
	RuleConfiguration Rule = "configuration" // a configuration can be read and is the next one

	RuleSignature      Rule = "signature"       // every orderer's signature holds, each orderer signed once
	RuleMetadata       Rule = "metadata"        // the block's metadata is canonical and names the configuration in force
	RuleEnvelope       Rule = "envelope"        // a transaction has one spelling, no unknown and no repeated field
	RuleTransaction    Rule = "transaction"     // its parts belong together: channel, identifier, proposal, chaincode
	RuleCreator        Rule = "creator"         // it is signed by a member of the channel
	RuleEndorsement    Rule = "endorsement"     // enough departments' peers endorsed it
	RuleValidationCode Rule = "validation_code" // the code recorded follows from the transaction, or departments sign it
	RuleFork           Rule = "fork"            // two departments hold different blocks under one number
	RuleState          Rule = "state"           // two departments hold the same blocks and different results
	RuleTrust          Rule = "trust"           // the configuration names the departments and authorities of the trust file
)

// ends are the rules whose breach ends an audit.
var ends = map[Rule]bool{
	RuleGenesis: true, RuleNumber: true, RuleLink: true, RuleData: true, RuleQuorum: true, RuleConfiguration: true,
}

// Finding is a rule that something breaks.
type Finding struct {
	Block       uint64 `json:"block"`
	Transaction int    `json:"transaction"` // its place in the block; -1 for the block itself
	Rule        Rule   `json:"rule"`
	Text        string `json:"text"` // one line; quotes nothing that is not shown to be signed but names and numbers
}

// String is the finding in one line.
func (f Finding) String() string {
	if f.Transaction < 0 {
		return fmt.Sprintf("block %d: %s: %s", f.Block, f.Rule, f.Text)
	}
	return fmt.Sprintf("block %d transaction %d: %s: %s", f.Block, f.Transaction, f.Rule, f.Text)
}

// blockNumber is the number in a header that may be missing.
func blockNumber(b *common.Block) uint64 { return b.GetHeader().GetNumber() }
