package consortium

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"
)

// Halt has the supervisor end a process ("peer-police"), or leave one dead that
// was killed. It returns at once; [Consortium.Resume] starts it again.
func (c *Consortium) Halt(ctx context.Context, process string) error {
	return c.supervise(ctx, http.MethodPatch, "/process/stop/"+url.PathEscape(process))
}

// Resume has the supervisor start a process and keep it running.
func (c *Consortium) Resume(ctx context.Context, process string) error {
	return c.supervise(ctx, http.MethodPost, "/process/start/"+url.PathEscape(process))
}

func (c *Consortium) supervise(ctx context.Context, method, path string) error {
	socket := filepath.Join(c.State, "run", "supervisor.sock")
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1000)) // for people
		return fmt.Errorf("supervisor: %s %s: %s: %s", method, path, res.Status, text)
	}
	return nil
}
