package domain

import "time"

// Write is one state write of a transaction.
type Write struct {
	Key    string `json:"key"` // see [KeyOf]; a composite key, which this chaincode never writes, as "type~part~part"
	Value  []byte `json:"value"`
	Delete bool   `json:"delete"`
}

// Transaction is one decoded transaction of a block.
type Transaction struct {
	ID             TxID      `json:"id"`
	Type           string    `json:"type"`           // "endorser", "config" or the number of another Fabric header type
	Creator        MSPID     `json:"creator"`        // submitter's MSP; the certificate is not repeated
	Time           time.Time `json:"time"`           // the client's, from the channel header
	Chaincode      string    `json:"chaincode"`      // "" for a config transaction
	Contract       string    `json:"contract"`       // "certificate" of "certificate:Issue"
	Name           string    `json:"name"`           // "Issue" of "certificate:Issue"
	Arguments      []string  `json:"arguments"`      // as submitted, without the transaction name
	Writes         []Write   `json:"writes"`         // to the chaincode's own namespace, in order
	Endorsers      []MSPID   `json:"endorsers"`      // sorted
	ValidationCode string    `json:"validationCode"` // "VALID", "MVCC_READ_CONFLICT", …
}

// Valid reports whether the transaction changed the state.
func (t *Transaction) Valid() bool { return t.ValidationCode == "VALID" }

// Block is one decoded block of the channel.
type Block struct {
	Number       uint64        `json:"number"`
	Hash         string        `json:"hash"`         // SHA-256 of the ASN.1 header, hexadecimal
	PreviousHash string        `json:"previousHash"` // hexadecimal
	DataHash     string        `json:"dataHash"`     // hexadecimal
	Signers      []MSPID       `json:"signers"`      // orderers' departments that signed, sorted; unverified here
	Transactions []Transaction `json:"transactions"`
}

// Position says where on the ledger a record was written.
type Position struct {
	Block uint64 `json:"block"`
	TxID  TxID   `json:"txId"`
}
