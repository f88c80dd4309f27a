package network

import (
	"fmt"
	"os"
	"slices"
)

// change is how an edited definition differs from the one that was accepted last, if one
// of the commands can bring a running consortium there.
type change struct {
	command string // that brings it there; empty if none can
	what    string
	added   []Department
}

// changeTo compares the definition with an edited one.
func (d *Definition) changeTo(edited *Definition) change {
	if d.Digest() == edited.Digest() {
		return change{}
	}
	as := *edited
	as.Chaincode.Version = d.Chaincode.Version
	if as.Digest() == d.Digest() {
		return change{
			command: "upgrade",
			what:    fmt.Sprintf("the chaincode's version is %s and was %s", edited.Chaincode.Version, d.Chaincode.Version),
		}
	}
	as = *edited
	as.Ordering = d.Ordering
	if as.Digest() == d.Digest() {
		return change{command: reorder, what: "the ordering's limits and timers are others"}
	}
	as = *edited
	if n := len(d.Departments); len(edited.Departments) == n+1 {
		as.Departments = slices.Clone(edited.Departments[:n])
		if as.Digest() == d.Digest() {
			added := edited.Departments[n]
			return change{command: "add-department", what: fmt.Sprintf("it has the department %s besides", added.Code), added: []Department{added}}
		}
	}
	return change{}
}

// edited is the definition at DefinitionPath, which may differ from the operation's own
// in what the command brings about and in nothing else.
func (o *operation) edited(command string) (*Definition, change, error) {
	next, err := LoadDefinition(o.DefinitionPath)
	if err != nil {
		return nil, change{}, err
	}
	next.setSlot(o.state.Slot)
	if next.Digest() == o.def.Digest() {
		return next, change{}, nil
	}
	c := o.def.changeTo(next)
	if c.command != command {
		return nil, c, problem(fmt.Sprintf("restore it (cp %s %s) and make that edit only", o.Layout.DefinitionCopy(), o.DefinitionPath),
			"%s differs from the consortium's definition in something else than %s changes", o.DefinitionPath, command)
	}
	return next, c, nil
}

// accept makes the definition at DefinitionPath the consortium's own.
func (o *operation) accept(next *Definition) error {
	source, err := os.ReadFile(o.DefinitionPath)
	if err != nil {
		return err
	}
	// The copy first: the digest in the state says which of the two is meant.
	if err := writeFile(o.Layout.DefinitionCopy(), source, 0o644); err != nil {
		return err
	}
	o.def = next
	o.state.Definition = next.Digest()
	return o.Layout.saveState(o.state)
}
