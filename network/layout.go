package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Layout says where things are. Both folders are absolute.
type Layout struct {
	State string // everything the running consortium needs and writes
	Bin   string // the programs

	hosted string // where State will be when the programs run, if elsewhere
}

// at is a path inside the state folder as the programs will see it.
func (l Layout) at(path string) string {
	if l.hosted == "" {
		return path
	}
	return filepath.Join(l.hosted, strings.TrimPrefix(path, l.State))
}

// NewLayout makes the folders absolute, because processes run in folders of their own.
func NewLayout(state, bin string) (Layout, error) {
	s, err := filepath.Abs(state)
	if err != nil {
		return Layout{}, fmt.Errorf("state folder %s: %w", state, err)
	}
	b, err := filepath.Abs(bin)
	if err != nil {
		return Layout{}, fmt.Errorf("program folder %s: %w", bin, err)
	}
	return Layout{State: s, Bin: b}, nil
}

// Program is the path of one of the programs.
func (l Layout) Program(name string) string { return filepath.Join(l.Bin, name) }

// Department is a path inside a department's folder, which holds everything of that
// department and nothing secret of another, but for the auditors' tokens of all in the
// lead's gateway/audit.
func (l Layout) Department(code string, elem ...string) string {
	return filepath.Join(append([]string{l.State, "departments", code}, elem...)...)
}

// Log is the log file of a supervised process.
func (l Layout) Log(process string) string { return filepath.Join(l.State, "logs", process+".log") }

// Run is a path in the supervisor's folder.
func (l Layout) Run(elem ...string) string {
	return filepath.Join(append([]string{l.State, "run"}, elem...)...)
}

// GenesisBlock is the first block of the channel.
func (l Layout) GenesisBlock() string { return filepath.Join(l.State, "channel", "genesis.block") }

// Trust is the file of trust anchors.
func (l Layout) Trust() string { return filepath.Join(l.State, "trust", "consortium.json") }

// DefinitionCopy is the definition as it was at the first up, or at the last command that
// accepted a change of it.
func (l Layout) DefinitionCopy() string { return filepath.Join(l.State, "consortium.yaml") }

func (l Layout) stateFile() string { return filepath.Join(l.State, "state.json") }

// stateFormat is the format of state.json.
const stateFormat = "zhenglian-network/1"

// State is what state.json remembers between commands.
type State struct {
	Format     string `json:"format"`
	Definition string `json:"definition"` // digest of the definition as it was accepted last
	Complete   bool   `json:"complete"`   // an up reached its end once
	// Slot is where the chaincode processes run, 0 or 1. An upgrade starts those of the
	// new version in the other slot, beside the old ones.
	Slot int `json:"slot,omitempty"`
	// Versions are the chaincode's earlier versions, which proofs still name.
	Versions []string `json:"versions,omitempty"`
}

// LoadState reads the state file. It returns an error wrapping [fs.ErrNotExist] if no
// up was ever started here.
func (l Layout) LoadState() (State, error) {
	data, err := os.ReadFile(l.stateFile())
	if err != nil {
		return State{}, fmt.Errorf("read the state: %w", err)
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("read the state %s: %w", l.stateFile(), err)
	}
	if s.Format != stateFormat {
		return State{}, fmt.Errorf("read the state %s: its format is %q and this program knows %q", l.stateFile(), s.Format, stateFormat)
	}
	if s.Slot < 0 || s.Slot >= len(chaincodeKinds) {
		return State{}, fmt.Errorf("read the state %s: there is no slot %d", l.stateFile(), s.Slot)
	}
	return s, nil
}

func (l Layout) saveState(s State) error {
	s.Format = stateFormat
	return writeJSON(l.stateFile(), s)
}

// writeFile replaces the file at path as a whole: after a crash it has the old bytes or
// the new ones. A file that already holds data keeps its modification time.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return os.Chmod(path, mode)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one to report
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// writeJSON writes v for programs of this user, and this user, to read.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeFile(path, append(data, '\n'), 0o600)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
