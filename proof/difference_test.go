package proof_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// secondVerifier is the command of the verifier in proof/js, as its build makes it.
const secondVerifier = "js/dist/cli.js"

// question is what both verifiers are asked.
type question struct {
	name   string // says how it was made
	bundle []byte
	trust  []byte
	opts   questionOptions
}

// questionOptions are [proof.Options] as the second verifier reads them.
type questionOptions struct {
	At       string        `json:"at"`
	StatusAt string        `json:"statusAt"`
	Nonce    string        `json:"nonce"`
	Policy   *vectorPolicy `json:"policy,omitempty"`
}

// reply is what a verifier answers, as far as the two must agree: in everything but
// the words of the reasons.
type reply struct {
	Overall   string
	Outcomes  []string // question: outcome
	Signers   []domain.DepartmentCode
	Statement *domain.Statement
}

// TestSecondVerifier asks this package and the verifier in proof/js the same, and
// compares what they answer: about every vector, a record of every kind, every
// flipped bit of one bundle, and changes that a seed chooses. ZHENGLIAN_TEST_DIFFERENCES is the number of
// the latter (6,000 if not given), ZHENGLIAN_TEST_SEED the seed.
//
// It is skipped where the second verifier is not built, unless CI or
// ZHENGLIAN_TEST_DIFFERENCES is set.
func TestSecondVerifier(t *testing.T) {
	wanted := os.Getenv("ZHENGLIAN_TEST_DIFFERENCES")
	count := 6000
	if wanted != "" {
		var err error
		if count, err = strconv.Atoi(wanted); err != nil {
			t.Fatalf("ZHENGLIAN_TEST_DIFFERENCES: %v", err)
		}
	}
	if _, err := os.Stat(secondVerifier); err != nil && wanted == "" && os.Getenv("CI") == "" {
		t.Skip("the second verifier is not built: run make test-js")
	}
	if testing.Short() {
		t.Skip("short: it has no goroutines of the package to race")
	}
	seed := uint64(1)
	if text := os.Getenv("ZHENGLIAN_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("ZHENGLIAN_TEST_SEED: %v", err)
		}
	}
	m := newMutator(t, seed)
	questions := func(ask func(question) bool) {
		for _, q := range m.vectors {
			if !ask(q) {
				return
			}
		}
		for _, r := range recordsOfEveryKind(m.world) {
			status, err := domain.StatementStatus(r.kind, r.bytes, prooftest.Epoch)
			if err != nil {
				panic(err)
			}
			s := m.world.Statement(r.kind, r.id, prooftest.Nonce, r.bytes, status)
			for _, opts := range []questionOptions{{}, {At: "2026-03-02T10:00:00Z"}, {StatusAt: "2026-03-03T01:00:00Z"}, {StatusAt: "2026-01-01T00:00:00Z"}} {
				if !ask(question{"a record of kind " + string(r.kind), m.world.Attest(s).File(), m.trust, opts}) {
					return
				}
			}
		}
		flipped := alone()
		if !ask(flipped) {
			return
		}
		for i := range len(flipped.bundle) * 8 {
			bad := slices.Clone(flipped.bundle)
			bad[i/8] ^= 1 << (i % 8)
			if !ask(question{fmt.Sprintf("bit %d of byte %d flipped", i%8, i/8), bad, flipped.trust, flipped.opts}) {
				return
			}
		}
		for range count {
			if !ask(m.next()) {
				return
			}
		}
	}
	start := time.Now()
	asked, accepted := compareVerifiers(t, questions)
	t.Logf("%d questions, %d of them to proofs that hold, in %v (seed %d)", asked, accepted, time.Since(start).Round(time.Millisecond), seed)
	if asked < count+len(m.vectors) || accepted < 25 {
		t.Error("too few were asked")
	}
}

