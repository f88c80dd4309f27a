package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/zhenglian/zhenglian/api"
)

// catalogExportCmd is "zhenglian catalog export".
type catalogExportCmd struct {
	Gateway   string        `required:"" placeholder:"URL" help:"A department's gateway."`
	TokenFile string        `required:"" type:"existingfile" help:"File with the access token: the token alone, or a JSON object of tokens by role."`
	Role      string        `default:"operator" help:"Whose token to take from a JSON token file."`
	Format    string        `enum:"csv,dcat-ap" default:"csv" help:"csv (national columns) or dcat-ap (JSON-LD)."`
	Out       string        `placeholder:"FILE" help:"File to write, replaced when the export is complete; standard output when absent."`
	State     string        `placeholder:"STATE" default:"published" help:"Only entries in this state; all for every state."`
	Provider  string        `placeholder:"CODE" help:"Only entries of this department."`
	Patience  time.Duration `default:"2m" help:"How long to wait for a busy or unreachable gateway."`
}

// Run writes the catalog.
func (c *catalogExportCmd) Run(e *env) error {
	token, err := readToken(c.TokenFile, c.Role)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	client, err := newGatewayClient(c.Gateway, token, c.Patience)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	params := api.ExportCatalogParams{Format: api.ExportCatalogParamsFormat(c.Format)}
	if c.State != "all" {
		params.State = pointer(c.State)
	}
	if c.Provider != "" {
		params.Provider = pointer(c.Provider)
	}
	send := func(ctx context.Context) (*http.Response, error) { return client.ExportCatalog(ctx, &params) }
	if c.Out == "" {
		_, err := client.stream(e.ctx, send, e.stdout)
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(c.Out), ".zhenglian-*")
	if err != nil {
		return &exitError{exitUsage, err}
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // gone after the rename
	n, err := client.stream(e.ctx, send, temporary)
	if err = errors.Join(err, temporary.Chmod(0o644), temporary.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), c.Out); err != nil {
		return fmt.Errorf("write %s: %w", c.Out, err)
	}
	fmt.Fprintf(e.stdout, "%s: %d bytes\n", c.Out, n)
	return nil
}

// stream makes a request that changes nothing and copies its answer, however
// long, to out. An answer that breaks off is an error.
func (c *gatewayClient) stream(ctx context.Context, send sender, out io.Writer) (int64, error) {
	var n int64
	_, _, err := c.try(ctx, func(ctx context.Context) (*http.Response, error) {
		res, err := send(ctx)
		if err != nil || res.StatusCode != http.StatusOK {
			return res, err
		}
		defer res.Body.Close()
		if n, err = io.Copy(out, res.Body); err != nil {
			return nil, fmt.Errorf("the export broke off after %d bytes: %w", n, err)
		}
		res.Body = http.NoBody
		return res, nil
	}, onceOnly)
	return n, err
}
