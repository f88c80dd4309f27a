package domain

import (
	"fmt"
	"slices"
	"strings"
)

// Side says which department may act on a record.
type Side string

// The sides. The owner of a record is the department that created it: the
// provider of a catalog entry, the issuer of a certificate, the owner of a log.
const (
	SideFounder  Side = "founder"  // the first department, which registers itself as the lead
	SideLead     Side = "lead"     // 主管部门
	SideAny      Side = "any"      // every registered department; it becomes the owner
	SideOwner    Side = "owner"    // the department that the record belongs to
	SideProvider Side = "provider" // 提供部门 of the resource asked for
	SideConsumer Side = "consumer" // 需求部门: every department but the provider
	SidePeer     Side = "peer"     // any other department, in the lead's own matters
)

// Absent is the state of a record that does not exist yet.
const Absent = ""

// Transition is one permitted move of a record.
type Transition struct {
	Transaction string // "catalog:Review"
	Event       string // what tells moves of one transaction apart; "" when there is one
	From, To    string // [Absent] or a stored state
	Role        Role
	Side        Side
}

// Machine is the state machine of one kind of record: whatever is not listed is
// refused.
type Machine struct {
	Kind        RecordKind
	Transitions []Transition
}

// stateRegistered is the one state of records that only exist.
const stateRegistered = "registered"

// Machines returns the state machines of all records that change, as the
// transition functions run them. It is the one list: do not change it.
func Machines() []Machine { return machines }

