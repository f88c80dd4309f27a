package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hyperledger/fabric-sdk-go/pkg/client/resmgmt"
	"golang.org/x/sync/errgroup"
)

// makeGenesis makes the first block of the channel, once: it fixes the departments,
// their roots and the ordering rules.
func makeGenesis(ctx context.Context, l Layout, def *Definition) (bool, error) {
	if exists(l.GenesisBlock()) {
		return false, nil
	}
	config, err := renderTemplate("configtx.yaml.tmpl", l, def, Department{}, nil)
	if err != nil {
		return false, err
	}
	dir := filepath.Dir(l.GenesisBlock())
	if err := writeFile(filepath.Join(dir, "configtx.yaml"), config, 0o600); err != nil {
		return false, err
	}
	draft := l.GenesisBlock() + ".draft"
	cmd := exec.CommandContext(ctx, l.Program("configtxgen"), "-configPath", dir, "-profile", "consortium",
		"-channelID", def.Channel, "-outputBlock", draft)
	cmd.Env = append(cleanEnvironment(), "FABRIC_LOGGING_SPEC=warn")
	if out, err := cmd.CombinedOutput(); err != nil {
		return false, fmt.Errorf("configtxgen: %w: %s", err, lastLine(out))
	}
	return true, os.Rename(draft, l.GenesisBlock())
}

// joinOrderers makes every orderer take part in the channel. It returns how many had to
// be asked.
func joinOrderers(ctx context.Context, l Layout, def *Definition) (int, error) {
	joined := make([]bool, len(def.Departments))
	group, ctx := errgroup.WithContext(ctx)
	for i, dept := range def.Departments {
		group.Go(func() error {
			var err error
			joined[i], err = joinOrderer(ctx, l, def, dept, l.GenesisBlock())
			if err != nil {
				return &Problem{
					Cause:  fmt.Sprintf("orderer-%s does not join channel %s: %v", dept.Code, def.Channel, err),
					Remedy: "see " + l.Log("orderer-"+dept.Code) + " and run up again", Err: err,
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return count(joined), err
}

// joinOrderer makes an orderer take part in the channel, which it learns of from a
// configuration block.
func joinOrderer(ctx context.Context, l Layout, def *Definition, dept Department, block string) (bool, error) {
	// Joining twice is refused with a status of its own, so ask first.
	out, err := osnadmin(ctx, l, dept, "list", "--channelID", def.Channel)
	if err != nil {
		return false, err
	}
	if strings.Contains(out, "Status: 200") {
		return false, nil
	}
	out, err = osnadmin(ctx, l, dept, "join", "--channelID", def.Channel, "--config-block", block)
	if err != nil {
		return false, err
	}
	if !strings.Contains(out, "Status: 201") {
		return false, fmt.Errorf("osnadmin: %s", strings.Join(strings.Fields(out), " "))
	}
	return true, nil
}

// osnadmin runs a command against the admin endpoint of a department's orderer, which
// accepts that department's operations certificate only.
func osnadmin(ctx context.Context, l Layout, dept Department, command string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.Program("osnadmin"), append([]string{
		"channel", command,
		"--orderer-address", net.JoinHostPort(dept.Host, strconv.Itoa(dept.Ports.OrdererAdmin)),
		"--ca-file", l.Department(dept.Code, "operations", "ca.pem"),
		"--client-cert", l.Department(dept.Code, "operations", "client.pem"),
		"--client-key", l.Department(dept.Code, "operations", "client.key"),
	}, args...)...)
	cmd.Env = cleanEnvironment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("osnadmin %s: %w: %s", command, err, lastLine(out))
	}
	return string(out), nil
}

// joinPeers makes every peer take part in the channel. It returns how many had to be
// asked.
func joinPeers(ctx context.Context, l Layout, admins *administrators) (int, error) {
	joined := make([]bool, len(admins.def.Departments))
	group, ctx := errgroup.WithContext(ctx)
	for i, dept := range admins.def.Departments {
		group.Go(func() error {
			var err error
			joined[i], err = admins.joinPeer(ctx, dept.Code)
			if err != nil {
				return &Problem{
					Cause:  fmt.Sprintf("peer-%s does not join channel %s: %v", dept.Code, admins.def.Channel, err),
					Remedy: "see " + l.Log("peer-"+dept.Code) + " and run up again", Err: err,
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return count(joined), err
}

func (a *administrators) joinPeer(ctx context.Context, code string) (bool, error) {
	client, err := a.resources(code)
	if err != nil {
		return false, err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		channels, err := client.QueryChannels(resmgmt.WithTargetEndpoints(peerName(code)), patience(), resmgmt.WithParentContext(ctx))
		if err == nil {
			for _, c := range channels.Channels {
				if c.ChannelId == a.def.Channel {
					return false, nil
				}
			}
			err = client.JoinChannel(a.def.Channel, resmgmt.WithTargetEndpoints(peerName(code)),
				resmgmt.WithOrdererEndpoint(ordererName(code)), patience(), unhurried(), resmgmt.WithParentContext(ctx))
		}
		if err == nil {
			return true, nil
		}
		// The orderer serves the genesis block only when it has caught up with the
		// others, the peer answers before it has loaded its system chaincodes.
		if time.Now().After(deadline) {
			return false, err
		}
		if err := sleep(ctx, 300*time.Millisecond); err != nil {
			return false, err
		}
	}
}

func count(flags []bool) int {
	n := 0
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}
