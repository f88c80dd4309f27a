package chaincode_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/zhenglian/zhenglian/chaincode/chaincodetest"
	"github.com/zhenglian/zhenglian/domain"
)

// hostileArguments is how many arguments [TestHostileArguments] makes.
const hostileArguments = 10_000

// TestHostileArguments runs every transaction with arguments that started as a
// valid one and were damaged: each is refused with a kind and writes nothing, or
// it is as valid as the one it started from.
func TestHostileArguments(t *testing.T) {
	r := rand.New(rand.NewPCG(2026, 3))
	all := cases()
	type target struct {
		transactionCase
		world *world
		arg   string
	}
	targets := make([]target, len(all))
	for i, tc := range all {
		w := tc.prepared(t)
		targets[i] = target{tc, w, canonical(t, tc.arg(w))}
		// The parser below writes what it read, so that damage is the only difference.
		if root, ok := parseTree(targets[i].arg); !ok || root.text() != targets[i].arg {
			t.Fatalf("%s: %q comes out differently", tc.name, targets[i].arg)
		}
	}
	refusals := make(map[string]int)
	for n := range hostileArguments {
		to := targets[n%len(targets)]
		arg := damage(r, to.arg)
		p := to.world.proposal(to.who, to.name, arg)
		if r.IntN(8) == 0 {
			p.Args = append(p.Args, damage(r, operation))
		}
		result := to.world.ledger.Simulate(to.world.chaincode, p)
		checkHostile(t, p, result)
		if !result.OK() {
			refusals[to.name]++
		}
	}
	for _, to := range targets {
		if refusals[to.name] < hostileArguments/len(targets)/2 {
			t.Errorf("%s: only %d refusals; the arguments are not hostile", to.name, refusals[to.name])
		}
	}
}

func checkHostile(t testing.TB, p chaincodetest.Proposal, r chaincodetest.Result) {
	t.Helper()
	shown := p.Args[0]
	if len(shown) > 500 {
		shown = shown[:500] + "…"
	}
	if r.OK() {
		if !utf8.ValidString(p.Args[0]) || !json.Valid([]byte(p.Args[0])) {
			t.Errorf("%s(%q) is allowed", p.Function, shown)
		}
		return
	}
	e, known := domain.ParseError(r.Message)
	if !known || !slices.Contains(domain.Kinds, e.Kind) || e.Msg == "" {
		t.Errorf("%s(%q): %q is no refusal", p.Function, shown, r.Message)
	}
	if len(r.Writes)+len(r.Policies) != 0 {
		t.Errorf("%s(%q): refused, and writes %d keys", p.Function, shown, len(r.Writes))
	}
	if !utf8.ValidString(r.Message) || len(r.Message) > maxMessage {
		t.Errorf("%s(%q): a message of %d bytes", p.Function, shown, len(r.Message))
	}
}

// damage changes an argument: most of the time a value of its JSON, so that what
// comes out still has the form that the transaction expects, otherwise its bytes.
func damage(r *rand.Rand, arg string) string {
	root, ok := parseTree(arg)
	if !ok || r.IntN(4) == 0 {
		return damageBytes(r, arg)
	}
	for range 1 + r.IntN(2) {
		nodes := root.all(nil)
		damageNode(r, nodes[r.IntN(len(nodes))])
	}
	return root.text()
}

func damageBytes(r *rand.Rand, arg string) string {
	b := []byte(arg)
	at := r.IntN(len(b) + 1)
	insert := func(s string) string { return string(slices.Insert(slices.Clone(b), at, []byte(s)...)) }
	switch r.IntN(8) {
	case 0:
		return arg[:at]
	case 1:
		return arg + arg
	case 2:
		return insert("\xff\xfe")
	case 3:
		return insert("\x00")
	case 4:
		return insert(strings.Repeat("[", 1+r.IntN(20_000)))
	case 5:
		return strings.Repeat(`{"content":`, 1+r.IntN(5_000)) + arg
	case 6:
		return "\ufeff" + arg
	}
	if at < len(b) {
		b[at] ^= byte(1 + r.IntN(255))
	}
	return string(b)
}