var machines = []Machine{
	{KindDepartment, []Transition{
		{"governance:RegisterDepartment", "found", Absent, stateRegistered, RoleAdmin, SideFounder},
		{"governance:RegisterDepartment", "admit", Absent, stateRegistered, RoleAdmin, SideLead},
	}},
	{KindCalendar, []Transition{
		{"governance:SetCalendar", "", Absent, stateRegistered, RoleAdmin, SideLead},
		{"governance:SetCalendar", "", stateRegistered, stateRegistered, RoleAdmin, SideLead},
	}},
	{KindRule, []Transition{
		{"governance:SetRule", "", Absent, stateRegistered, RoleAdmin, SideLead},
		{"governance:SetRule", "", stateRegistered, stateRegistered, RoleAdmin, SideLead},
	}},
	{KindCatalogEntry, []Transition{
		{"catalog:Register", "draft", Absent, string(CatalogDraft), RoleOperator, SideAny},
		{"catalog:Register", "draft", string(CatalogDraft), string(CatalogDraft), RoleOperator, SideOwner},
		{"catalog:Register", "draft", string(CatalogRegRejected), string(CatalogDraft), RoleOperator, SideOwner},
		{"catalog:Register", "submit", Absent, string(CatalogRegPending), RoleOperator, SideAny},
		{"catalog:Register", "submit", string(CatalogDraft), string(CatalogRegPending), RoleOperator, SideOwner},
		{"catalog:Register", "submit", string(CatalogRegRejected), string(CatalogRegPending), RoleOperator, SideOwner},
		{"catalog:Register", "submit", string(CatalogPubRejected), string(CatalogRegPending), RoleOperator, SideOwner},
		{"catalog:Submit", "", string(CatalogDraft), string(CatalogRegPending), RoleOperator, SideOwner},
		{"catalog:Publish", "", string(CatalogRegistered), string(CatalogPubPending), RoleOperator, SideOwner},
		{"catalog:Publish", "", string(CatalogPubRejected), string(CatalogPubPending), RoleOperator, SideOwner},
		{"catalog:Publish", "", string(CatalogOffline), string(CatalogPubPending), RoleOperator, SideOwner},
		{"catalog:Change", "", string(CatalogPublished), string(CatalogChangePending), RoleOperator, SideOwner},
		{"catalog:Retire", "offline", string(CatalogPublished), string(CatalogOfflinePending), RoleOperator, SideOwner},
		{"catalog:Retire", "retire", string(CatalogDraft), string(CatalogRetired), RoleOperator, SideOwner},
		{"catalog:Retire", "retire", string(CatalogRegRejected), string(CatalogRetired), RoleOperator, SideOwner},
		{"catalog:Retire", "retire", string(CatalogRegistered), string(CatalogRetired), RoleOperator, SideOwner},
		{"catalog:Retire", "retire", string(CatalogPubRejected), string(CatalogRetired), RoleOperator, SideOwner},
		{"catalog:Retire", "retire", string(CatalogOffline), string(CatalogRetired), RoleOperator, SideOwner},
		{"catalog:Review", string(Approve), string(CatalogRegPending), string(CatalogRegistered), RoleReviewer, SideLead},
		{"catalog:Review", string(Return), string(CatalogRegPending), string(CatalogRegRejected), RoleReviewer, SideLead},
		{"catalog:Review", string(Approve), string(CatalogRegPending), string(CatalogRegistered), RoleReviewer, SidePeer},
		{"catalog:Review", string(Return), string(CatalogRegPending), string(CatalogRegRejected), RoleReviewer, SidePeer},
		{"catalog:Review", string(Approve), string(CatalogPubPending), string(CatalogPublished), RoleReviewer, SideLead},
		{"catalog:Review", string(Return), string(CatalogPubPending), string(CatalogPubRejected), RoleReviewer, SideLead},
		{"catalog:Review", string(Approve), string(CatalogPubPending), string(CatalogPublished), RoleReviewer, SidePeer},
		{"catalog:Review", string(Return), string(CatalogPubPending), string(CatalogPubRejected), RoleReviewer, SidePeer},
		{"catalog:Review", string(Approve), string(CatalogChangePending), string(CatalogPublished), RoleReviewer, SideLead},
		{"catalog:Review", string(Return), string(CatalogChangePending), string(CatalogPublished), RoleReviewer, SideLead},
		{"catalog:Review", string(Approve), string(CatalogChangePending), string(CatalogPublished), RoleReviewer, SidePeer},
		{"catalog:Review", string(Return), string(CatalogChangePending), string(CatalogPublished), RoleReviewer, SidePeer},
		{"catalog:Review", string(Approve), string(CatalogOfflinePending), string(CatalogOffline), RoleReviewer, SideLead},
		{"catalog:Review", string(Return), string(CatalogOfflinePending), string(CatalogPublished), RoleReviewer, SideLead},
		{"catalog:Review", string(Approve), string(CatalogOfflinePending), string(CatalogOffline), RoleReviewer, SidePeer},
		{"catalog:Review", string(Return), string(CatalogOfflinePending), string(CatalogPublished), RoleReviewer, SidePeer},
		{"catalog:RequireUpdate", "report", string(CatalogPublished), string(CatalogPublished), RoleOperator, SideOwner},
		{"catalog:RequireUpdate", "find", string(CatalogPublished), string(CatalogPublished), RoleReviewer, SideLead},
		{"catalog:MarkOverdue", "", string(CatalogRegPending), string(CatalogRegPending), RoleOperator, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogRegPending), string(CatalogRegPending), RoleReviewer, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogRegPending), string(CatalogRegPending), RoleGateway, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogPubPending), string(CatalogPubPending), RoleOperator, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogPubPending), string(CatalogPubPending), RoleReviewer, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogPubPending), string(CatalogPubPending), RoleGateway, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogChangePending), string(CatalogChangePending), RoleOperator, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogChangePending), string(CatalogChangePending), RoleReviewer, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogChangePending), string(CatalogChangePending), RoleGateway, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogOfflinePending), string(CatalogOfflinePending), RoleOperator, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogOfflinePending), string(CatalogOfflinePending), RoleReviewer, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogOfflinePending), string(CatalogOfflinePending), RoleGateway, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogPublished), string(CatalogPublished), RoleOperator, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogPublished), string(CatalogPublished), RoleReviewer, SideAny},
		{"catalog:MarkOverdue", "", string(CatalogPublished), string(CatalogPublished), RoleGateway, SideAny},
	}},
	{KindRequest, []Transition{
		{"sharing:Request", "", Absent, string(RequestSubmitted), RoleOperator, SideConsumer},
		{"sharing:Accept", "accept", string(RequestSubmitted), string(RequestAccepted), RoleReviewer, SideLead},
		{"sharing:Accept", "grant", string(RequestSubmitted), string(RequestAgreed), RoleReviewer, SideLead},
		{"sharing:Accept", "return", string(RequestSubmitted), string(RequestReturned), RoleReviewer, SideLead},
		{"sharing:Accept", "accept", string(RequestSubmitted), string(RequestAccepted), RoleReviewer, SidePeer},
		{"sharing:Accept", "grant", string(RequestSubmitted), string(RequestAgreed), RoleReviewer, SidePeer},
		{"sharing:Accept", "return", string(RequestSubmitted), string(RequestReturned), RoleReviewer, SidePeer},
		{"sharing:Supplement", "", string(RequestReturned), string(RequestSubmitted), RoleOperator, SideConsumer},
		{"sharing:Answer", "agree", string(RequestAccepted), string(RequestAgreed), RoleReviewer, SideProvider},
		{"sharing:Answer", "partly", string(RequestAccepted), string(RequestPartlyAgreed), RoleReviewer, SideProvider},
		{"sharing:Answer", "refuse", string(RequestAccepted), string(RequestRefused), RoleReviewer, SideProvider},
		{"sharing:Answer", "agree", string(RequestExtended), string(RequestAgreed), RoleReviewer, SideProvider},
		{"sharing:Answer", "partly", string(RequestExtended), string(RequestPartlyAgreed), RoleReviewer, SideProvider},
		{"sharing:Answer", "refuse", string(RequestExtended), string(RequestRefused), RoleReviewer, SideProvider},
		{"sharing:Answer", "agree", string(RequestMediated), string(RequestAgreed), RoleReviewer, SideProvider},
		{"sharing:Answer", "partly", string(RequestMediated), string(RequestPartlyAgreed), RoleReviewer, SideProvider},
		{"sharing:Answer", "refuse", string(RequestMediated), string(RequestRefused), RoleReviewer, SideProvider},
		{"sharing:Extend", "ask", string(RequestAccepted), string(RequestAccepted), RoleReviewer, SideProvider},
		{"sharing:Extend", "extend", string(RequestAccepted), string(RequestExtended), RoleReviewer, SideProvider},
		{"sharing:DecideExtension", "grant", string(RequestAccepted), string(RequestExtended), RoleReviewer, SideLead},
		{"sharing:DecideExtension", "deny", string(RequestAccepted), string(RequestAccepted), RoleReviewer, SideLead},
		{"sharing:DecideExtension", "grant", string(RequestAccepted), string(RequestExtended), RoleReviewer, SidePeer},
		{"sharing:DecideExtension", "deny", string(RequestAccepted), string(RequestAccepted), RoleReviewer, SidePeer},
		{"sharing:Extend", "ask", string(RequestExtended), string(RequestExtended), RoleReviewer, SideProvider},
		{"sharing:Extend", "extend", string(RequestExtended), string(RequestExtended), RoleReviewer, SideProvider},
		{"sharing:DecideExtension", "grant", string(RequestExtended), string(RequestExtended), RoleReviewer, SideLead},
		{"sharing:DecideExtension", "deny", string(RequestExtended), string(RequestExtended), RoleReviewer, SideLead},
		{"sharing:DecideExtension", "grant", string(RequestExtended), string(RequestExtended), RoleReviewer, SidePeer},
		{"sharing:DecideExtension", "deny", string(RequestExtended), string(RequestExtended), RoleReviewer, SidePeer},
		{"sharing:Extend", "ask", string(RequestMediated), string(RequestMediated), RoleReviewer, SideProvider},
		{"sharing:Extend", "extend", string(RequestMediated), string(RequestExtended), RoleReviewer, SideProvider},
		{"sharing:DecideExtension", "grant", string(RequestMediated), string(RequestExtended), RoleReviewer, SideLead},
		{"sharing:DecideExtension", "deny", string(RequestMediated), string(RequestMediated), RoleReviewer, SideLead},
		{"sharing:DecideExtension", "grant", string(RequestMediated), string(RequestExtended), RoleReviewer, SidePeer},
		{"sharing:DecideExtension", "deny", string(RequestMediated), string(RequestMediated), RoleReviewer, SidePeer},
		{"sharing:Dispute", "", string(RequestRefused), string(RequestDisputed), RoleOperator, SideConsumer},
		{"sharing:Dispute", "", string(RequestAccepted), string(RequestDisputed), RoleOperator, SideConsumer},
		{"sharing:Dispute", "", string(RequestExtended), string(RequestDisputed), RoleOperator, SideConsumer},
		{"sharing:Dispute", "", string(RequestMediated), string(RequestDisputed), RoleOperator, SideConsumer},
		{"sharing:Mediate", "uphold", string(RequestDisputed), string(RequestClosed), RoleReviewer, SideLead},
		{"sharing:Mediate", "remand", string(RequestDisputed), string(RequestMediated), RoleReviewer, SideLead},
		{"sharing:Mediate", "uphold", string(RequestDisputed), string(RequestClosed), RoleReviewer, SidePeer},
		{"sharing:Mediate", "remand", string(RequestDisputed), string(RequestMediated), RoleReviewer, SidePeer},
		{"sharing:Deliver", "", string(RequestAgreed), string(RequestDelivered), RoleOperator, SideProvider},
		{"sharing:Deliver", "", string(RequestPartlyAgreed), string(RequestDelivered), RoleOperator, SideProvider},
		{"sharing:Confirm", "confirm", string(RequestDelivered), string(RequestActive), RoleOperator, SideConsumer},
		{"sharing:Confirm", "reject", string(RequestDelivered), string(RequestAgreed), RoleOperator, SideConsumer},
		{"sharing:Withdraw", "", string(RequestSubmitted), string(RequestWithdrawn), RoleOperator, SideConsumer},
		{"sharing:Withdraw", "", string(RequestReturned), string(RequestWithdrawn), RoleOperator, SideConsumer},
		{"sharing:Withdraw", "", string(RequestAccepted), string(RequestWithdrawn), RoleOperator, SideConsumer},
		{"sharing:Withdraw", "", string(RequestExtended), string(RequestWithdrawn), RoleOperator, SideConsumer},
		{"sharing:Withdraw", "", string(RequestDisputed), string(RequestWithdrawn), RoleOperator, SideConsumer},
		{"sharing:Withdraw", "", string(RequestMediated), string(RequestWithdrawn), RoleOperator, SideConsumer},
		{"sharing:Close", "", string(RequestActive), string(RequestClosed), RoleOperator, SideConsumer},
		{"sharing:Close", "", string(RequestRefused), string(RequestClosed), RoleOperator, SideConsumer},
		{"sharing:MarkOverdue", "", string(RequestSubmitted), string(RequestSubmitted), RoleOperator, SideAny},
		{"sharing:MarkOverdue", "", string(RequestSubmitted), string(RequestSubmitted), RoleReviewer, SideAny},
		{"sharing:MarkOverdue", "", string(RequestSubmitted), string(RequestSubmitted), RoleGateway, SideAny},
		{"sharing:MarkOverdue", "", string(RequestAccepted), string(RequestAccepted), RoleOperator, SideAny},
		{"sharing:MarkOverdue", "", string(RequestAccepted), string(RequestAccepted), RoleReviewer, SideAny},
		{"sharing:MarkOverdue", "", string(RequestAccepted), string(RequestAccepted), RoleGateway, SideAny},
		{"sharing:MarkOverdue", "", string(RequestExtended), string(RequestExtended), RoleOperator, SideAny},
		{"sharing:MarkOverdue", "", string(RequestExtended), string(RequestExtended), RoleReviewer, SideAny},
		{"sharing:MarkOverdue", "", string(RequestExtended), string(RequestExtended), RoleGateway, SideAny},
		{"sharing:MarkOverdue", "", string(RequestMediated), string(RequestMediated), RoleOperator, SideAny},
		{"sharing:MarkOverdue", "", string(RequestMediated), string(RequestMediated), RoleReviewer, SideAny},
		{"sharing:MarkOverdue", "", string(RequestMediated), string(RequestMediated), RoleGateway, SideAny},
		{"sharing:MarkOverdue", "", string(RequestAgreed), string(RequestAgreed), RoleOperator, SideAny},
		{"sharing:MarkOverdue", "", string(RequestAgreed), string(RequestAgreed), RoleReviewer, SideAny},
		{"sharing:MarkOverdue", "", string(RequestAgreed), string(RequestAgreed), RoleGateway, SideAny},
		{"sharing:MarkOverdue", "", string(RequestPartlyAgreed), string(RequestPartlyAgreed), RoleOperator, SideAny},
		{"sharing:MarkOverdue", "", string(RequestPartlyAgreed), string(RequestPartlyAgreed), RoleReviewer, SideAny},
		{"sharing:MarkOverdue", "", string(RequestPartlyAgreed), string(RequestPartlyAgreed), RoleGateway, SideAny},
		{"sharing:MarkOverdue", "", string(RequestDelivered), string(RequestDelivered), RoleOperator, SideAny},
		{"sharing:MarkOverdue", "", string(RequestDelivered), string(RequestDelivered), RoleReviewer, SideAny},
		{"sharing:MarkOverdue", "", string(RequestDelivered), string(RequestDelivered), RoleGateway, SideAny},
		{"sharing:MarkOverdue", "", string(RequestDisputed), string(RequestDisputed), RoleOperator, SideAny},
		{"sharing:MarkOverdue", "", string(RequestDisputed), string(RequestDisputed), RoleReviewer, SideAny},
		{"sharing:MarkOverdue", "", string(RequestDisputed), string(RequestDisputed), RoleGateway, SideAny},
	}},
	{KindGrant, []Transition{
		{"sharing:Accept", "grant", Absent, string(GrantActive), RoleReviewer, SideLead},
		{"sharing:Accept", "grant", Absent, string(GrantActive), RoleReviewer, SidePeer},
		{"sharing:Answer", "agree", Absent, string(GrantActive), RoleReviewer, SideProvider},
		{"sharing:Answer", "partly", Absent, string(GrantActive), RoleReviewer, SideProvider},
		{"sharing:Suspend", "", string(GrantActive), string(GrantSuspended), RoleReviewer, SideProvider},
		{"sharing:Resume", "", string(GrantSuspended), string(GrantActive), RoleReviewer, SideProvider},
		{"sharing:Revoke", "", string(GrantActive), string(GrantRevoked), RoleReviewer, SideProvider},
		{"sharing:Revoke", "", string(GrantSuspended), string(GrantRevoked), RoleReviewer, SideProvider},
		{"sharing:Suspend", "", string(GrantActive), string(GrantSuspended), RoleReviewer, SideLead},
		{"sharing:Resume", "", string(GrantSuspended), string(GrantActive), RoleReviewer, SideLead},
		{"sharing:Revoke", "", string(GrantActive), string(GrantRevoked), RoleReviewer, SideLead},
		{"sharing:Revoke", "", string(GrantSuspended), string(GrantRevoked), RoleReviewer, SideLead},
	}},
	{KindLog, []Transition{
		{"access:RegisterLog", "", Absent, stateRegistered, RoleAdmin, SideAny},
		{"access:Anchor", "", stateRegistered, stateRegistered, RoleGateway, SideOwner},
	}},
	{KindAlarm, []Transition{
		{"access:RaiseAlarm", "", Absent, string(AlarmOpen), RoleGateway, SideAny},
		{"access:RaiseAlarm", "", Absent, string(AlarmOpen), RoleAuditor, SideAny},
		{"access:CloseAlarm", "", string(AlarmOpen), string(AlarmClosed), RoleReviewer, SideLead},
		{"access:CloseAlarm", "", string(AlarmOpen), string(AlarmClosed), RoleReviewer, SidePeer},
	}},
	{KindIssuer, []Transition{
		{"certificate:Authorise", "", Absent, string(AuthorisationActive), RoleAdmin, SideLead},
		{"certificate:Authorise", "", string(AuthorisationActive), string(AuthorisationActive), RoleAdmin, SideLead},
		{"certificate:Authorise", "", string(AuthorisationEnded), string(AuthorisationActive), RoleAdmin, SideLead},
		{"certificate:EndAuthorisation", "", string(AuthorisationActive), string(AuthorisationEnded), RoleAdmin, SideLead},
	}},
	{KindCertificate, []Transition{
		{"certificate:Issue", "", Absent, string(CertificateProposed), RoleOperator, SideAny},
		{"certificate:Propose", string(SuspendCertificate), string(CertificateValid), string(CertificateValid), RoleOperator, SideOwner},
		{"certificate:Propose", string(RestoreCertificate), string(CertificateSuspended), string(CertificateSuspended), RoleOperator, SideOwner},
		{"certificate:Propose", string(RevokeCertificate), string(CertificateValid), string(CertificateValid), RoleOperator, SideOwner},
		{"certificate:Propose", string(RevokeCertificate), string(CertificateSuspended), string(CertificateSuspended), RoleOperator, SideOwner},
		{"certificate:Propose", string(WithdrawCertificate), string(CertificateValid), string(CertificateValid), RoleOperator, SideOwner},
		{"certificate:Propose", string(WithdrawCertificate), string(CertificateSuspended), string(CertificateSuspended), RoleOperator, SideOwner},
		{"certificate:Propose", string(CancelCertificate), string(CertificateValid), string(CertificateValid), RoleOperator, SideOwner},
		{"certificate:Propose", string(ObjectCertificate), string(CertificateValid), string(CertificateValid), RoleOperator, SideOwner},
		{"certificate:Propose", string(ObjectCertificate), string(CertificateSuspended), string(CertificateSuspended), RoleOperator, SideOwner},
		{"certificate:Propose", string(ObjectCertificate), string(CertificateSuperseded), string(CertificateSuperseded), RoleOperator, SideOwner},
		{"certificate:Propose", string(ObjectCertificate), string(CertificateRevoked), string(CertificateRevoked), RoleOperator, SideOwner},
		{"certificate:Propose", string(ObjectCertificate), string(CertificateWithdrawn), string(CertificateWithdrawn), RoleOperator, SideOwner},
		{"certificate:Propose", string(ObjectCertificate), string(CertificateCancelled), string(CertificateCancelled), RoleOperator, SideOwner},
		{"certificate:Propose", string(SettleCertificate), string(CertificateValid), string(CertificateValid), RoleOperator, SideOwner},
		{"certificate:Propose", string(SettleCertificate), string(CertificateSuspended), string(CertificateSuspended), RoleOperator, SideOwner},
		{"certificate:Propose", string(SettleCertificate), string(CertificateSuperseded), string(CertificateSuperseded), RoleOperator, SideOwner},
		{"certificate:Propose", string(SettleCertificate), string(CertificateRevoked), string(CertificateRevoked), RoleOperator, SideOwner},
		{"certificate:Propose", string(SettleCertificate), string(CertificateWithdrawn), string(CertificateWithdrawn), RoleOperator, SideOwner},
		{"certificate:Propose", string(SettleCertificate), string(CertificateCancelled), string(CertificateCancelled), RoleOperator, SideOwner},
		{"certificate:Decide", eventIssue, string(CertificateProposed), string(CertificateValid), RoleReviewer, SideOwner},
		{"certificate:Decide", eventRefuse, string(CertificateProposed), string(CertificateRejected), RoleReviewer, SideOwner},
		{"certificate:Decide", eventKeep, string(CertificateValid), string(CertificateValid), RoleReviewer, SideOwner},
		{"certificate:Decide", eventKeep, string(CertificateSuspended), string(CertificateSuspended), RoleReviewer, SideOwner},
		{"certificate:Decide", eventKeep, string(CertificateSuperseded), string(CertificateSuperseded), RoleReviewer, SideOwner},
		{"certificate:Decide", eventKeep, string(CertificateRevoked), string(CertificateRevoked), RoleReviewer, SideOwner},
		{"certificate:Decide", eventKeep, string(CertificateWithdrawn), string(CertificateWithdrawn), RoleReviewer, SideOwner},
		{"certificate:Decide", eventKeep, string(CertificateCancelled), string(CertificateCancelled), RoleReviewer, SideOwner},
		{"certificate:Decide", eventSupersede, string(CertificateValid), string(CertificateSuperseded), RoleReviewer, SideOwner},
		{"certificate:Decide", string(SuspendCertificate), string(CertificateValid), string(CertificateSuspended), RoleReviewer, SideOwner},
		{"certificate:Decide", string(RestoreCertificate), string(CertificateSuspended), string(CertificateValid), RoleReviewer, SideOwner},
		{"certificate:Decide", string(RevokeCertificate), string(CertificateValid), string(CertificateRevoked), RoleReviewer, SideOwner},
		{"certificate:Decide", string(RevokeCertificate), string(CertificateSuspended), string(CertificateRevoked), RoleReviewer, SideOwner},
		{"certificate:Decide", string(WithdrawCertificate), string(CertificateValid), string(CertificateWithdrawn), RoleReviewer, SideOwner},
		{"certificate:Decide", string(WithdrawCertificate), string(CertificateSuspended), string(CertificateWithdrawn), RoleReviewer, SideOwner},
		{"certificate:Decide", string(CancelCertificate), string(CertificateValid), string(CertificateCancelled), RoleReviewer, SideOwner},
		{"certificate:Decide", string(ObjectCertificate), string(CertificateValid), string(CertificateValid), RoleReviewer, SideOwner},
		{"certificate:Decide", string(ObjectCertificate), string(CertificateSuspended), string(CertificateSuspended), RoleReviewer, SideOwner},
		{"certificate:Decide", string(ObjectCertificate), string(CertificateSuperseded), string(CertificateSuperseded), RoleReviewer, SideOwner},
		{"certificate:Decide", string(ObjectCertificate), string(CertificateRevoked), string(CertificateRevoked), RoleReviewer, SideOwner},
		{"certificate:Decide", string(ObjectCertificate), string(CertificateWithdrawn), string(CertificateWithdrawn), RoleReviewer, SideOwner},
		{"certificate:Decide", string(ObjectCertificate), string(CertificateCancelled), string(CertificateCancelled), RoleReviewer, SideOwner},
		{"certificate:Decide", string(SettleCertificate), string(CertificateValid), string(CertificateValid), RoleReviewer, SideOwner},
		{"certificate:Decide", string(SettleCertificate), string(CertificateSuspended), string(CertificateSuspended), RoleReviewer, SideOwner},
		{"certificate:Decide", string(SettleCertificate), string(CertificateSuperseded), string(CertificateSuperseded), RoleReviewer, SideOwner},
		{"certificate:Decide", string(SettleCertificate), string(CertificateRevoked), string(CertificateRevoked), RoleReviewer, SideOwner},
		{"certificate:Decide", string(SettleCertificate), string(CertificateWithdrawn), string(CertificateWithdrawn), RoleReviewer, SideOwner},
		{"certificate:Decide", string(SettleCertificate), string(CertificateCancelled), string(CertificateCancelled), RoleReviewer, SideOwner},
	}},
}