// compareVerifiers runs the second verifier once and asks both, until they have
// disagreed a few times.
func compareVerifiers(t *testing.T, questions func(func(question) bool)) (asked, accepted int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "node", secondVerifier, "--stdin")
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	type pair struct {
		question
		first reply
	}
	pairs := make(chan pair, 256)
	failed := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		defer close(pairs)
		failed <- askSecond(in, func(ask func(question) error) error {
			first := map[string]*proof.Verifier{}
			var err error
			questions(func(q question) bool {
				select {
				case <-stop:
					return false
				default:
				}
				if err = ask(q); err == nil {
					pairs <- pair{q, askFirst(first, q)}
				}
				return err == nil
			})
			return err
		})
	}()
	answers := bufio.NewReaderSize(out, 1<<20)
	differences := 0
	for p := range pairs {
		line, err := answers.ReadBytes('\n')
		if err != nil {
			t.Fatalf("the second verifier ended at %s: %v", p.name, err)
		}
		second, err := readReply(line)
		if err != nil {
			t.Fatalf("%s: %v: %.200s", p.name, err, line)
		}
		asked++
		if p.first.Overall != "bad_proof" && p.first.Overall != "cannot_check" {
			accepted++
		}
		if diff := cmp.Diff(p.first, second); diff != "" {
			t.Errorf("%s (options %+v): (-first +second)\n%s", p.name, p.opts, diff)
			if dir := os.Getenv("ZHENGLIAN_TEST_KEEP"); dir != "" {
				keep(t, dir, differences, p.question)
			}
			if differences++; differences == 10 {
				close(stop)
			}
		}
	}
	if err := errors.Join(<-failed, command.Wait()); err != nil {
		t.Fatal(err)
	}
	return asked, accepted
}

// keep writes what the verifiers disagree on for somebody to look at.
func keep(t *testing.T, dir string, n int, q question) {
	t.Helper()
	for name, data := range map[string][]byte{".zlproof": q.bundle, ".json": q.trust} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("difference-%d%s", n, name)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func askSecond(in io.WriteCloser, questions func(func(question) error) error) error {
	w := bufio.NewWriterSize(in, 1<<16)
	err := questions(func(q question) error {
		line, err := json.Marshal(map[string]any{
			"bundle": base64.StdEncoding.EncodeToString(q.bundle), "anchors": base64.StdEncoding.EncodeToString(q.trust), "options": q.opts,
		})
		if err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return w.Flush()
	})
	return errors.Join(err, w.Flush(), in.Close())
}

// askFirst asks this package as its users do: a trust file that cannot be read
// decides nothing. known keeps what was read.
func askFirst(known map[string]*proof.Verifier, q question) reply {
	verifier, seen := known[string(q.trust)]
	if !seen {
		if len(known) > 1000 {
			clear(known)
		}
		if anchors, err := proof.ParseAnchors(q.trust); err == nil {
			if verifier, err = proof.NewVerifier(anchors); err != nil {
				panic(err) // cannot be: ParseAnchors has checked them
			}
		}
		known[string(q.trust)] = verifier
	}
	if verifier == nil {
		return replyOf(proof.Verify(q.bundle, nil, proof.Options{}))
	}
	opts := proof.Options{Nonce: q.opts.Nonce}
	for text, into := range map[string]*time.Time{q.opts.At: &opts.At, q.opts.StatusAt: &opts.StatusAt} {
		if text != "" {
			at, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				panic(err)
			}
			*into = at
		}
	}
	if q.opts.At == q.opts.StatusAt {
		opts.At = opts.StatusAt
	}
	if p := q.opts.Policy; p != nil {
		opts.Policy = proof.Policy{Quorum: p.Quorum, Departments: p.Departments, Issuer: p.Issuer}
	}
	return replyOf(verifier.Verify(q.bundle, opts))
}

func replyOf(v proof.Verdict) reply {
	r := reply{Overall: string(v.Overall), Signers: v.Signers, Statement: v.Statement}
	if v.Overall == proof.CannotCheck {
		r.Overall = "cannot_check"
	}
	for _, check := range v.Checks {
		r.Outcomes = append(r.Outcomes, string(check.Question)+": "+string(check.Outcome))
	}
	return r
}

func readReply(line []byte) (reply, error) {
	var answer struct {
		proof.Verdict
		Error string
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return reply{}, err
	}
	if answer.Error != "" || len(answer.Checks) == 0 {
		return reply{}, fmt.Errorf("not answered: %s", answer.Error)
	}
	r := replyOf(answer.Verdict)
	r.Overall = string(answer.Overall)
	return r, nil
}

// mutator makes questions from vectors and a seed.
type mutator struct {
	random  *rand.Rand
	world   *prooftest.Consortium
	trust   []byte
	vectors []question
	holding []question // those of them that hold
}

