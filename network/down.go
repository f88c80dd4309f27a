package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Down stops every process of the consortium and makes sure that they are gone. It
// returns how many there were.
func (c *Consortium) Down(ctx context.Context) (int, error) {
	found, err := c.Layout.processes()
	if err != nil || len(found) == 0 {
		return 0, err
	}
	unlock, err := c.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	return len(found), c.Progress.Step("stop processes", func() (string, error) {
		s := newSupervisor(c.Layout)
		if s.alive(ctx) {
			if err := s.stop(ctx); err != nil && ctx.Err() != nil {
				return "", err
			}
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
				left, err := c.Layout.processes()
				if err != nil {
					return "", err
				}
				if len(left) == 0 {
					break
				}
				if err := sleep(ctx, 100*time.Millisecond); err != nil {
					return "", err
				}
			}
		}
		// Whatever the supervisor left, or has no supervisor.
		left, err := c.Layout.stopProcesses(ctx, 10*time.Second)
		if err != nil {
			return "", &Problem{Cause: err.Error(), Remedy: "end it by hand and run down again", Err: err}
		}
		if left > 0 {
			return fmt.Sprintf("%d stopped, %d of them by hand", len(found), left), nil
		}
		return fmt.Sprintf("%d stopped", len(found)), nil
	})
}

// Reset deletes the consortium: keys, ledgers, logs. It stops what runs first. The
// caller has asked.
func (c *Consortium) Reset(ctx context.Context) error {
	if _, err := c.Layout.LoadState(); errors.Is(err, fs.ErrNotExist) {
		if !exists(c.Layout.State) {
			return nil
		}
		// A wrong --state must not delete someone's home.
		return problem("name the right folder with --state, or delete it by hand",
			"%s has no state.json, so it was not made by this program", c.Layout.State)
	}
	if _, err := c.Down(ctx); err != nil {
		return err
	}
	return c.Progress.Step("delete the state", func() (string, error) {
		if dir := filepath.Dir(c.Layout.socket()); dir != c.Layout.Run() {
			if err := os.RemoveAll(dir); err != nil {
				return "", err
			}
		}
		// The mark goes last: a reset that is interrupted can be repeated.
		entries, err := os.ReadDir(c.Layout.State)
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			if e.Name() == filepath.Base(c.Layout.stateFile()) {
				continue
			}
			if err := os.RemoveAll(filepath.Join(c.Layout.State, e.Name())); err != nil {
				return "", err
			}
		}
		return c.Layout.State, os.RemoveAll(c.Layout.State)
	})
}