// move is an attempt to move a record.
type move struct {
	who         Caller
	kind        RecordKind
	what        string // names the record in errors, for example "catalog entry 307003/000017"
	transaction string
	event       string
	from        string            // current state, Absent when there is no record
	acts        func(s Side) bool // whether the caller acts for the side
}

// next returns the state after m, or why m is refused: [Forbidden] for the role,
// then [NotFound] or [Exists] for the record, [Forbidden] for the side, and at
// last [WrongState] for the state.
func (m move) next() (string, error) {
	var rows []Transition
	for _, machine := range Machines() {
		if machine.Kind != m.kind {
			continue
		}
		for _, t := range machine.Transitions {
			if t.Transaction == m.transaction && t.Event == m.event {
				rows = append(rows, t)
			}
		}
	}
	if len(rows) == 0 {
		return "", refuse(Invalid, "%s: no event %q", m.transaction, m.event)
	}
	if !slices.ContainsFunc(rows, func(t Transition) bool { return t.Role == m.who.Role }) {
		return "", refuse(Forbidden, "%s is for the role %s, the caller is %s", m.transaction, rolesOf(rows), m.who.Role)
	}
	rows = slices.DeleteFunc(rows, func(t Transition) bool { return t.Role != m.who.Role })
	creates := slices.ContainsFunc(rows, func(t Transition) bool { return t.From == Absent })
	if m.from == Absent && !creates {
		return "", refuse(NotFound, "%s is not recorded", m.what)
	}
	var from []string
	sideHolds, mayCreate := false, false
	for _, t := range rows {
		holds := m.acts(t.Side)
		mayCreate = mayCreate || holds && t.From == Absent
		if t.From == m.from && holds {
			return t.To, nil
		}
		if (t.From == Absent) == (m.from == Absent) {
			sideHolds = sideHolds || holds
		}
		if t.From != Absent && !slices.Contains(from, t.From) {
			from = append(from, t.From)
		}
	}
	switch {
	case m.from != Absent && creates && !slices.ContainsFunc(rows, func(t Transition) bool { return t.From != Absent }):
		return "", refuse(Exists, "%s is recorded already", m.what)
	case !sideHolds && mayCreate:
		return "", refuse(Exists, "%s is recorded already, by another department", m.what)
	case !sideHolds:
		return "", refuse(Forbidden, "%s of %s is for the %s, the caller is department %s", m.transaction, m.what, sidesOf(rows), m.who.Department)
	}
	return "", wrongState(m.what, m.from, m.transaction+" needs "+strings.Join(from, " or "))
}

