package chaincode

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// access holds the transactions about access logs 访问留痕.
type access struct{ contractapi.Contract }

// RegisterLog binds the caller's department to its log; see [domain.RegisterLog].
func (*access) RegisterLog(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.RegisterLogArgs) (any, error) {
		existing, call, err := t.log()
		if err != nil {
			return nil, err
		}
		l, err := domain.RegisterLog(existing, call.Who, call.Tx, args)
		if err != nil {
			return nil, err
		}
		own, err := t.endorsedBy(l.Owner)
		if err != nil {
			return nil, err
		}
		return l, t.create(domain.KindLog, string(l.Owner), l, own)
	})
}

// Anchor records a checkpoint of the caller's log; see [domain.AnchorLog].
func (*access) Anchor(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.AnchorArgs) (any, error) {
		existing, call, err := t.log()
		if err != nil {
			return nil, err
		}
		l, anchor, err := domain.AnchorLog(existing, call.Who, call.Tx, args, openCheckpoint)
		if err != nil {
			return nil, err
		}
		own, err := t.endorsedBy(l.Owner)
		if err != nil {
			return nil, err
		}
		if err := t.put(domain.KindLog, string(l.Owner), l); err != nil {
			return nil, err
		}
		return anchor, t.create(domain.KindAnchor, domain.AnchorID(anchor.Owner, anchor.Size), anchor, own)
	})
}

// log reads the registration of the caller's log, nil when there is none.
func (t *transaction) log() (*domain.LogRegistration, domain.Call, error) {
	existing, err := load[domain.LogRegistration](t, domain.KindLog, string(t.who.Department))
	if err != nil {
		return nil, domain.Call{}, err
	}
	call, err := t.call()
	return existing, call, err
}

// openCheckpoint checks a checkpoint against the registered log: signed by its
// key and, after the first anchor, an extension of what was anchored. Departments
// run this check for one another, so that none can rewrite or fork its log.
func openCheckpoint(l domain.LogRegistration, args domain.AnchorArgs) (domain.TreeHead, error) {
	cp, err := proof.OpenCheckpoint([]byte(args.Checkpoint), l.Origin, l.VerifierKey)
	if err != nil {
		return domain.TreeHead{}, refused(err)
	}
	head := domain.TreeHead{Size: cp.Size, Root: base64.StdEncoding.EncodeToString(cp.Root[:])}
	if l.Size == 0 {
		return head, nil
	}
	anchored, err := base64.StdEncoding.DecodeString(l.Root)
	if err != nil || len(anchored) != len(cp.Root) {
		return domain.TreeHead{}, fmt.Errorf("internal: the anchored root of %s cannot be read", l.Owner)
	}
	hashes, err := args.ProofHashes()
	if err != nil {
		return domain.TreeHead{}, err
	}
	// proof wants 0 < old < new, as does the rule, which explains it better.
	if cp.Size > l.Size {
		err = proof.VerifyConsistency(l.Size, cp.Size, [32]byte(anchored), cp.Root, hashes)
	}
	return head, refused(err)
}

// RaiseAlarm records an alarm; see [domain.RaiseAlarm].
func (*access) RaiseAlarm(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.RaiseAlarmArgs) (any, error) {
		id := domain.AlarmID(args.Kind, args.About, args.Subject)
		t.want(domain.KindAlarm, id)
		if args.Evidence != "" {
			t.want(domain.KindLog, string(args.About))
		}
		about, err := load[domain.Department](t, domain.KindDepartment, string(args.About))
		if err != nil {
			return nil, err
		}
		existing, call, err := t.alarm(id)
		if err != nil {
			return nil, err
		}
		change, err := domain.RaiseAlarm(existing, about, call, args, func(evidence string) (bool, error) {
			return t.contradicts(args.Kind, args.About, evidence)
		})
		if err != nil {
			return nil, err
		}
		return change.Alarm, t.putAlarm(change)
	})
}

// CloseAlarm records what was found; see [domain.CloseAlarm].
func (*access) CloseAlarm(t *transaction, arg string) (string, error) {
	return submit(t, arg, func(args domain.CloseAlarmArgs) (any, error) {
		existing, call, err := t.alarm(args.ID)
		if err != nil {
			return nil, err
		}
		change, err := domain.CloseAlarm(existing, call, args)
		if err != nil {
			return nil, err
		}
		return change.Alarm, t.putAlarm(change)
	})
}

// GetAlarm answers an alarm.
func (*access) GetAlarm(t *transaction, arg string) (string, error) {
	return get[domain.Alarm](t, arg, domain.KindAlarm, func(a domain.IDArgs) string { return a.ID })
}

// alarm reads an alarm, nil when there is none.
func (t *transaction) alarm(id string) (*domain.Alarm, domain.Call, error) {
	existing, err := load[domain.Alarm](t, domain.KindAlarm, id)
	if err != nil {
		return nil, domain.Call{}, err
	}
	call, err := t.call()
	return existing, call, err
}

// putAlarm writes an alarm and its event. Any department raises alarms and
// another closes them, so both are endorsed by the channel's majority, as shared
// records are.
func (t *transaction) putAlarm(change domain.AlarmChange) error {
	if err := t.put(domain.KindAlarm, change.Alarm.ID, change.Alarm); err != nil {
		return err
	}
	return t.put(domain.KindAlarmEvent, domain.EventID(change.Alarm.ID, change.Event.Seq), change.Event)
}

// contradicts reports whether a checkpoint, signed with the key of department's
// log, contradicts what the ledger anchors of it: for a fork an anchor of the
// same size with another root, for a rollback a smaller size than the last
// anchor's.
func (t *transaction) contradicts(kind domain.AlarmKind, department domain.DepartmentCode, evidence string) (bool, error) {
	l, err := load[domain.LogRegistration](t, domain.KindLog, string(department))
	if err != nil {
		return false, err
	}
	if l == nil {
		return false, &domain.Error{Kind: domain.NotFound, Msg: "access log of " + string(department) + " is not recorded"}
	}
	cp, err := proof.OpenCheckpoint([]byte(evidence), l.Origin, l.VerifierKey)
	if err != nil {
		return false, refused(err)
	}
	if kind == domain.AlarmRollback {
		return cp.Size < l.Size, nil
	}
	anchor, err := load[domain.Anchor](t, domain.KindAnchor, domain.AnchorID(department, cp.Size))
	if err != nil || anchor == nil {
		return false, err
	}
	return anchor.Root != base64.StdEncoding.EncodeToString(cp.Root[:]), nil
}

// refused moves the kind of a wrapped refusal to the start of its text, where
// the gateway looks for it.
func refused(err error) error {
	if kind := domain.KindOf(err); kind != "" {
		return &domain.Error{Kind: kind, Msg: strings.Replace(err.Error(), string(kind)+": ", "", 1)}
	}
	return err
}
