package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/proof"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }

// done is an operation that took from begun to ended and was acknowledged.
func done(kind, action, object string, begun, ended float64) *operation {
	o := &operation{
		Kind: kind, Action: action, Object: object, Department: "police", Role: "operator", Key: action + " " + object,
		Outcome: committed, Block: 7, TxID: "tx " + action + " " + object,
	}
	o.Attempts = []attempt{{Begun: at(begun), Ended: at(ended), Status: 201, Claim: claimsDone}}
	return o
}

// facts is the ledger on which exactly these operations took effect.
func facts(operations ...*operation) ledgerFacts {
	f := ledgerFacts{effects: map[string][]effect{}}
	for _, o := range operations {
		f.effects[operationKey(o)] = append(f.effects[operationKey(o)], effect{Block: 7, TxID: o.TxID, Time: o.begun().Add(time.Millisecond)})
	}
	return f
}

// promises are which promises the findings break.
func promises(findings []finding) (broken []promise) {
	for _, f := range findings {
		broken = append(broken, f.Promise)
	}
	slices.Sort(broken)
	return slices.Compact(broken)
}

func wantBroken(t *testing.T, findings []finding, want ...promise) {
	t.Helper()
	slices.Sort(want)
	if got := promises(findings); !slices.Equal(got, want) {
		t.Errorf("broken %q, want %q: %+v", got, want, findings)
	}
}

// TestCheckWrites feeds the checker histories in which one thing is wrong.
func TestCheckWrites(t *testing.T) {
	registered := func(change func(*operation)) *operation {
		o := done(kindCatalog, "register", "a", 0, 1)
		change(o)
		return o
	}
	unchanged := func(*operation) {}
	refused := func(status int) func(*operation) {
		return func(o *operation) {
			o.Outcome, o.TxID = rejected, ""
			o.Attempts[0].Status, o.Attempts[0].Claim = status, claimsNothing
		}
	}
	// An answer was lost; the second request learned that the first had done it.
	lostAnswer := func(first attempt) func(*operation) {
		return func(o *operation) {
			first.Begun, first.Ended = at(0), at(1)
			o.Attempts = []attempt{first, {Begun: at(2), Ended: at(3), Status: 201, Claim: claimsDone}}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*operation)
		ledger func(o *operation) ledgerFacts
		want   []promise
	}{
		{"acknowledged and there", unchanged, func(o *operation) ledgerFacts { return facts(o) }, nil},
		{"lost", unchanged, func(*operation) ledgerFacts { return facts() }, []promise{lost}},
		{"acknowledged as another transaction", unchanged, func(o *operation) ledgerFacts {
			f := facts(o)
			f.effects[operationKey(o)][0].TxID = "another"
			return f
		}, []promise{lost}},
		{"duplicated", unchanged, func(o *operation) ledgerFacts { return facts(o, o) }, []promise{duplicated}},
		{"refused and not there", refused(409), func(*operation) ledgerFacts { return facts() }, nil},
		{"refused and there", refused(409), func(o *operation) ledgerFacts { return facts(o) }, []promise{falseFailure}},
		{"no answer, and it happened", lostAnswer(attempt{Claim: claimsUnknown}), func(o *operation) ledgerFacts { return facts(o) }, nil},
		{"unavailable, and it happened", lostAnswer(attempt{Status: 503, Claim: claimsNothing}), func(o *operation) ledgerFacts { return facts(o) }, []promise{falseFailure}},
		{"unavailable, and the next request did it", lostAnswer(attempt{Status: 503, Claim: claimsNothing}), func(o *operation) ledgerFacts {
			f := facts(o)
			f.effects[operationKey(o)][0].Time = at(2.5)
			return f
		}, nil},
		{"without an end", func(o *operation) { o.Outcome, o.TxID = open, "" }, func(o *operation) ledgerFacts { return facts(o) }, []promise{unended}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := registered(tt.change)
			wantBroken(t, checkWrites([]*operation{o}, tt.ledger(o), nil), tt.want...)
		})
	}
}

func TestCheckAccess(t *testing.T) {
	good := logged{Index: 3, Leaf: "ab", Included: true}
	for _, tt := range []struct {
		name    string
		outcome outcome
		log     []logged
		want    []promise
	}{
		{"there", committed, []logged{good}, nil},
		{"lost", committed, nil, []promise{lost}},
		{"twice", committed, []logged{good, {Index: 4, Leaf: "ab", Included: true}}, []promise{duplicated}},
		{"elsewhere", committed, []logged{{Index: 4, Leaf: "ab", Included: true}}, []promise{lost}},
		{"changed", committed, []logged{{Index: 3, Leaf: "cd", Included: true}}, []promise{lost}},
		{"not anchored", committed, []logged{{Index: 3, Leaf: "ab"}}, []promise{unanchored}},
		{"refused and there", rejected, []logged{good}, []promise{falseFailure}},
		{"refused", rejected, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := done(kindAccess, "log", "call-1", 0, 1)
			o.Key, o.Index, o.Leaf, o.Outcome = "call-1", 3, "ab", tt.outcome
			wantBroken(t, checkWrites([]*operation{o}, facts(), logFacts{"call-1": tt.log}), tt.want...)
		})
	}
}