func newMutator(t *testing.T, seed uint64) *mutator {
	t.Helper()
	world := prooftest.New()
	m := &mutator{random: rand.New(rand.NewPCG(seed, 20260302)), world: world, trust: world.TrustFile()}
	files, err := filepath.Glob(filepath.Join(vectorDir, "*.json"))
	if err != nil || len(files) < 85 {
		t.Fatalf("%d vectors: %v", len(files), err)
	}
	for _, file := range files {
		v, _, _, bundle := readVector(t, file)
		trust, err := os.ReadFile(filepath.Join(trustDir, v.Trust))
		if err != nil {
			t.Fatal(err)
		}
		q := question{"vector " + filepath.Base(file), bundle, trust, questionOptions{At: v.At, StatusAt: v.StatusAt, Nonce: v.Nonce, Policy: v.Policy}}
		m.vectors = append(m.vectors, q)
		if v.Expect != "bad_proof" && v.Expect != "cannot_check" {
			m.holding = append(m.holding, q)
		}
	}
	return m
}

// alone is the smallest proof: of a consortium of one department.
func alone() question {
	c := prooftest.New()
	c.Departments, c.Quorum = c.Departments[:1], 1
	return question{"alone", c.AttestNothing().File(), c.TrustFile(), questionOptions{}}
}

func pick[T any](m *mutator, list []T) T { return list[m.random.IntN(len(list))] }

// next makes one question. A quarter changes bytes of a file, a quarter what its
// base64 holds, a quarter messages and records before they are signed, and the
// rest the options, the trust file, or how a file is put together.
func (m *mutator) next() question {
	q := pick(m, m.holding)
	from := strings.TrimSuffix(strings.TrimPrefix(q.name, "vector "), ".json")
	ways := []struct {
		name string
		make func(question) question
	}{
		{"bytes", m.bytes}, {"bytes", m.bytes}, {"decoded", m.decoded}, {"decoded", m.decoded}, {"signed message", m.signedMessage},
		{"signed record", m.signedRecord}, {"spelling", m.spelling}, {"transplant", m.transplant}, {"signature", m.signature}, {"options", m.options}, {"trust", m.trustFile},
	}
	way := pick(m, ways)
	q = way.make(q)
	if m.random.IntN(4) == 0 {
		q = m.options(q)
	}
	q.name = way.name + " of " + from
	return q
}

// garble changes, cuts, repeats, moves or adds bytes.
func (m *mutator) garble(data []byte) []byte {
	data = slices.Clone(data)
	if len(data) == 0 {
		return []byte{byte(m.random.IntN(256))}
	}
	at := m.random.IntN(len(data))
	length := 1 + m.random.IntN(min(8, len(data)-at))
	switch m.random.IntN(7) {
	case 0:
		data[at] ^= 1 << m.random.IntN(8)
	case 1:
		data[at] = pick(m, []byte{0x00, 0x01, 0x7f, 0x80, 0xff, '"', '0', 'A', '\n', ' '})
	case 2:
		data = data[:at]
	case 3:
		data = slices.Delete(data, at, at+length)
	case 4:
		data = slices.Insert(data, at, slices.Clone(data[at:at+length])...)
	case 5:
		data = append(data, pick(m, [][]byte{{0}, {'\n'}, {' '}, []byte("{}"), []byte("null"), data})...)
	case 6:
		to := m.random.IntN(len(data))
		data[at], data[to] = data[to], data[at]
	}
	return data
}

func (m *mutator) bytes(q question) question {
	q.bundle = m.garble(q.bundle)
	return q
}

// edit changes a bundle as a structure; one that cannot be written stays as it was.
func edited(q question, change func(*proof.Bundle)) question {
	var b proof.Bundle
	if err := json.Unmarshal(q.bundle, &b); err != nil {
		panic(err)
	}
	change(&b)
	if data, err := proof.Encode(b); err == nil {
		q.bundle = data
	}
	return q
}

// part picks a field of a bundle that holds bytes.
func (m *mutator) part(b *proof.Bundle) *string {
	e := &b.Read.Endorsements[m.random.IntN(len(b.Read.Endorsements))]
	return pick(m, []*string{&b.Read.Proposal, &b.Read.Response, &e.Endorser, &e.Signature})
}