func rolesOf(rows []Transition) string {
	var roles []string
	for _, t := range rows {
		if !slices.Contains(roles, string(t.Role)) {
			roles = append(roles, string(t.Role))
		}
	}
	return strings.Join(roles, " or ")
}

func sidesOf(rows []Transition) string {
	var sides []string
	for _, t := range rows {
		if !slices.Contains(sides, string(t.Side)) {
			sides = append(sides, string(t.Side))
		}
	}
	return strings.Join(sides, " or ")
}

func refuse(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

// CheckMember refuses a caller whose department is not registered, or whose
// certificate comes from another department's certificate authority: the
// department named in a certificate counts only under that department's own MSP.
func CheckMember(dept *Department, who Caller) error {
	if dept == nil {
		return refuse(Forbidden, "department %s is not registered", who.Department)
	}
	if dept.Code != who.Department || dept.MSPID != who.MSPID {
		return refuse(Forbidden, "the caller's certificate names department %s and was not issued under its MSP", who.Department)
	}
	return nil
}

// notBefore refuses a transaction older than the record's last change: the
// times of one record only grow. A later transaction may succeed.
func notBefore(what string, last Meta, tx Tx) error {
	if tx.Time.Before(last.TxTime) {
		return refuse(Conflict, "%s was changed at a later time than this transaction's", what)
	}
	return nil
}
