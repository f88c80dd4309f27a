package domain

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRequestTasks(t *testing.T) {
	police, civil := []DepartmentCode{"police"}, []DepartmentCode{"civil"}
	lead, peers, nobody := []DepartmentCode{"bigdata"}, []DepartmentCode{"civil", "market"}, []DepartmentCode(nil)
	for _, tc := range []struct {
		state       RequestState
		transaction string
		role        Role
		waits       []DepartmentCode // when the lead is no party
		leadAsks    []DepartmentCode // when the lead is the consumer
	}{
		{RequestSubmitted, "sharing:Accept", RoleReviewer, lead, peers},
		{RequestReturned, "sharing:Supplement", RoleOperator, civil, lead},
		{RequestAccepted, "sharing:Answer", RoleReviewer, police, police},
		{RequestExtended, "sharing:Answer", RoleReviewer, police, police},
		{RequestMediated, "sharing:Answer", RoleReviewer, police, police},
		{RequestRefused, "sharing:Dispute", RoleOperator, civil, lead},
		{RequestDisputed, "sharing:Mediate", RoleReviewer, lead, peers},
		{RequestAgreed, "sharing:Deliver", RoleOperator, police, police},
		{RequestPartlyAgreed, "sharing:Deliver", RoleOperator, police, police},
		{RequestDelivered, "sharing:Confirm", RoleOperator, civil, lead},
		{RequestActive, "", "", nobody, nobody},
		{RequestClosed, "", "", nobody, nobody},
		{RequestWithdrawn, "", "", nobody, nobody},
	} {
		for i, want := range [][]DepartmentCode{tc.waits, tc.leadAsks} {
			r := constellations[i].request(tc.state)
			task := r.Task()
			if got := waitsFor(task); !slices.Equal(got, want) {
				t.Errorf("%s waits for %v, want %v", tc.state, got, want)
			}
			if task == nil {
				if tc.transaction != "" {
					t.Errorf("%s has no task", tc.state)
				}
				continue
			}
			if task.Transaction != tc.transaction || task.Role != tc.role || (task.Department == "") == (task.Side == "") {
				t.Errorf("%s waits for %+v", tc.state, task)
			}
			if tc.state == RequestReturned {
				if task.DueAt != nil {
					t.Error("a stopped clock is due")
				}
			} else if task.DueAt == nil || !task.DueAt.Equal(r.Clock.DueAt) {
				t.Errorf("%s is due at %v", tc.state, task.DueAt)
			}
		}
	}
}

// waitsFor lists the departments that a task waits for.
func waitsFor(task *Task) []DepartmentCode {
	var list []DepartmentCode
	for _, d := range []Department{leadDept, policeDept, civilDept, marketDept} {
		if task.Waits(d.Code, d.Lead) {
			list = append(list, d.Code)
		}
	}
	return list
}

func TestExtensionIsASecondTask(t *testing.T) {
	for i, want := range [][]DepartmentCode{{"bigdata"}, {"civil", "market"}, {"police", "market"}} {
		r := constellations[i].request(RequestAccepted)
		if got := r.Tasks(); len(got) != 1 {
			t.Errorf("tasks %+v", got)
		}
		r.Extension = &Extension{5, "数据未归集"}
		got := r.Tasks()
		if len(got) != 2 || got[0].Transaction != "sharing:Answer" || got[1].Transaction != "sharing:DecideExtension" ||
			got[1].Role != RoleReviewer || !got[1].DueAt.Equal(r.Clock.DueAt) || !slices.Equal(waitsFor(&got[1]), want) {
			t.Errorf("tasks %+v", got)
		}
	}
}

// TestTasksCanBeDone: whoever a request waits for may run the transaction, and
// nobody else may.
func TestTasksCanBeDone(t *testing.T) {
	runs := map[string][]string{
		"sharing:Accept": {"accept"}, "sharing:Supplement": {"supplement"}, "sharing:Answer": {"agree"},
		"sharing:DecideExtension": {"grant an extension"}, "sharing:Dispute": {"dispute a refusal"}, "sharing:Mediate": {"remand"},
		"sharing:Deliver": {"deliver"}, "sharing:Confirm": {"confirm"},
	}
	for _, c := range constellations {
		for _, state := range requestStates {
			r := c.request(state)
			r.Extension = &Extension{5, "数据未归集"}
			for _, task := range r.Tasks() {
				i := slices.IndexFunc(requestSteps, func(s requestStep) bool { return slices.Contains(runs[task.Transaction], s.name) })
				if i < 0 {
					t.Fatalf("no step for %s", task.Transaction)
				}
				for _, d := range allDepts {
					_, err := requestSteps[i].run(c.request(state), callOf(d, task.Role, someTx))
					if may := task.Waits(d.Code, d.Lead); may != (err == nil) {
						t.Errorf("%s, %s waits for %s of %s: %v, but %v", c.name, state, task.Transaction, d.Code, may, err)
					}
				}
			}
		}
	}
}

func TestCatalogTasks(t *testing.T) {
	review, update := &Clock{DueAt: noon.AddDate(0, 0, 10)}, &Clock{DueAt: noon.AddDate(0, 0, 20)}
	at := noon
	stopped := &Clock{DueAt: noon, StoppedAt: &at}
	own := func(transaction string, due *time.Time) *Task {
		return &Task{Department: "police", Role: RoleOperator, Transaction: transaction, DueAt: due}
	}
	lead := &Task{Side: SideLead, Parties: []DepartmentCode{"police"}, Role: RoleReviewer, Transaction: "catalog:Review", DueAt: &review.DueAt}
	for _, tc := range []struct {
		state          CatalogState
		review, update *Clock
		want           *Task
	}{
		{CatalogDraft, nil, nil, own("catalog:Submit", nil)},
		{CatalogRegPending, review, nil, lead},
		{CatalogRegistered, nil, nil, own("catalog:Publish", nil)},
		{CatalogRegRejected, nil, nil, own("catalog:Register", nil)},
		{CatalogPubPending, review, nil, lead},
		{CatalogPubRejected, nil, nil, own("catalog:Publish", nil)},
		{CatalogPublished, nil, nil, nil},
		{CatalogPublished, nil, update, own("catalog:Change", &update.DueAt)},
		{CatalogPublished, nil, stopped, nil},
		{CatalogChangePending, review, stopped, lead},
		{CatalogOfflinePending, review, nil, lead},
		{CatalogOffline, nil, nil, nil},
		{CatalogRetired, nil, nil, nil},
	} {
		e := someEntry(tc.state)
		e.Review, e.Update = tc.review, tc.update
		if diff := cmp.Diff(tc.want, e.Task()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.state, diff)
		}
	}
	ofLead := someEntry(CatalogRegPending)
	ofLead.Provider, ofLead.Reviewer = leadDept.Code, SidePeer
	if got := waitsFor(ofLead.Task()); !slices.Equal(got, []DepartmentCode{"police", "civil", "market"}) {
		t.Errorf("what the lead provides waits for %v", got)
	}
}