func (m *mutator) decoded(q question) question {
	return edited(q, func(b *proof.Bundle) {
		text := m.part(b)
		raw, err := base64.RawURLEncoding.DecodeString(*text)
		if err != nil {
			panic(err)
		}
		*text = base64.RawURLEncoding.EncodeToString(m.garble(raw))
	})
}

// spelling writes the same in another way.
func (m *mutator) spelling(q question) question {
	text := string(q.bundle)
	key := pick(m, []string{"format", "read", "proposal", "response", "endorsements", "endorser", "signature"})
	quoted := `"` + key + `"`
	b := m.random.IntN(len(text))
	value := pick(m, []string{`null`, `""`, `"x"`, `1`, `{}`, `[]`})
	changes := []func() string{
		func() string { return strings.Replace(text, quoted, `"`+strings.ToUpper(key)+`"`, 1) },
		func() string { return strings.Replace(text, quoted, `"`+strings.ToUpper(key[:1])+key[1:]+`"`, 1) },
		func() string { return strings.Replace(text, quoted, quoted+":"+value+","+quoted, 1) },
		func() string {
			return strings.Replace(text, quoted, `"`+strings.ToUpper(key)+`":`+value+","+quoted, 1)
		},
		func() string { return strings.Replace(text, quoted, fmt.Sprintf(`"\u%04x%s"`, key[0], key[1:]), 1) },
		func() string { return strings.Replace(text, `":`, `" :`, 1) },
		func() string { return strings.Replace(text, `"zhenglian-proof/1"`, `"zhenglian-proof/`+value+`"`, 1) },
		func() string {
			return strings.Replace(text, `"zhenglian-proof/1"`, pick(m, []string{`"zhenglian-proof/2"`, `"zhenglian-proof/"`, `"zhenglian-proof\/1"`, `"Zhenglian-proof/1"`}), 1)
		},
		func() string {
			return strings.Replace(text, `{"format":"zhenglian-proof/1"`, `{"FORMAT":"zhenglian-proof/2","format":"zhenglian-proof/1"`, 1)
		},
		func() string {
			return strings.Replace(text, `{"format":"zhenglian-proof/1"`, `{"format":"zhenglian-proof/2","format":"zhenglian-proof/1"`, 1)
		},
		func() string {
			return strings.Replace(text, `{"format":"zhenglian-proof/1"`, `{"format":"zhenglian-proof/1","format":"zhenglian-proof/3"`, 1)
		},
		func() string {
			return text[:b] + pick(m, []string{"\\", "\u2028", "\ufeff", "é", "=", "\\n"}) + text[b:]
		},
		func() string { return "\ufeff" + text },
		func() string { return "[" + text + "]" },
	}
	q.bundle = []byte(pick(m, changes)())
	return q
}

// transplant takes a part of another proof, or another's trust file.
func (m *mutator) transplant(q question) question {
	donor := pick(m, m.holding)
	if m.random.IntN(4) == 0 {
		q.trust = donor.trust
		return q
	}
	var from proof.Bundle
	if err := json.Unmarshal(donor.bundle, &from); err != nil {
		panic(err)
	}
	return edited(q, func(b *proof.Bundle) {
		e := b.Read.Endorsements
		i, j := m.random.IntN(len(e)), m.random.IntN(len(from.Read.Endorsements))
		switch m.random.IntN(8) {
		case 0:
			b.Read.Proposal = from.Read.Proposal
		case 1:
			b.Read.Response = from.Read.Response
		case 2:
			b.Read.Endorsements = from.Read.Endorsements
		case 3:
			e[i] = from.Read.Endorsements[j]
		case 4:
			e[i].Signature = from.Read.Endorsements[j].Signature
		case 5:
			b.Read.Endorsements = slices.Delete(e, i, i+1)
		case 6:
			b.Read.Endorsements = slices.Insert(e, i, e[i])
		case 7:
			k := m.random.IntN(len(e))
			e[i], e[k] = e[k], e[i]
		}
	})
}

