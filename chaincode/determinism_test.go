package chaincode_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // so that the children have their zones on every machine

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/chaincode"
	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
)

// repetitions is how often each process runs each transaction.
const repetitions = 200

// fixture is a transaction with the state that it meets.
type fixture struct {
	State    map[string][]byte
	Creator  []byte
	TxID     string
	Time     time.Time
	Function string
	Args     []string
}

// TestProcessesAgree runs every transaction that writes in three processes with
// other time zones, processor counts, runtime settings and start times, and
// compares everything that peers would compare, byte for byte and in order:
// answer, reads, writes, policies.
func TestProcessesAgree(t *testing.T) {
	if os.Getenv(fixtureFile) != "" {
		return // a child runs TestFixtures only
	}
	var fixtures []fixture
	for _, tc := range cases() {
		if tc.changes == nil {
			continue
		}
		w := tc.prepared(t)
		p := w.under(operation, tc.who, tc.name, tc.arg(w))
		f := fixture{State: map[string][]byte{}, Creator: p.Creator.Bytes(), TxID: p.TxID, Time: p.Time, Function: p.Function, Args: p.Args}
		for _, key := range w.ledger.Keys() {
			f.State[key] = w.ledger.State(key)
		}
		fixtures = append(fixtures, f)
	}
	path := filepath.Join(t.TempDir(), "fixtures.json")
	data, err := json.Marshal(fixtures)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var results [3][]chaincodetest.Result
	for i, env := range [][]string{
		{"TZ=UTC", "GOMAXPROCS=1"},
		{"TZ=Asia/Shanghai", "GOMAXPROCS=8", "GOGC=400"},
		{"TZ=America/New_York", "GOMAXPROCS=3", "GODEBUG=asyncpreemptoff=1", "LANG=zh_CN.UTF-8"},
	} {
		// One after the other, so that each starts at another time.
		cmd := exec.Command(os.Args[0], "-test.run=^TestFixtures$", "-test.count=1", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), append(env, fixtureFile+"="+path)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", env, err, out)
		}
		data, err := os.ReadFile(path + ".results")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &results[i]); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path + ".results"); err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range fixtures {
		first := results[0][i]
		if first.Status != 200 || len(first.Writes) < 2 || len(first.Payload) == 0 {
			t.Errorf("%s answers %d %q and writes %d keys", f.Function, first.Status, first.Message, len(first.Writes))
		}
		for _, other := range results[1:] {
			if !reflect.DeepEqual(first, other[i]) {
				t.Errorf("%s: processes differ:\n%s", f.Function, cmp.Diff(first, other[i]))
			}
		}
	}
}

// fixtureFile is the environment variable that makes [TestFixtures] a child.
const fixtureFile = "ZHENGLIAN_FIXTURES"

// TestFixtures is the child of [TestProcessesAgree]: it runs each fixture many
// times, several at once, and writes the results.
func TestFixtures(t *testing.T) {
	path := os.Getenv(fixtureFile)
	if path == "" {
		return // not started by TestProcessesAgree, which checks that there are results
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var fixtures []fixture
	if err := json.Unmarshal(data, &fixtures); err != nil {
		t.Fatal(err)
	}
	cc, err := chaincode.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	results := make([]chaincodetest.Result, len(fixtures))
	for i, f := range fixtures {
		l := chaincodetest.NewLedger("zhenglian")
		for key, value := range f.State {
			l.Set(key, value)
		}
		p := chaincodetest.Proposal{Creator: chaincodetest.ParseIdentity(f.Creator), TxID: f.TxID, Time: f.Time, Function: f.Function, Args: f.Args}
		all := make([]chaincodetest.Result, repetitions)
		var group sync.WaitGroup
		for worker := range 4 {
			group.Go(func() {
				for n := worker; n < repetitions; n += 4 {
					all[n] = l.Simulate(cc, p)
				}
			})
		}
		group.Wait()
		for n := range all {
			if !reflect.DeepEqual(all[n], all[0]) {
				t.Fatalf("%s: run %d differs:\n%s", f.Function, n, cmp.Diff(all[0], all[n]))
			}
		}
		results[i] = all[0]
	}
	data, err = json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".results", data, 0o600); err != nil {
		t.Fatal(err)
	}
	zone, err := time.LoadLocation(os.Getenv("TZ"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	_, want := now.In(zone).Zone()
	if _, got := now.Local().Zone(); got != want {
		t.Errorf("the process is %d seconds from UTC, want %d as in %s", got, want, zone)
	}
}
