package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// operation is one run of a command that changes a consortium while it is up.
type operation struct {
	*Consortium
	def        *Definition
	state      State
	supervisor *supervisor
	admins     *administrators
	unlock     func()
}

// operate prepares a command on a running consortium and keeps other commands out until
// close. It refuses, as a [*Problem], what is not up.
func (c *Consortium) operate(ctx context.Context) (*operation, error) {
	state, err := c.Layout.LoadState()
	if errors.Is(err, fs.ErrNotExist) || err == nil && !state.Complete {
		return nil, problem("run make up first", "there is no complete consortium in %s", c.Layout.State)
	}
	if err != nil {
		return nil, err
	}
	def, err := c.Definition()
	if err != nil {
		return nil, err
	}
	copied := *c
	o := &operation{Consortium: &copied, def: def, state: state, supervisor: newSupervisor(c.Layout)}
	if !o.supervisor.alive(ctx) {
		if own := c.Layout.administered(def); len(own) < len(def.Departments) {
			return nil, problem("change the channel with zhenglian-network config", "%s has the keys of %d of %d departments and this command needs all", c.Layout.State, len(own), len(def.Departments))
		}
		return nil, problem("run make up first", "the consortium in %s is down", c.Layout.State)
	}
	known, err := o.supervisor.list(ctx)
	if err != nil {
		return nil, err
	}
	if known["gateway-"+def.Lead].Status == "Disabled" { // up --without-gateways
		o.Gateways = false
	}
	if o.unlock, err = c.lock(); err != nil {
		return nil, err
	}
	if err := o.connect(); err != nil {
		o.unlock()
		return nil, err
	}
	return o, nil
}

// connect makes the administrators those of the operation's definition.
func (o *operation) connect() error {
	if o.admins != nil {
		o.admins.close()
		o.admins = nil
	}
	admins, err := connectAdministrators(o.Layout, o.def)
	o.admins = admins
	return err
}

func (o *operation) close() {
	if o.admins != nil {
		o.admins.close()
	}
	o.unlock()
}

// department is the department with the code, or a [*Problem].
func (o *operation) department(code string) (Department, error) {
	dept, ok := o.def.Department(code)
	if !ok {
		return Department{}, problem("name one with --department", "%q is no department of the consortium", code)
	}
	return dept, nil
}

// signers are the departments that sign a change of the channel: first, and as many others
// as make a majority. The lead comes before the rest.
func (o *operation) signers(first string) []string {
	codes := []string{first}
	if first != o.def.Lead {
		codes = append(codes, o.def.Lead)
	}
	for _, dept := range o.def.Departments {
		if !slices.Contains(codes, dept.Code) {
			codes = append(codes, dept.Code)
		}
	}
	return codes[:o.def.Quorum()]
}

// listeners are the ports of one department's processes of the kinds.
func (o *operation) listeners(dept Department, kinds ...string) []Listener {
	var all []Listener
	for _, lis := range dept.Listeners() {
		if slices.ContainsFunc(kinds, func(kind string) bool { return lis.Process == dept.process(kind) }) {
			all = append(all, lis)
		}
	}
	return all
}

// restart stops the department's processes of the kinds in this order, starts them in the
// opposite one and waits until they listen.
func (o *operation) restart(ctx context.Context, dept Department, kinds ...string) error {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = dept.process(kind)
	}
	if err := o.supervisor.end(ctx, names...); err != nil {
		return err
	}
	back := slices.Clone(kinds)
	slices.Reverse(back)
	return o.start(ctx, dept, back...)
}

// start starts the department's processes of the kinds in this order; those of a gateway
// that nobody asked for stay down.
func (o *operation) start(ctx context.Context, dept Department, kinds ...string) error {
	for _, kind := range kinds {
		if kind == "gateway" && !o.Gateways {
			continue
		}
		if err := o.supervisor.start(ctx, o.listeners(dept, kind), 60*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// restartGateways restarts the gateways one after the other, so that at most one is away,
// and waits until each is ready.
func (o *operation) restartGateways(ctx context.Context, departments ...Department) (string, error) {
	if !o.Gateways {
		return "none runs", nil
	}
	for _, dept := range departments {
		if err := o.restart(ctx, dept, "gateway"); err != nil {
			return "", err
		}
		if err := o.awaitReady(ctx, dept); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d ready", len(departments)), nil
}

// readyWait bounds how long a department may take to work again after its processes
// started: its index reads what the channel did meanwhile.
const readyWait = 120 * time.Second

// awaitReady waits until the department's gateway is ready.
func (o *operation) awaitReady(ctx context.Context, dept Department) error {
	if !o.Gateways {
		return nil
	}
	one := &Definition{Departments: []Department{dept}}
	for deadline := time.Now().Add(readyWait); ; {
		g := o.gateways(ctx, one)[0]
		if g.Ready {
			return nil
		}
		if time.Now().After(deadline) {
			return problem("see "+o.Layout.Log("gateway-"+dept.Code), "gateway-%s is not ready: %s", dept.Code, g.Detail)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// awaitHeight waits until the department's peer has the block before height.
func (o *operation) awaitHeight(ctx context.Context, code string, height uint64) (Height, error) {
	for deadline := time.Now().Add(readyWait); ; {
		h := o.admins.height(ctx, code)
		if h.Error == "" && h.Height >= height {
			return h, nil
		}
		if time.Now().After(deadline) {
			return h, problem("see "+o.Layout.Log("peer-"+code), "peer-%s has %d of %d blocks: %s", code, h.Height, height, h.Error)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return h, err
		}
	}
}

// rerender renders every department and the trust file anew.
func (o *operation) rerender() error {
	_, packageID, err := loadPackage(o.Layout, o.def.Chaincode)
	if err != nil {
		return err
	}
	for _, dept := range o.def.Departments {
		if err := renderDepartment(o.Layout, o.def, dept, packageID); err != nil {
			return err
		}
	}
	return writeTrust(o.Layout, o.def)
}