// signature spells a signature in another way.
func (m *mutator) signature(q question) question {
	return edited(q, func(b *proof.Bundle) {
		text := &b.Read.Endorsements[m.random.IntN(len(b.Read.Endorsements))].Signature
		der, err := base64.RawURLEncoding.DecodeString(*text)
		if err != nil {
			panic(err)
		}
		switch m.random.IntN(5) {
		case 0:
			der = prooftest.HighS(der)
		case 1:
			der = append(der, 0)
		case 2:
			der = slices.Concat(der[:1], []byte{0x81}, der[1:])
		case 3: // a zero before r
			der = slices.Concat([]byte{der[0], der[1] + 1, der[2], der[3] + 1, 0}, der[4:])
		case 4:
			der = []byte{0x30, 6, 2, 1, byte(m.random.IntN(3)), 2, 1, byte(m.random.IntN(3))}
		}
		*text = base64.RawURLEncoding.EncodeToString(der)
	})
}

// signedMessage changes the bytes of one protobuf message before everything is
// signed, so that hashes and signatures hold.
func (m *mutator) signedMessage(q question) question {
	read := validRead(m.world)
	if m.random.IntN(3) == 0 {
		read = m.world.AttestNothing()
	}
	read.Signers = read.Signers[:3]
	name := pick(m, prooftest.Messages)
	seed := m.random.Uint64()
	read.Edit = map[prooftest.Message]func([]byte) []byte{name: func(data []byte) []byte {
		// A message that is written twice must be the same both times.
		same := *m
		same.random = rand.New(rand.NewPCG(seed, 1))
		return same.garble(data)
	}}
	q.bundle, q.trust, q.opts = read.File(), m.trust, questionOptions{}
	return q
}

// signedRecord changes the text of a statement or of the record in it before it is
// signed; half the records keep a digest that holds.
func (m *mutator) signedRecord(q question) question {
	reads := []*prooftest.Read{
		validRead(m.world), m.world.AttestCertificate(m.world.Revoked(), domain.CertificateRevoked), m.world.AttestDepartment(),
		m.world.AttestGrant(domain.GrantActive, domain.GrantActive), m.world.AttestRequest(domain.RequestAccepted, prooftest.Epoch.Add(time.Hour), domain.RequestAccepted),
	}
	read := pick(m, reads)
	read.Signers = read.Signers[:3]
	var s domain.Statement
	if err := json.Unmarshal(read.Payload, &s); err != nil {
		panic(err)
	}
	switch m.random.IntN(4) {
	case 0:
		read.Payload = m.garble(read.Payload)
	default:
		s.Record = m.respell(s.Record)
		if m.random.IntN(4) > 0 {
			s.Record = redigest(s.Record)
		}
		payload, err := domain.Canonical(s)
		if err != nil {
			panic(err)
		}
		read.Payload = payload
	}
	q.bundle, q.trust, q.opts = read.File(), m.trust, questionOptions{}
	return q
}

// respell changes the text of a record: its times, numbers, names, or any byte.
func (m *mutator) respell(record string) string {
	replace := func(old string, to ...string) string {
		at := strings.Index(record[m.random.IntN(len(record)):], old)
		if at < 0 {
			return strings.Replace(record, old, pick(m, to), 1)
		}
		start := strings.LastIndex(record[:len(record)-len(record[at:])+len(old)], old)
		if start < 0 {
			return strings.Replace(record, old, pick(m, to), 1)
		}
		return record[:start] + pick(m, to) + record[start+len(old):]
	}
	switch m.random.IntN(8) {
	case 0:
		return string(m.garble([]byte(record)))
	case 1:
		return replace("Z\"", "+08:00\"", "-00:00\"", "+00:00\"", "z\"", ".0Z\"", ".123456789Z\"", ".1234567891Z\"", ".10Z\"", ",5Z\"", "\"")
	case 2:
		return replace("2026-", "2025-", "0000-", "9999-", "10000-", "1969-", "-2026-", "2026-02-30", "02026-")
	case 3:
		return replace("T01:", "T1:", "T24:", "t01:", " 01:", "T23:", "T01:60:")
	case 4:
		return replace(":1", ":01", ":1.0", ":1e0", ":-1", ":-0", ":18446744073709551616", ":9223372036854775808", ":null", ":\"1\"", ":true")
	case 5:
		return replace("\":\"", "\":\"\\u0041", "\":\"\\/", "\":\"\\u000a", "\":\"\\n", "\":\"\u2028", "\":\"\\u2028", "\":\"\\ud800", "\":\"<", "\":\"\\u003c", "\":\"\x7f", "\":\"\xff", "\":null,\"x\":\"")
	case 6:
		return replace("[]", "null", "[null]", "{}", "[[]]", "\"\"")
	default:
		return replace(",\"", ", \"", ",\"x\":1,\"", ",\"seq\":1,\"", ",,\"", ",\"Z")
	}
}

