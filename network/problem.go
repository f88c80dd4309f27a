package network

import "fmt"

// Problem is a failure that a person can mend: what is wrong and what to do about it,
// both on one line.
type Problem struct { //nolint:errname // commands show it as a problem with its remedy
	Cause  string // what is wrong, with the names of the things involved
	Remedy string // what to do
	Err    error  // the error behind it, may be nil
}

func (p *Problem) Error() string { return p.Cause + "; " + p.Remedy }

func (p *Problem) Unwrap() error { return p.Err }

func problem(remedy, format string, args ...any) *Problem {
	return &Problem{Cause: fmt.Sprintf(format, args...), Remedy: remedy}
}
