// Package requestlog keeps a department's audit log of its gateway: one line for
// every request, allowed or refused, in files of its own to which nothing but
// this package writes.
//
// A line is a JSON object in canonical form ([domain.Canonical]) with the names
// that log/slog uses. It carries its number and the SHA-256 of the line before, so
// that no line can be changed, left out or put in afterwards without changing all
// that follow; and the hash of the last line goes to the ledger from time to time
// ([Anchorer]), where nobody can take it back. [Verify] checks both.
//
// # Privacy
//
// A line names the route, never the path: no identifier, no query, no header, no
// body, no token. Who called without a credential is not named at all; a known
// caller is a role, a digest of its credential and the address it called from.
//
// # Files
//
// The files are requests-00000001.jsonl and so on. A file that has grown to its
// limit is left and the chain goes on in the next one. No byte is ever rewritten:
// what a killed process or a power cut left of a line stays, and the next start
// closes it with a line that says so and hashes it as it is. Lines are handed to
// the system within [gatherFor] and are on the disk within [syncEvery].
package requestlog

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/domain"
)

// What a line is about.
const (
	MsgRequest  = "request"
	MsgStarted  = "started"  // the gateway started
	MsgTorn     = "torn"     // the bytes before this line are no line
	MsgAnchored = "anchored" // the hash of an earlier line is on the ledger
)

// Entry is one line. Which fields it has depends on what it is about.
type Entry struct {
	Time  time.Time `json:"time"`  // UTC, whole milliseconds: when the request ended
	Level string    `json:"level"` // INFO, WARN of what was refused, ERROR of what failed
	Msg   string    `json:"msg"`
	Seq   uint64    `json:"seq"`  // from 1 on, without gaps, through all files
	Prev  string    `json:"prev"` // SHA-256 of the line before without its newline, hexadecimal; 64 zeros before the first

	TraceID    string                `json:"traceId,omitempty"`
	Method     string                `json:"method,omitempty"`
	Route      string                `json:"route,omitempty"` // template, "none" for an unknown path
	Status     int                   `json:"status,omitempty"`
	TookUs     int64                 `json:"tookUs,omitempty"`
	Department domain.DepartmentCode `json:"department,omitempty"` // of a known caller, or of the gateway that started
	Role       domain.Role           `json:"role,omitempty"`
	Via        string                `json:"via,omitempty"`        // "token", "oidc" or "mtls": how the caller is known
	Credential string                `json:"credential,omitempty"` // first 16 digits of the SHA-256 of the token or certificate
	Address    string                `json:"address,omitempty"`    // of a known caller
	Code       string                `json:"code,omitempty"`       // of the problem that was answered
	Reason     string                `json:"reason,omitempty"`     // why a credential was refused, see package identity
	TxID       domain.TxID           `json:"txId,omitempty"`       // the last transaction that the request submitted

	Torn   *int64  `json:"torn,omitempty"`   // bytes before this line that are no line, without the newline after them
	Closes string  `json:"closes,omitempty"` // hash of the last line before those
	Anchor *Anchor `json:"anchor,omitempty"`
}

// Anchor says where the hash of a line is on the ledger: the transaction is an
// evidence:Attest of the department's gateway whose nonce is the first 32 digits
// of Head.
type Anchor struct {
	Seq   uint64      `json:"seq"`  // the line
	Head  string      `json:"head"` // its hash
	TxID  domain.TxID `json:"txId"`
	Block uint64      `json:"block,omitempty"` // absent while it is not known whether the transaction was committed
}

// Nonce is what the transaction that anchors a line with this hash carries.
func Nonce(head string) string { return head[:32] }

// noHead stands before the first line.
var noHead = strings.Repeat("0", 2*sha256.Size)

// hashOf answers the hash of a line without its newline.
func hashOf(line []byte) string {
	sum := sha256.Sum256(line)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return string(digits[:])
}

// appendLine appends the canonical form of e. Most lines are of requests and of
// plain text, which is written here in a tenth of the time.
func appendLine(to []byte, e *Entry) ([]byte, error) {
	plain := e.Torn == nil && e.Closes == "" && e.Anchor == nil
	for _, s := range [...]string{
		e.Level, e.Msg, e.Prev, e.TraceID, e.Method, e.Route, string(e.Department), string(e.Role), e.Via, e.Credential, e.Address, e.Code, e.Reason, string(e.TxID),
	} {
		plain = plain && isPlain(s)
	}
	if !plain {
		raw, err := domain.Canonical(*e)
		return append(to, raw...), err
	}
	text := func(name, value string) {
		if value != "" {
			to = append(append(append(append(to, name...), '"'), value...), '"')
		}
	}
	number := func(name string, value int64) {
		if value != 0 {
			to = strconv.AppendInt(append(to, name...), value, 10)
		}
	}
	to = e.Time.AppendFormat(append(to, `{"time":"`...), time.RFC3339Nano)
	to = append(append(to, `","level":"`...), e.Level...)
	to = append(append(to, `","msg":"`...), e.Msg...)
	to = strconv.AppendUint(append(to, `","seq":`...), e.Seq, 10)
	to = append(append(append(to, `,"prev":"`...), e.Prev...), '"')
	text(`,"traceId":`, e.TraceID)
	text(`,"method":`, e.Method)
	text(`,"route":`, e.Route)
	number(`,"status":`, int64(e.Status))
	number(`,"tookUs":`, e.TookUs)
	text(`,"department":`, string(e.Department))
	text(`,"role":`, string(e.Role))
	text(`,"via":`, e.Via)
	text(`,"credential":`, e.Credential)
	text(`,"address":`, e.Address)
	text(`,"code":`, e.Code)
	text(`,"reason":`, e.Reason)
	text(`,"txId":`, string(e.TxID))
	return append(to, '}'), nil
}

// isPlain reports whether s stands in JSON as it is.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// LevelOf answers the level of a request that was answered with status.
func LevelOf(status int) string {
	switch {
	case status >= 500:
		return "ERROR"
	case status >= 400:
		return "WARN"
	}
	return "INFO"
}