// redigest gives a record the digest that holds, where it has one.
func redigest(record string) string {
	const field = `"digest":"`
	at := strings.Index(record, field)
	if at < 0 || len(record) < at+len(field)+64 {
		return record
	}
	start := at + len(field)
	digest := domain.Digest([]byte(record[:start] + record[start+64:]))
	return record[:start] + digest + record[start+64:]
}

func (m *mutator) options(q question) question {
	times := []string{"", "", "2026-03-02T01:30:00.123Z", "2026-03-02T01:25:00.122999999Z", "2026-03-03T01:30:00.123Z", "2026-03-03T01:30:00.123000001Z", "2026-02-28T09:30:00+08:00", "2030-01-01T00:00:00Z", "2026-02-20T01:30:00Z"}
	q.opts.At, q.opts.StatusAt = pick(m, times), pick(m, times)
	q.opts.Nonce = pick(m, []string{"", "", prooftest.Nonce, strings.Repeat("f", 32)})
	if q.opts.Policy = nil; m.random.IntN(2) == 0 {
		q.opts.Policy = &vectorPolicy{
			Quorum: m.random.IntN(6) - m.random.IntN(2), Issuer: pick(m, []proof.IssuerRule{"", "", proof.IssuerIncluded, proof.IssuerExcluded, "x"}),
			Departments: pick(m, [][]domain.DepartmentCode{nil, {}, {"police"}, {"bigdata", "civil", "market", "police"}, {"tax"}, {"police", "police"}}),
		}
	}
	return q
}

func (m *mutator) trustFile(q question) question {
	if m.random.IntN(3) == 0 {
		q.trust = m.garble(q.trust)
		return q
	}
	text := string(q.trust)
	changes := [][2]string{
		{`"quorum":3`, pick(m, []string{`"quorum":2`, `"quorum":4`, `"quorum":5`, `"quorum":0`, `"quorum":-1`, `"quorum":3.0`, `"quorum":"3"`})},
		{`"versions":["1.0"]`, pick(m, []string{`"versions":[]`, `"versions":null`, `"versions":["1.0","1.0"]`, `"versions":["2"]`, `"versions":["1.0","2"]`})},
		{`"code":"civil"`, pick(m, []string{`"code":"bigdata"`, `"code":"zebra"`, `"code":"Civil"`, `"code":""`})},
		{`"mspId":"CivilMSP"`, pick(m, []string{`"mspId":"PoliceMSP"`, `"mspId":""`, `"mspId":"CivilMsp"`})},
		{`"logKey":"`, pick(m, []string{`"logKey":"x`, `"crls":[],"logKey":"`, `"logKEY":"`})},
		{`"logOrigin":"zhenglian.example/log/civil"`, `"logOrigin":""`},
		{`"channel":"zhenglian"`, pick(m, []string{`"channel":"other"`, `"channel":"Zhenglian"`, `"channel":""`})},
		{`"nameEn":"`, pick(m, []string{`"nameEn":"\u0041`, `"nameEn":"` + strings.Repeat("政", 100), `"nameEn":"<`})},
		{`]}`, `],"crls":[]}`}, {`"}`, `","crls":[]}`}, {`"}`, `","crls":null}`}, {`"}`, `","crls":["x"]}`},
	}
	change := pick(m, changes)
	q.trust = []byte(strings.Replace(text, change[0], change[1], 1))
	return q
}

// TestShapes checks that the second verifier reads the records as they are: its
// fields are generated from the Go types.
func TestShapes(t *testing.T) {
	made := filepath.Join(t.TempDir(), "shapes.gen.ts")
	if out, err := exec.Command("go", "run", "js/gen/shapes.go", made).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("js/src/shapes.gen.ts")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("js/src/shapes.gen.ts is not what the records are: run npm run shapes in proof/js")
	}
}