func TestCheckLinearizable(t *testing.T) {
	life := []*operation{
		done(kindCertificate, "issue", "c", 0, 1), done(kindCertificate, "approve", "c", 2, 3),
		done(kindCertificate, "propose", "c", 4, 5), done(kindCertificate, "revoke", "c", 6, 7),
	}
	opened := func(o *operation) *operation {
		o.Outcome = open
		return o
	}
	grant := map[string]state{"g": {status: "active"}}
	for _, tt := range []struct {
		name       string
		operations []*operation
		reads      []read
		want       []promise
	}{
		{"a life", life, []read{{"c", "proposed", at(1.5), at(1.6)}, {"c", "valid", at(5.5), at(5.6)}, {"c", "revoked", at(8), at(9)}}, nil},
		{"read while it changes", life, []read{{"c", "valid", at(6.1), at(6.9)}}, nil},
		{"stale", life, []read{{"c", "valid", at(8), at(9)}}, []promise{notLinear}},
		{"from the future", life, []read{{"c", "revoked", at(5.2), at(5.8)}}, []promise{notLinear}},
		{"back and forth", life, []read{{"c", "revoked", at(6.1), at(6.2)}, {"c", "valid", at(6.3), at(6.4)}}, []promise{notLinear}},
		{"lost answer, happened", []*operation{opened(done(kindGrant, "suspend", "g", 0, 1))}, []read{{"g", "suspended", at(9), at(10)}}, nil},
		{"lost answer, never happened", []*operation{opened(done(kindGrant, "suspend", "g", 0, 1))}, []read{{"g", "active", at(9), at(10)}}, nil},
		{"lost answer, happened and undone", []*operation{opened(done(kindGrant, "suspend", "g", 0, 1))}, []read{{"g", "suspended", at(2), at(3)}, {"g", "active", at(4), at(5)}}, []promise{notLinear}},
		{"two suspensions, one resumption", []*operation{
			done(kindGrant, "suspend", "g", 0, 1), done(kindGrant, "suspend", "g", 0.5, 3), done(kindGrant, "resume", "g", 0.8, 2),
		}, nil, nil},
		{"two suspensions", []*operation{done(kindGrant, "suspend", "g", 0, 1), done(kindGrant, "suspend", "g", 2, 3)}, nil, []promise{notLinear}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantBroken(t, checkLinearizable(tt.operations, tt.reads, grant), tt.want...)
		})
	}
}

func TestCheckVerdicts(t *testing.T) {
	life := []*operation{done(kindCertificate, "approve", "c", 10, 11), done(kindCertificate, "revoke", "c", 50, 51)}
	for _, tt := range []struct {
		name    string
		verdict string
		at      float64
		want    []promise
	}{
		{"valid", "valid", 30, nil},
		{"valid soon after it was revoked", "valid", 55, nil},
		{"valid long after it was revoked", "valid", 70, []promise{wrongVerdict}},
		{"valid before it was approved", "valid", 5, []promise{wrongVerdict}},
		{"revoked", "revoked", 70, nil},
		{"revoked before anybody did", "revoked", 40, []promise{wrongVerdict}},
		{"not found soon after", "not_found", 12, nil},
		{"not found long after", "not_found", 40, []promise{wrongVerdict}},
		{"cannot be checked", "cannot_check", 40, nil},
		{"what nobody made it", "suspended", 40, []promise{wrongVerdict}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantBroken(t, checkVerdicts(life, []verification{{Ref: "c", Gateway: "civil", Verdict: tt.verdict, Begun: at(tt.at), Ended: at(tt.at + 0.1)}}), tt.want...)
		})
	}
}

