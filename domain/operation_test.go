package domain

import "testing"

func TestOperationOf(t *testing.T) {
	// The value binds the operations that ledgers remember: it must never change.
	const want = "ac4357bc592c110f57bb3ca26b67cd5f"
	if got := OperationOf("police", RoleOperator, "case-1"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	seen := make(map[string]bool)
	for _, o := range []string{
		OperationOf("police", RoleOperator, "case-1"), OperationOf("police", RoleReviewer, "case-1"), OperationOf("civil", RoleOperator, "case-1"),
		OperationOf("police", RoleOperator, "case-2"), OperationOf("policeo", "perator", "case-1"),
	} {
		if seen[o] {
			t.Errorf("%s is two operations", o)
		}
		seen[o] = true
	}
}
