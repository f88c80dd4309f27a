package domain

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// OperationOf answers the identifier under which the ledger remembers what a role of a
// department did with an Idempotency-Key: the first 16 bytes of the SHA-256 of
// department, role and key, each with its length in 4 bytes, big-endian, before it. No
// other department or role meets it, and it does not tell the key, which a client may
// have taken from a case.
func OperationOf(department DepartmentCode, role Role, key string) string {
	h := sha256.New()
	for _, part := range []string{string(department), string(role), key} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // no part is that long
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
