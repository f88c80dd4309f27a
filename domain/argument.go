package domain

// InlineArgument is how long an argument may be, in bytes, that stands in its
// transaction. A longer one travels beside it, in Fabric's transient data under
// [TransientArgument], and [ArgumentReference] stands in its place: the records that
// the transaction writes say what it did, and departments copy, hash, encrypt and
// keep every byte of it.
const InlineArgument = 4096

// TransientArgument is the name of an argument in the transient data.
const TransientArgument = "argument"

// ArgumentReference is what stands in a transaction for an argument that travels
// beside it: no argument of a transaction has this form.
func ArgumentReference(argument []byte) []byte {
	return []byte(`{"argumentDigest":"` + Digest(argument) + `"}`)
}
