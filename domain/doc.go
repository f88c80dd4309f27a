// Package domain holds the words and the rules of the ledger: record types and
// their limits, state machines as pure functions, codes, error kinds and the one
// canonical byte form of every record.
//
// # Purity
//
// Nothing here reads a clock, a random source, a file or the network, or keeps
// state: the same arguments give the same bytes on every peer, in a gateway and
// in an offline verifier. Time comes from the transaction ([Tx]), the caller
// from its certificate ([Caller]).
//
// # Rules
//
// A transition function such as [PublishCatalog] takes the current record (nil
// when there is none), who asks, the transaction and the argument, and returns
// the records to write or an [*Error]. Which role of which department may move a
// record from which state is listed in [Machines]; docs/states.md is generated
// from the same tables.
//
// # Validation
//
// Every argument type has a Validate method that reports all findings at once,
// in one [*Error] of kind [Invalid]: "field: rule; field: rule". A finding names
// the rule, never the value, because an error ends up in logs and in answers.
package domain