// TestSchedule checks that a seed decides what happens, and that each fault comes
// before any comes again.
func TestSchedule(t *testing.T) {
	names := []string{"leader-kill", "peer-kill", "redis-freeze", "power-cut"}
	draw := func(seed uint64) (text string) {
		events, err := schedule(rand.New(rand.NewPCG(seed, 0)), names, members, 2*len(names), 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range events {
			if e.hold < e.fault.hold[0] || e.hold > e.fault.hold[1] {
				t.Errorf("%s lasts %s", e.fault.name, e.hold)
			}
			if i == len(names) {
				text += "| "
			}
			text += e.fault.name + "@" + e.target + " " + e.hold.String() + " "
		}
		for _, half := range strings.Split(text, "|") {
			for _, name := range names {
				if strings.Count(half, name) != 1 {
					t.Errorf("%s is not in %q once", name, half)
				}
			}
		}
		return text
	}
	first, again, other := draw(1), draw(1), draw(2)
	if first != again || first == other {
		t.Error("the seed does not decide the schedule")
	}
	shorter, err := schedule(rand.New(rand.NewPCG(1, 0)), names, members, 2*len(names), 6*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range shorter {
		if e.hold > 6*time.Second {
			t.Errorf("%s lasts %s", e.fault.name, e.hold)
		}
	}
	if _, err := schedule(rand.New(rand.NewPCG(1, 0)), []string{"earthquake"}, members, 1, 0); err == nil {
		t.Error("an unknown fault is drawn")
	}
}

// TestLeftOut has one fault that the machine cannot cause, and one whose preparation
// fails: only the first may be left out, and only where that is wished.
func TestLeftOut(t *testing.T) {
	before := faults
	defer func() { faults = before }()
	faults = append(slices.Clone(faults),
		fault{name: "flood", setUp: func(context.Context, *world) error { return errors.Join(lacking("a flood needs water"), nil) }},
		fault{name: "fire", setUp: func(context.Context, *world) error { return errors.New("no match burns") }})
	for _, c := range []struct {
		faults  string
		skip    bool
		leftOut map[string]string
		fails   bool
	}{
		{"peer-kill,flood", true, map[string]string{"flood": "a flood needs water"}, false},
		{"peer-kill,flood", false, nil, true},
		{"fire", true, nil, true},
	} {
		r := &runner{set: settings{Faults: strings.Split(c.faults, ","), Skip: c.skip}, out: t.Output(), world: &world{}}
		wrapping, err := r.prepare(t.Context())
		if (err != nil) != c.fails || wrapping {
			t.Errorf("%s, skip %t: error %v, scripts %t", c.faults, c.skip, err, wrapping)
		}
		if !c.fails && !maps.Equal(r.leftOut, c.leftOut) {
			t.Errorf("%s: left out %v", c.faults, r.leftOut)
		}
	}
}

// TestNoTurn has a run take longer than it may: no further fault begins.
func TestNoTurn(t *testing.T) {
	r := &runner{set: settings{Within: time.Minute}, out: t.Output(), began: time.Now(), leftOut: map[string]string{}}
	early, late := event{fault: &faults[0]}, event{fault: &faults[1]}
	if r.leaves(early) {
		t.Error("left out at the beginning")
	}
	r.began = r.began.Add(-2 * time.Minute)
	if !r.leaves(late) || !strings.Contains(r.leftOut[faults[1].name], "1m0s") || len(r.leftOut) != 1 {
		t.Errorf("left out %v", r.leftOut)
	}
}

// TestPartitionsWork makes the groups and rules of partitions, which tries them out, and
// removes them.
func TestPartitionsWork(t *testing.T) {
	w := &world{}
	err := isolate(t.Context(), w)
	var missing *lackingError
	if errors.As(err, &missing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := w.isolator.close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(w.isolator.group); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a control group is left: %v", err)
	}
}

func TestMeasure(t *testing.T) {
	operations := []*operation{
		done(kindCatalog, "register", "a", 0, 1), done(kindCatalog, "register", "b", 1, 7), done(kindAccess, "log", "call-1", 3, 4), done(kindCatalog, "register", "c", 7, 8),
	}
	verifications := []verification{
		{Verdict: "valid", Begun: at(1), Ended: at(1.1)}, {Verdict: "valid", Retried: true, Begun: at(2), Ended: at(4)},
		{Verdict: "cannot_check", Begun: at(3), Ended: at(3.1)}, {Begun: at(4), Ended: at(6)},
	}
	failed := []failure{{"police", at(1)}, {"civil", at(2)}, {"civil", at(4.5)}, {"police", at(7)}}
	// Nothing is acknowledged from 1 s on until long after the end of what is measured.
	stalled := []*operation{operations[0], done(kindCatalog, "register", "d", 2, 31)}
	if m := measure(stalled, nil, nil, at(0.5), at(5), at(9), nil); m.Stall != 30*time.Second || m.Writes != 1 {
		t.Errorf("stall %s, %d writes, want 30 s and 1", m.Stall, m.Writes)
	}
	if m := measure(stalled[:1], nil, nil, at(0.5), at(5), at(9), nil); m.Stall != 8*time.Second {
		t.Errorf("stall %s, want 8 s: to the end", m.Stall)
	}
	m := measure(operations, verifications, failed, at(0.5), at(5), at(9), []string{"police"})
	want := measured{
		Writes: 4, Stall: 6 * time.Second, Errors: 2, Burst: 2500 * time.Millisecond, ErrorsOwn: 2, BurstOwn: 2 * time.Second,
		Verified: 4, Available: 0.5, FirstTry: 0.25, VerifyP95: 2 * time.Second,
	}
	if m != want {
		t.Errorf("measured %+v\nwant     %+v", m, want)
	}
}

// TestLeaks feeds the samples of processes that hold ever more, go up and down,
// and were started anew.
func TestLeaks(t *testing.T) {
	u := &usage{samples: map[string][]held{}}
	for i := range 40 {
		u.samples["leaking"] = append(u.samples["leaking"], held{pid: 1, descriptors: 20 + 4*i, resident: 1 << 20})
		u.samples["steady"] = append(u.samples["steady"], held{pid: 2, descriptors: 20 + i%7, resident: 40<<20 + i%5<<20})
		u.samples["restarted"] = append(u.samples["restarted"], held{pid: 3 + i/10, descriptors: 20 + i%10, resident: 1 << 20})
	}
	findings := leaks(u.growth())
	wantBroken(t, findings, grows)
	if len(findings) != 1 || !strings.Contains(findings[0].Detail, "leaking: descriptors") {
		t.Errorf("findings %+v", findings)
	}
}

// Of a gateway, what its clients hold is no leak.
func TestGatewaysAreComparedAtRest(t *testing.T) {
	u := &usage{samples: map[string][]held{}}
	for i := range 40 {
		u.samples["gateway-police"] = append(u.samples["gateway-police"], held{pid: 1, descriptors: 20 + 4*i, goroutines: 100 + 20*i, resident: 1 << 20})
	}
	if findings := leaks(u.growth()); len(findings) != 0 {
		t.Errorf("with clients: %+v", findings)
	}
	for name, tt := range map[string]struct {
		after held
		want  []string
	}{
		"as before":     {held{descriptors: 80, goroutines: 110}, nil},
		"a little more": {held{descriptors: 95, goroutines: 140}, nil},
		"descriptors":   {held{descriptors: 140, goroutines: 110}, []string{"gateway-police: descriptors: 75 before the load, 140 after it"}},
		"goroutines":    {held{descriptors: 80, goroutines: 300}, []string{"gateway-police: goroutines: 105 before the load, 300 after it"}},
	} {
		u.atRest = held{descriptors: 75, goroutines: 105}
		var got []string
		for _, f := range u.kept(map[string]held{"police": tt.after}) {
			got = append(got, f.Detail)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestRootOf(t *testing.T) {
	// RFC 6962 as transparency-dev publishes it: leaves "", 00, 10.
	var leaves [][32]byte
	for _, data := range [][]byte{{}, {0}, {0x10}} {
		leaves = append(leaves, proof.LeafHash(data))
	}
	const want = "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
	if got := fmt.Sprintf("%x", rootOf(leaves)); got != want {
		t.Errorf("root %s, want %s", got, want)
	}
}

// A history that was kept is checked once more as it was.
func TestHistoryIsKept(t *testing.T) {
	h := &history{}
	for _, o := range []*operation{
		{Kind: kindGrant, Action: "suspend", Object: "g1", Key: "k1", Attempts: []attempt{{Begun: at(0), Ended: at(1), Status: 200, Claim: claimsDone}}, Outcome: committed, Block: 7, TxID: "t"},
		{Kind: kindGrant, Action: "resume", Object: "g1", Key: "k2", Outcome: open},
		{Kind: kindGrant, Action: "suspend", Object: "g2", Key: "k3", Outcome: rejected},
		{Kind: kindAccess, Object: "u", Key: "k4", Index: 3, Leaf: "ab", Outcome: committed},
	} {
		h.add(o)
	}
	h.addRead(read{Object: "g1", State: "suspended", Begun: at(0), Ended: at(1)})
	h.addVerification(verification{Ref: "r", Gateway: "police", Begun: at(0), Ended: at(1), Verdict: "valid"})
	path := filepath.Join(t.TempDir(), historyFile)
	if err := h.save(path); err != nil {
		t.Fatal(err)
	}
	again := &history{}
	if err := again.load(path); err != nil {
		t.Fatal(err)
	}
	operations, reads, verifications := h.snapshot()
	gotOperations, gotReads, gotVerifications := again.snapshot()
	if diff := cmp.Diff(operations, gotOperations) + cmp.Diff(reads, gotReads) + cmp.Diff(verifications, gotVerifications); diff != "" {
		t.Errorf("kept (-as it was +as read):\n%s", diff)
	}
	l := newLoad(&clients{history: again}, nil)
	l.resume()
	if len(l.contended) != 2 || l.contended[0].ID != "g1" || l.contended[1].ID != "g2" {
		t.Errorf("contended for %+v, want g1 and g2", l.contended)
	}
	if err := again.load(filepath.Join(t.TempDir(), historyFile)); err == nil {
		t.Error("no history is read without an error")
	}
}
