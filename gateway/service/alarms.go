package service

import (
	"context"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/ledger"
)

// Alarms raises, closes and finds alarms 告警. It is safe for concurrent use.
type Alarms struct {
	ledger ledger.Ledger
	index  index.Index
}

// NewAlarms returns the use cases of alarms.
func NewAlarms(l ledger.Ledger, ix index.Index) *Alarms { return &Alarms{ledger: l, index: ix} }

// Raise records an alarm that an auditor found. One that is there already, open
// or closed, is an error of kind exists.
func (a *Alarms) Raise(ctx context.Context, caller Caller, args domain.RaiseAlarmArgs) (Written[domain.Alarm], error) {
	if args.Records == nil {
		args.Records = []domain.RecordRef{}
	}
	return write[domain.Alarm](ctx, a.ledger, a.index, caller, "access:RaiseAlarm", "raise alarms", args)
}

// Report records an alarm that the gateway itself found, in its own role. Several
// gateways see the same and each sees it again: an alarm that is there already is
// no error.
func (a *Alarms) Report(ctx context.Context, args domain.RaiseAlarmArgs) error {
	known, err := find[domain.Alarm](ctx, a.index, domain.KindAlarm, domain.AlarmID(args.Kind, args.About, args.Subject))
	if err != nil || known != nil {
		return err
	}
	_, err = a.Raise(ctx, Caller{Role: domain.RoleGateway}, args)
	if domain.KindOf(err) == domain.Exists {
		return nil
	}
	return err
}

// Close records what was found and done about an alarm.
func (a *Alarms) Close(ctx context.Context, caller Caller, args domain.CloseAlarmArgs) (Written[domain.Alarm], error) {
	return write[domain.Alarm](ctx, a.ledger, a.index, caller, "access:CloseAlarm", "close alarms", args)
}

// Get answers the alarm with this ID, from the index.
func (a *Alarms) Get(ctx context.Context, id string) (Written[domain.Alarm], error) {
	return get[domain.Alarm](ctx, a.index, domain.KindAlarm, id)
}

// List answers alarms in order of ID, from the index. The filter's department is
// the one that they are about.
func (a *Alarms) List(ctx context.Context, filter index.Filter, page index.Page) (Listed[domain.Alarm], error) {
	return list[domain.Alarm](ctx, a.index, domain.KindAlarm, filter, page)
}
