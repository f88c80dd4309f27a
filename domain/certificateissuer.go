package domain

import "time"

// AuthorisationState is the state of an authorisation to issue.
type AuthorisationState string

// The states. AuthorisationPending and AuthorisationExpired are what
// [Authorisation.StatusAt] answers for an active one outside its period; they are
// never stored.
const (
	AuthorisationActive  AuthorisationState = "active"  // 有效
	AuthorisationEnded   AuthorisationState = "ended"   // 终止
	AuthorisationPending AuthorisationState = "pending" // 未到生效日
	AuthorisationExpired AuthorisationState = "expired" // 到期
)

// Authorisation is an entry of the register of issuers 证照颁发授权: it lets a
// department issue one type of certificate, under these names, in a period.
type Authorisation struct {
	Meta
	Issuer     DepartmentCode     `json:"issuer"`
	TypeCode   string             `json:"typeCode"` // 证照类型代码
	TypeNameZh string             `json:"typeNameZh"`
	TypeNameEn string             `json:"typeNameEn"`
	Basis      string             `json:"basis"` // the law or document that gives the department this duty
	Period     Period             `json:"period"`
	State      AuthorisationState `json:"state"`
	Reason     string             `json:"reason"` // of its end; "" while active
	Seq        int                `json:"seq"`    // 1, 2, …
}

// AuthoriseArgs are the argument of certificate:Authorise.
type AuthoriseArgs struct {
	Issuer     DepartmentCode `json:"issuer"`
	TypeCode   string         `json:"typeCode"`
	TypeNameZh string         `json:"typeNameZh"`
	TypeNameEn string         `json:"typeNameEn"`
	Basis      string         `json:"basis"`
	Period     Period         `json:"period"`
}

// EndAuthorisationArgs are the argument of certificate:EndAuthorisation.
type EndAuthorisationArgs struct {
	Issuer   DepartmentCode `json:"issuer"`
	TypeCode string         `json:"typeCode"`
	Reason   string         `json:"reason"`
}

// AuthorisationArgs name an authorisation: the argument of
// certificate:GetAuthorisation.
type AuthorisationArgs struct {
	Issuer   DepartmentCode `json:"issuer"`
	TypeCode string         `json:"typeCode"`
}

// Validate reports everything that is wrong with the argument.
func (a AuthoriseArgs) Validate() error {
	var f findings
	checkAuthorisation(&f, a.Issuer, a.TypeCode)
	f.required("typeNameZh", a.TypeNameZh, MaxName)
	f.required("typeNameEn", a.TypeNameEn, MaxName)
	f.required("basis", a.Basis, MaxText)
	f.period("period", a.Period)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a EndAuthorisationArgs) Validate() error {
	var f findings
	checkAuthorisation(&f, a.Issuer, a.TypeCode)
	f.required("reason", a.Reason, MaxText)
	return f.err()
}

// Validate reports everything that is wrong with the argument.
func (a AuthorisationArgs) Validate() error {
	var f findings
	checkAuthorisation(&f, a.Issuer, a.TypeCode)
	return f.err()
}

func checkAuthorisation(f *findings, issuer DepartmentCode, typeCode string) {
	f.match("issuer", string(issuer), departmentShape, "must be 2 to 20 characters of a-z 0-9, a letter first")
	if !validTypeCode(typeCode) {
		f.add("typeCode", typeCodeRule)
	}
}

// Authorise lets a department issue a type of certificate, or changes what is
// recorded of that. issuer is the department as registered, nil when it is not;
// existing is its authorisation for the type, nil when there is none.
func Authorise(existing *Authorisation, issuer *Department, call Call, args AuthoriseArgs) (Authorisation, error) {
	if err := args.Validate(); err != nil {
		return Authorisation{}, err
	}
	a := Authorisation{
		Issuer: args.Issuer, TypeCode: args.TypeCode, TypeNameZh: args.TypeNameZh, TypeNameEn: args.TypeNameEn,
		Basis: args.Basis, Period: args.Period, Seq: 1,
	}
	if err := a.move(existing, call, "certificate:Authorise"); err != nil {
		return Authorisation{}, err
	}
	switch {
	case issuer == nil:
		return Authorisation{}, refuse(NotFound, "department %s is not registered", args.Issuer)
	case !args.Period.To.After(call.Tx.Time):
		return Authorisation{}, refuse(Invalid, "period.to: already past")
	case existing != nil && existing.says(a):
		return Authorisation{}, refuse(Exists, "%s is recorded already with this content", a.name())
	}
	return a, seal(&a, SchemaAuthorisation, call.Who, call.Tx)
}

// EndAuthorisation ends an authorisation before its period does. What was issued
// under it stays valid.
func EndAuthorisation(existing *Authorisation, call Call, args EndAuthorisationArgs) (Authorisation, error) {
	if err := args.Validate(); err != nil {
		return Authorisation{}, err
	}
	a := Authorisation{Issuer: args.Issuer, TypeCode: args.TypeCode}
	if existing != nil {
		a = *existing
	}
	if err := a.move(existing, call, "certificate:EndAuthorisation"); err != nil {
		return Authorisation{}, err
	}
	a.Reason = args.Reason
	return a, seal(&a, SchemaAuthorisation, call.Who, call.Tx)
}

// move asks the machine for the state after a transaction and numbers it.
func (a *Authorisation) move(existing *Authorisation, call Call, transaction string) error {
	from := Absent
	if existing != nil {
		from = string(existing.State)
	}
	to, err := move{
		who: call.Who, kind: KindIssuer, what: a.name(), transaction: transaction, from: from,
		acts: func(s Side) bool { return s == SideLead && call.Dept.Lead },
	}.next()
	if err != nil {
		return err
	}
	a.State = AuthorisationState(to)
	if existing == nil {
		return nil
	}
	a.Seq = existing.Seq + 1
	return notBefore(a.name(), existing.Meta, call.Tx)
}

// name is what errors call an authorisation.
func (a *Authorisation) name() string {
	return "authorisation of " + string(a.Issuer) + " for type " + a.TypeCode
}

// says reports whether an authorisation in force has the content of another.
func (a *Authorisation) says(o Authorisation) bool {
	return a.State == o.State && a.TypeNameZh == o.TypeNameZh && a.TypeNameEn == o.TypeNameEn && a.Basis == o.Basis &&
		a.Period.From.Equal(o.Period.From) && a.Period.To.Equal(o.Period.To)
}

// StatusAt is the state of the authorisation at t, as far as this record tells: an
// end counts from when it was recorded.
func (a Authorisation) StatusAt(t time.Time) AuthorisationState {
	switch {
	case a.State == AuthorisationEnded && !t.Before(a.TxTime):
		return AuthorisationEnded
	case t.Before(a.Period.From):
		return AuthorisationPending
	case !t.Before(a.Period.To):
		return AuthorisationExpired
	}
	return AuthorisationActive
}
