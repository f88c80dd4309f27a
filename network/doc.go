// Package network is the consortium as code: it turns one definition file into
// department keys, node configuration, a channel and a supervised set of processes, and
// says what state they are in.
//
// # What it trusts
//
// The definition file and the state folder. Everything secret is in the state folder,
// in files that only their owner can read.
//
// # One binary
//
// It administers the consortium with fabric-sdk-go, whose generation of Fabric's
// protobuf packages cannot be linked together with the one the rest of the project
// uses. Only cmd/zhenglian-network may import this package.
package network
