package httpapi

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
)

// fill gives every field of v a value that is not zero and differs from the
// others, so that a field lost on the way shows.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("值<%d>&", *n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Uint8:
		v.SetUint(uint64(*n % 256))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), n)
		fill(t, v.Index(1), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, *n%1000*int(time.Millisecond), time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("cannot fill a %s", v.Type())
	}
}

func roundTrip[D, A any](t *testing.T) {
	t.Helper()
	t.Run(reflect.TypeFor[D]().Name(), func(t *testing.T) {
		var want D
		n := 0
		fill(t, reflect.ValueOf(&want).Elem(), &n)
		there, err := api.Convert[A](want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := api.Convert[D](there)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lost on the way to %T and back (-want +got):\n%s", there, diff)
		}
		// The zero value, too, must pass: its nil lists come back empty.
		var zero D
		if there, err = api.Convert[A](zero); err != nil {
			t.Fatal(err)
		}
		if _, err = api.Convert[D](there); err != nil {
			t.Fatal(err)
		}
	})
}

// TestEveryRecordKeepsEveryField holds the contract's types to the domain's: a
// field added to one and not to the other fails here.
func TestEveryRecordKeepsEveryField(t *testing.T) {
	roundTrip[domain.Department, api.Department](t)
	roundTrip[domain.RegisterDepartmentArgs, api.RegisterDepartment](t)
	roundTrip[domain.Calendar, api.Calendar](t)
	roundTrip[domain.SetCalendarArgs, api.SetCalendar](t)
	roundTrip[domain.DeadlineRule, api.DeadlineRule](t)
	roundTrip[domain.SetRuleArgs, api.SetRule](t)
	roundTrip[domain.Clock, api.Clock](t)
	roundTrip[domain.CatalogContent, api.CatalogContent](t)
	roundTrip[domain.CatalogVersion, api.CatalogVersion](t)
	roundTrip[domain.RegisterBatchArgs, api.RegisterCatalogBatch](t)
	roundTrip[domain.BatchResult, api.BatchResult](t)
	roundTrip[domain.RequestEvent, api.RequestEvent](t)
	roundTrip[domain.GrantEvent, api.GrantEvent](t)
	roundTrip[domain.CatalogEntry, api.CatalogEntry](t)
	roundTrip[domain.ShareRequestContent, api.ShareRequestContent](t)
	roundTrip[domain.ShareRequest, api.ShareRequest](t)
	roundTrip[domain.Grant, api.Grant](t)
	roundTrip[domain.LogRegistration, api.LogRegistration](t)
	roundTrip[domain.RegisterLogArgs, api.RegisterLog](t)
	roundTrip[domain.Anchor, api.Anchor](t)
	roundTrip[domain.AccessRecord, api.AccessRecord](t)
	roundTrip[domain.Alarm, api.Alarm](t)
	roundTrip[domain.RaiseAlarmArgs, api.RaiseAlarm](t)
	roundTrip[domain.Certificate, api.Certificate](t)
	roundTrip[domain.CertificateBatchResult, api.CertificateBatchResult](t)
	roundTrip[domain.Authorisation, api.Authorisation](t)
	roundTrip[domain.StatusChange, api.StatusChange](t)
	roundTrip[domain.StatusAct, api.StatusAct](t)
	roundTrip[domain.Objection, api.Objection](t)
	roundTrip[domain.Block, api.Block](t)
	roundTrip[domain.Transaction, api.Transaction](t)
	roundTrip[proof.Anchors, api.Trust](t)
}

// jsonNames answers the JSON names of a struct's fields.
func jsonNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		name, _, _ := cutTag(t.Field(i).Tag.Get("json"))
		names = append(names, name)
	}
	return names
}

func cutTag(tag string) (name, rest string, ok bool) {
	for i := range tag {
		if tag[i] == ',' {
			return tag[:i], tag[i+1:], true
		}
	}
	return tag, "", false
}

// TestInputsAreRecordsWithoutWhatTheGatewaySets holds the request types that are
// not a domain type of their own to the one they are a part of.
func TestInputsAreRecordsWithoutWhatTheGatewaySets(t *testing.T) {
	tests := []struct {
		name   string
		input  reflect.Type
		record reflect.Type
		omits  []string // set by the gateway or taken from the path
	}{
		{"access record", reflect.TypeFor[api.AccessInput](), reflect.TypeFor[domain.AccessRecord](), []string{"schema", "grantSeq", "loggedAt"}},
		{"end of an alarm", reflect.TypeFor[api.CloseAlarm](), reflect.TypeFor[domain.CloseAlarmArgs](), []string{"id"}},
		{"answer", reflect.TypeFor[api.AnswerRequest](), reflect.TypeFor[domain.AnswerArgs](), []string{"id"}},
		{"retirement", reflect.TypeFor[api.RetireCatalogEntry](), reflect.TypeFor[domain.RetireCatalogArgs](), []string{"code"}},
		{"update", reflect.TypeFor[api.Reason](), reflect.TypeFor[domain.RequireUpdateArgs](), []string{"code"}},
		{"review of many", reflect.TypeFor[api.ReviewCatalogBatch](), reflect.TypeFor[domain.ReviewBatchArgs](), []string{}},
		{"codes", reflect.TypeFor[api.CatalogCodes](), reflect.TypeFor[domain.CodesArgs](), []string{}},
		{"acceptance", reflect.TypeFor[api.AcceptRequest](), reflect.TypeFor[domain.AcceptArgs](), []string{"id"}},
		{"extension", reflect.TypeFor[api.ExtendRequest](), reflect.TypeFor[domain.ExtendArgs](), []string{"id"}},
		{"decision on an extension", reflect.TypeFor[api.DecideExtension](), reflect.TypeFor[domain.DecideExtensionArgs](), []string{"id"}},
		{"dispute", reflect.TypeFor[api.Reason](), reflect.TypeFor[domain.DisputeArgs](), []string{"id"}},
		{"mediation", reflect.TypeFor[api.MediateRequest](), reflect.TypeFor[domain.MediateArgs](), []string{"id"}},
		{"delivery", reflect.TypeFor[api.DeliverRequest](), reflect.TypeFor[domain.DeliverArgs](), []string{"id"}},
		{"confirmation", reflect.TypeFor[api.ConfirmRequest](), reflect.TypeFor[domain.ConfirmArgs](), []string{"id"}},
		{"reason", reflect.TypeFor[api.Reason](), reflect.TypeFor[domain.ReasonArgs](), []string{"id"}},
		{"review", reflect.TypeFor[api.ReviewCatalogEntry](), reflect.TypeFor[domain.ReviewCatalogArgs](), []string{"code"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := map[string]bool{}
			for _, n := range jsonNames(tt.record) {
				want[n] = true
			}
			for _, n := range tt.omits {
				if !want[n] {
					t.Errorf("the record has no field %q to omit", n)
				}
				delete(want, n)
			}
			got := map[string]bool{}
			for _, n := range jsonNames(tt.input) {
				got[n] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("fields (-record +input):\n%s", diff)
			}
		})
	}
}

func TestAccessRecordKeepsEveryField(t *testing.T) {
	var in api.AccessInput
	n := 0
	fill(t, reflect.ValueOf(&in).Elem(), &n)
	want, err := api.Convert[domain.AccessRecord](in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, accessRecord(in)); diff != "" {
		t.Errorf("lost on the way (-want +got):\n%s", diff)
	}
}
