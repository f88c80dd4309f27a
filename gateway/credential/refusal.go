package credential

import (
	"fmt"

	"github.com/zhenglian/zhenglian/domain"
)

// Rule is the rule that a credential breaks.
type Rule string

// The rules. The strings are part of the interface: never rename one, only add.
const (
	RuleSize         Rule = "size"                    // at most MaxBytes
	RuleForm         Rule = "form"                    // JWT~disclosure~…~
	RuleKeyBinding   Rule = "key_binding"             // nothing behind the last ~
	RuleEncoding     Rule = "encoding"                // base64url in its one spelling
	RuleJSON         Rule = "json"                    // JSON without duplicate names, not too deep
	RuleHeader       Rule = "header"                  // alg, typ and x5c, nothing else
	RuleAlgorithm    Rule = "algorithm"               // ES256
	RuleType         Rule = "type"                    // dc+sd-jwt and the form's vct
	RuleCertificate  Rule = "certificate"             // one certificate for issuing, in force at the issue
	RuleIssuer       Rule = "issuer"                  // a department of the trust anchors, whose CA certified the key
	RuleSignature    Rule = "signature"               // holds, and is the one of its two spellings that counts
	RuleClaims       Rule = "claims"                  // exactly the form's claims, each in its shape
	RuleHash         Rule = "hash_algorithm"          // sha-256
	RuleDigest       Rule = "digest"                  // 256 bits in base64url
	RuleDuplicate    Rule = "duplicate_digest"        // no digest twice
	RuleTwice        Rule = "duplicate_disclosure"    // no disclosure twice
	RuleUnreferenced Rule = "unreferenced_disclosure" // every disclosure belongs to a digest
	RuleDisclosure   Rule = "disclosure"              // [salt, value] in arrays, [salt, name, value] in objects
	RuleReserved     Rule = "reserved_name"           // no claim called _sd or ...
	RuleNameTaken    Rule = "name_taken"              // no disclosure of a claim that is there
	RuleSalt         Rule = "salt"                    // at least 128 bits
	RuleItem         Rule = "item"                    // a name and a value, in their shape, no name twice
	RuleOrder        Rule = "order"                   // disclosures in the order of their digests
	RuleNotYetValid  Rule = "not_yet_valid"           // the validity has begun
	RuleExpired      Rule = "expired"                 // the validity has not ended
)

// Rules lists every rule, so that tests and texts can be held against it.
var Rules = []Rule{
	RuleSize, RuleForm, RuleKeyBinding, RuleEncoding, RuleJSON, RuleHeader, RuleAlgorithm, RuleType, RuleCertificate,
	RuleIssuer, RuleSignature, RuleClaims, RuleHash, RuleDigest, RuleDuplicate, RuleTwice, RuleUnreferenced,
	RuleDisclosure, RuleReserved, RuleNameTaken, RuleSalt, RuleItem, RuleOrder, RuleNotYetValid, RuleExpired,
}

// RefusalError says why a credential is refused. It is a [domain.Error] of kind
// [domain.Invalid] to those who ask for one.
type RefusalError struct {
	Rule Rule
	Msg  string // for people; quotes nothing of the credential
}

func (e *RefusalError) Error() string { return "credential refused: " + string(e.Rule) + ": " + e.Msg }

// Unwrap answers the refusal as a [domain.Error].
func (e *RefusalError) Unwrap() error {
	return &domain.Error{Kind: domain.Invalid, Msg: string(e.Rule) + ": " + e.Msg}
}

func refuse(rule Rule, format string, args ...any) error {
	return &RefusalError{Rule: rule, Msg: fmt.Sprintf(format, args...)}
}