// hostileValues are JSON texts to put in place of a value, in canonical form
// where there is one, so that they get past the form to the rules.
var hostileValues = []string{
	"null", "true", "false", "{}", "[]", "[null]", "[[]]", `{"constructor":{}}`, `""`, `" "`, `"~"`, `"cat~x"`, `"/"`, `"\u0000"`, `"\ud800"`,
	`"\u202e开"`, `"😀"`, `"11010119900307123X"`, `"ffeeddccbbaa99887766554433221100"`, `"307003/999999"`, `"2026-02-30"`,
	`"9999-12-31T23:59:59Z"`, `"0001-01-01T00:00:00Z"`, `"2026-03-02T12:00:00+08:00"`, `"approve"`, `"return"`, `"refuse"`, `"reject"`, `"revoke"`, `"none"`,
	"0", "-1", "1", "3", "201", "16777216", "-0", "1e400", "1.5", "1e3", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
	"123456789012345678901234567890", strings.Repeat("9", 5_000),
}

// damageNode puts something else in place of a value, or changes the members of
// an object or a list.
func damageNode(r *rand.Rand, n *node) {
	switch what := r.IntN(10); {
	case what < 3 && len(n.children) > 0:
		at := r.IntN(len(n.children))
		switch r.IntN(5) {
		case 0: // leave out
			n.children = slices.Delete(n.children, at, at+1)
		case 1: // repeat
			n.children = append(n.children, n.children[at])
		case 2: // repeat often
			for range 600 {
				n.children = append(n.children, n.children[at])
			}
		case 3: // swap with the first
			n.children[0], n.children[at] = n.children[at], n.children[0]
		case 4: // another name
			names := []string{"", "x", "Content", "__proto__", strings.ToUpper(n.children[at].name), strings.Repeat("n", 300), "\u0000"}
			other := *n.children[at]
			other.name = names[r.IntN(len(names))]
			n.children[at] = &other
		}
	case what == 3:
		long, _ := json.Marshal(strings.Repeat("长", 1+r.IntN(3_000)))
		n.become(string(long))
	case what == 4:
		depth := 1 + r.IntN(12_000)
		n.become(strings.Repeat("[", depth) + strings.Repeat("]", depth))
	case what == 5:
		depth := 1 + r.IntN(3_000)
		n.become(strings.Repeat(`{"items":`, depth) + "1" + strings.Repeat("}", depth))
	default:
		n.become(hostileValues[r.IntN(len(hostileValues))])
	}
}

// node is a JSON value whose members keep their order.
type node struct {
	name     string // in an object
	open     byte   // '{', '[' or 0 for a scalar
	children []*node
	scalar   string // JSON text
}

func (n *node) become(text string) { n.open, n.children, n.scalar = 0, nil, text }

// all lists the node and everything below it.
func (n *node) all(list []*node) []*node {
	list = append(list, n)
	for _, c := range n.children {
		list = c.all(list)
	}
	return list
}

func (n *node) text() string {
	if n.open == 0 {
		return n.scalar
	}
	var parts []string
	for _, c := range n.children {
		text := c.text()
		if n.open == '{' {
			name, _ := json.Marshal(c.name)
			text = string(name) + ":" + text
		}
		parts = append(parts, text)
	}
	return string(n.open) + strings.Join(parts, ",") + string(n.open+2) // '}' and ']' come two after
}

// parseTree parses a canonical argument. It reports false for anything else.
func parseTree(text string) (*node, bool) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	root := parseNode(dec)
	return root, root != nil && root.open != 0
}

func parseNode(dec *json.Decoder) *node {
	token, err := dec.Token()
	if err != nil {
		return nil
	}
	delim, compound := token.(json.Delim)
	if !compound {
		scalar, err := domain.Canonical(token)
		if err != nil {
			return nil
		}
		return &node{scalar: string(scalar)}
	}
	n := &node{open: byte(delim)}
	for dec.More() {
		var name string
		if n.open == '{' {
			token, err := dec.Token()
			if err != nil {
				return nil
			}
			name, _ = token.(string)
		}
		child := parseNode(dec)
		if child == nil {
			return nil
		}
		child.name = name
		n.children = append(n.children, child)
	}
	if _, err := dec.Token(); err != nil {
		return nil
	}
	return n
}
