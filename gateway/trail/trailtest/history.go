package trailtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// Epoch is the time of the first call of a history: shortly before midnight in
// Asia/Shanghai.
var Epoch = time.Date(2026, 3, 1, 15, 50, 0, 0, time.UTC)

// Log is a department's log.
type Log struct {
	Department domain.DepartmentCode
	Entries    []trail.Entry
}

// At is the progress of a log of which size entries are applied and whose last
// anchor has the size anchored.
func At(size, anchored uint64) trail.Progress {
	p := trail.Progress{Size: size, Anchored: anchored, Seen: Epoch.Add(time.Duration(anchored) * time.Second)} //nolint:gosec // small
	if anchored > 0 {
		root := sha256.Sum256(fmt.Appendf(nil, "root %d", anchored))
		p.Root = root[:]
	}
	return p
}

// NewEntry is an entry of a log with the record.
func NewEntry(index uint64, record domain.AccessRecord, anchorSize uint64) trail.Entry {
	data, err := domain.Canonical(record)
	if err != nil {
		panic(err) // there is nothing in a record that has no canonical form
	}
	hash := sha256.Sum256(append([]byte{0}, data...))
	return trail.Entry{Department: record.Writer(), Index: index, LeafHash: hash[:], Record: record, AnchorSize: anchorSize}
}

func hexText(n int, words ...any) string {
	sum := sha256.Sum256(fmt.Append(nil, words...))
	return hex.EncodeToString(sum[:])[:n]
}

// rare answers one of n numbers, the small ones much more often: a few
// resources, grants and purposes make most of the traffic.
func rare(random *rand.Rand, n int) int {
	x := random.Float64()
	return int(x * x * x * float64(n))
}

// Departments are the departments of a history.
var Departments = []domain.DepartmentCode{"police", "civil", "tax", "health", "housing", "market"}

// call makes the provider's record of call number i.
func call(random *rand.Rand, i int, at time.Time) domain.AccessRecord {
	grant := rare(random, 2000)
	provider := grant % len(Departments)
	consumer := (provider + 1 + grant/7%(len(Departments)-1)) % len(Departments)
	r := domain.AccessRecord{
		Schema: domain.SchemaAccessRecord, Direction: domain.DirectionProvider,
		CallID: hexText(32, "call", i), GrantID: hexText(32, "grant", grant),
		CatalogCode: fmt.Sprintf("307/%06d", grant%300), CatalogVersion: 1, Items: []string{"姓名", "证件状态"},
		Provider: Departments[provider], Consumer: Departments[consumer],
		Purpose: fmt.Sprintf("事项办理 %d", grant%40), ServiceItem: fmt.Sprintf("11450000MB%08d", grant%150),
		System: fmt.Sprintf("system-%d", consumer), Operator: "op-" + hexText(12, "operator", consumer, rare(random, 800)), OperatorRole: "窗口受理",
		RecordCount: 1 + int64(i%3), RequestDigest: hexText(64, "request", i), ResponseDigest: hexText(64, "response", i),
		At: at, Result: domain.ResultOK, LoggedAt: at.Add(time.Second),
	}
	if i%3 != 0 {
		r.CaseRef = "case-" + hexText(16, "case", i/5)
	}
	if i%4 != 0 {
		r.SubjectRef = hexText(32, "subject", i/6)
	}
	if random.IntN(40) == 0 {
		r.Result, r.RecordCount, r.ResponseDigest = []string{"forbidden", "quota_exceeded", "unavailable"}[random.IntN(3)], 0, ""
	}
	return r
}

// sides answers what the logs say of a call: as a rule the same on both sides, now
// and then one side only, with a difference, twice, or refused at first.
func sides(random *rand.Rand, r domain.AccessRecord) []domain.AccessRecord {
	other := r
	other.Direction = domain.DirectionConsumer
	other.Items = slices.Clone(r.Items)
	slices.Reverse(other.Items)
	other.At = r.At.Add(time.Duration(random.IntN(1500)) * time.Millisecond)
	switch random.IntN(60) {
	case 0:
		return []domain.AccessRecord{r}
	case 1:
		return []domain.AccessRecord{other}
	case 2:
		other.RecordCount++
	case 3:
		other.Purpose, other.GrantID = "其他", hexText(32, "other")
	case 4:
		other.At = other.At.Add(trail.Tolerance + time.Second)
	case 5:
		return []domain.AccessRecord{r, r, other}
	case 7, 8:
		refused := r
		refused.Result, refused.RecordCount, refused.ResponseDigest = "refused_quota", 0, ""
		if random.IntN(3) == 0 {
			return []domain.AccessRecord{r, refused, other}
		}
		return []domain.AccessRecord{refused, other, r}
	case 6:
		other.Consumer = Departments[(slices.Index(Departments, r.Consumer)+1)%len(Departments)]
	}
	return []domain.AccessRecord{r, other}
}

// History makes the logs of the calls that fill about n entries: the same ones
// for the same n. About five calls are made in a second.
func History(n int) []Log {
	return history(rand.New(rand.NewPCG(1, uint64(n))), n) //nolint:gosec // not for secrets
}

func history(random *rand.Rand, n int) []Log {
	logs := make([]Log, len(Departments))
	for i, d := range Departments {
		logs[i].Department = d
	}
	for i, entries := 0, 0; entries < n; i++ {
		at := Epoch.Add(time.Duration(i*200+random.IntN(3)*100) * time.Millisecond)
		for _, r := range sides(random, call(random, i, at)) {
			if entries == n {
				break
			}
			entries++
			l := &logs[slices.Index(Departments, r.Writer())]
			index := uint64(len(l.Entries))
			l.Entries = append(l.Entries, NewEntry(index, r, 0))
		}
	}
	for _, l := range logs {
		for i := range l.Entries {
			l.Entries[i].AnchorSize = min(uint64(i)/50*50+50, uint64(len(l.Entries))) //nolint:gosec // not negative
		}
	}
	return logs
}
