package ledgeraudit

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// read reads the one spelling that a message has: no unknown field, none repeated,
// none out of order, no number longer than need be, nothing behind.
//
// Fabric 2.5.5 and later ask the same of a block's envelopes, and of nothing inside
// them (CVE-2023-46132: bytes that two blocks share were read as different
// transactions).
func read[M proto.Message](what string, data []byte, m M) (M, error) {
	if err := readAny(what, data, m); err != nil {
		return m, err
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil || !bytes.Equal(again, data) {
		return m, fmt.Errorf("%s: not in its one canonical form", what)
	}
	return m, nil
}

// readAny reads a message in any order of its fields, none of which may be
// unknown: configurations hold maps, which their writers leave unsorted.
func readAny(what string, data []byte, m proto.Message) error {
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("%s: not a message", what)
	}
	if hasUnknown(m.ProtoReflect()) {
		return fmt.Errorf("%s: an unknown field", what)
	}
	return nil
}

func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					found = hasUnknown(v.Message())
					return !found
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < value.List().Len() && !found; i++ {
				found = hasUnknown(value.List().Get(i).Message())
			}
		default:
			found = hasUnknown(value.Message())
		}
		return !found
	})
	return found
}

// headerBytes is what a block's hash is taken over and what orderers sign: the
// ASN.1 sequence of number, previous hash and data hash (fabric
// protoutil/blockutils.go).
func headerBytes(h *common.BlockHeader) []byte {
	encoded, err := asn1.Marshal(struct {
		Number       *big.Int
		PreviousHash []byte
		DataHash     []byte
	}{new(big.Int).SetUint64(h.GetNumber()), h.GetPreviousHash(), h.GetDataHash()})
	if err != nil {
		return nil // cannot be: a number and two byte strings have a form
	}
	return encoded
}

// Hash is the hash of a block: what the next one names as its previous hash.
func Hash(b *common.Block) []byte {
	sum := sha256.Sum256(headerBytes(b.GetHeader()))
	return sum[:]
}

// checkData checks that the data of a block has the hash in its header. The hash
// is over the envelopes one behind the other: only if each of them has one
// spelling does it say where one ends.
func checkData(b *common.Block) error {
	data := b.GetData().GetData()
	if len(data) == 0 {
		return errors.New("the block has no transactions")
	}
	hash := sha256.New()
	for _, envelope := range data {
		hash.Write(envelope)
	}
	if !bytes.Equal(hash.Sum(nil), b.GetHeader().GetDataHash()) {
		return errors.New("the data does not have the hash in the header")
	}
	return nil
}

// metadata returns one slot of a block's metadata, nil when it is missing.
func metadata(b *common.Block, index common.BlockMetadataIndex) []byte {
	slots := b.GetMetadata().GetMetadata()
	if int(index) >= len(slots) {
		return nil
	}
	return slots[index]
}
