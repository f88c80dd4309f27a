// Package identity finds out who calls a department's gateway: by a signed token
// of the department's OpenID provider ([Provider]) or by a client certificate of
// the department's own authority ([Certificates]); and it keeps what identities
// are made of up to date with the files that say it ([Live]). Plain access tokens
// are package service's.
//
// Whoever is known acts for the gateway's own department in one of the roles that
// people and systems hold; the roles exclude one another.
//
// # Trust
//
// A refusal tells the caller nothing: what was wrong is a [Reason], a word for the
// department's own log.
package identity

import (
	"errors"
	"fmt"
	"slices"

	"github.com/zhenglian/zhenglian/domain"
)

// roles are the roles that people and systems hold. The role "gateway" is the
// service's own.
var roles = []domain.Role{domain.RoleAdmin, domain.RoleOperator, domain.RoleReviewer, domain.RoleAuditor}

// Reason says in one word why somebody is not known. It holds nothing of what was
// presented.
type Reason string

// The reasons.
const (
	Malformed       Reason = "malformed"        // not a token that could be judged
	Algorithm       Reason = "algorithm"        // signed in a way that is not allowed
	UnknownKey      Reason = "unknown_key"      // no such key, or another key
	Signature       Reason = "signature"        // does not verify
	WrongIssuer     Reason = "issuer"           // of another provider, or another authority
	WrongAudience   Reason = "audience"         // meant for somebody else
	Expired         Reason = "expired"          // too late, or without an end
	NotYetValid     Reason = "not_yet_valid"    // too early
	WrongDepartment Reason = "other_department" // of another department, or of none
	WrongRole       Reason = "role"             // no role, several, or one that people do not hold
	Revoked         Reason = "revoked"          // on the authority's revocation list
	Ambiguous       Reason = "ambiguous"        // several credentials at once
	UnknownToken    Reason = "unknown_token"    // an access token that the gateway does not know
	Missing         Reason = "missing"          // no credential at all
)

// Refusal says why somebody is not known. Its text is for the log.
type Refusal struct {
	Reason Reason
	Err    error // what was found, if there is more to say; nil otherwise
}

func (e *Refusal) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("identity refused (%s): %v", e.Reason, e.Err)
	}
	return fmt.Sprintf("identity refused (%s)", e.Reason)
}

// Unwrap returns what was found.
func (e *Refusal) Unwrap() error { return e.Err }

func refuse(reason Reason, err error) error { return &Refusal{Reason: reason, Err: err} }

// ErrUnavailable says that nobody can be judged now: the provider's keys are not
// known. It is no refusal.
var ErrUnavailable = errors.New("the identity provider's keys cannot be read")

// caller checks that department is own and role one that people hold.
func caller(own domain.DepartmentCode, department, role string) (domain.Role, error) {
	if department != string(own) {
		return "", refuse(WrongDepartment, nil)
	}
	if !slices.Contains(roles, domain.Role(role)) {
		return "", refuse(WrongRole, nil)
	}
	return domain.Role(role), nil
}
