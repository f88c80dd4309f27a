package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/signing"
)

// callCmd is "zhenglian call".
type callCmd struct {
	Method string `arg:"" help:"GET or POST."`
	Path   string `arg:"" help:"Path of the contract with its query, for example /v1/catalog/entries?draft=true."`

	Gateway   string        `required:"" placeholder:"URL" help:"The department's gateway; with --cert and no token its port for client certificates."`
	TokenFile string        `type:"existingfile" placeholder:"FILE" help:"File with the access token: the token alone, or a JSON object of tokens by role. Without it the certificate says who calls."`
	Role      string        `default:"operator" help:"Whose token to take from a JSON token file."`
	Cert      string        `type:"existingfile" placeholder:"FILE" help:"The caller's certificate, PEM. What is written is signed with its key, here."`
	Key       string        `type:"existingfile" placeholder:"FILE" help:"Its key, PEM, which does not leave this program."`
	Trust     string        `type:"existingfile" placeholder:"FILE" help:"Trust anchors, consortium.json, to check what is to be signed against."`
	Roots     string        `type:"existingfile" placeholder:"FILE" help:"Authorities of the gateway's server certificate, PEM; otherwise the system's."`
	Data      string        `placeholder:"FILE" help:"File with the JSON body; - for standard input."`
	IfMatch   string        `placeholder:"ETAG" help:"Write only if the record is still this version."`
	Once      string        `placeholder:"KEY" help:"Idempotency-Key: called again with the same one, nothing is done twice. Drawn and told when absent."`
	Patience  time.Duration `default:"2m" help:"How long to wait for a busy or unreachable gateway."`
}

// Run makes the call and writes the gateway's answer to standard output.
func (c *callCmd) Run(e *env) error {
	client, err := c.client()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	r := signing.Request{Method: strings.ToUpper(c.Method), Target: c.Path, Header: make(http.Header)}
	if r.Body, err = c.body(e); err != nil {
		return &exitError{exitUsage, err}
	}
	if c.IfMatch != "" {
		r.Header.Set("If-Match", c.IfMatch)
	}
	send := client.sendAny
	if r.Method == http.MethodGet {
		_, answer, err := send(e.ctx, r)
		return c.tell(e, answer, err)
	}
	key := c.Once
	if key == "" {
		key = rand.Text()
		fmt.Fprintf(e.stderr, "to go on after a failure, and do nothing twice: --once %s\n", key)
	}
	if c.Cert == "" {
		r.Header.Set("Idempotency-Key", key)
		_, answer, err := send(e.ctx, r)
		return c.tell(e, answer, err)
	}
	signer, err := c.signer(send)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	out, err := signer.Write(e.ctx, r, key)
	if err != nil {
		return err
	}
	return c.tellOutcome(e, client, out)
}

// tell writes an answer.
func (c *callCmd) tell(e *env, answer []byte, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "%s\n", bytes.TrimSpace(answer))
	return err
}

// tellOutcome writes what became of a write that was signed here: what the gateway
// told when it was asked, which for a certificate nothing can tell again, and the
// operation.
func (c *callCmd) tellOutcome(e *env, client *gatewayClient, out signing.Outcome) error {
	if out.Answer != nil {
		return c.tell(e, out.Answer, nil)
	}
	var told api.OutcomeUnknown
	if err := json.Unmarshal(out.Told, &told); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	if told.Signing = nil; told.Link != "" || len(told.Items) > 0 {
		issued, err := json.Marshal(told)
		if err := c.tell(e, issued, err); err != nil {
			return err
		}
	}
	if out.Operation.State == api.OperationStatePending {
		if _, err := client.outcome(e.ctx, "/v1/operations/"+out.Operation.ID); err != nil {
			var unknown *unknownError
			if errors.As(err, &unknown) {
				return &exitError{exitUnknown, err}
			}
			return err
		}
		_, answer, err := client.sendAny(e.ctx, signing.Request{Method: http.MethodGet, Target: "/v1/operations/" + out.Operation.ID})
		return c.tell(e, answer, err)
	}
	operation, err := json.Marshal(out.Operation)
	return c.tell(e, operation, err)
}

func (c *callCmd) body(e *env) ([]byte, error) {
	switch c.Data {
	case "":
		return nil, nil
	case "-":
		return io.ReadAll(e.stdin)
	}
	return os.ReadFile(c.Data)
}

func (c *callCmd) signer(send signing.Send) (*signing.Signer, error) {
	if c.Key == "" || c.Trust == "" {
		return nil, errors.New("--cert signs with --key what --trust says is right: give all three")
	}
	trust, err := os.ReadFile(c.Trust)
	if err != nil {
		return nil, err
	}
	anchors, err := proof.ParseAnchors(trust)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Trust, err)
	}
	cert, err := os.ReadFile(c.Cert)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(c.Key)
	if err != nil {
		return nil, err
	}
	signer, err := signing.NewSigner(send, anchors, cert, key, time.Now)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", c.Cert, c.Key, err)
	}
	return signer, nil
}

// client answers a client of the gateway that calls with the token, or else presents
// the certificate.
func (c *callCmd) client() (*gatewayClient, error) {
	token := ""
	if c.TokenFile != "" {
		var err error
		if token, err = readToken(c.TokenFile, c.Role); err != nil {
			return nil, err
		}
	}
	client, err := newGatewayClient(c.Gateway, token, c.Patience)
	if err != nil {
		return nil, err
	}
	transport := client.Client.Client.(*http.Client).Transport.(*http.Transport)
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.Roots != "" {
		data, err := os.ReadFile(c.Roots)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s holds no certificate", c.Roots)
		}
	}
	if token == "" && c.Cert != "" && c.Key != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return client, nil
}

// sendAny makes any request of the contract. It is a [signing.Send]: every request
// that is sent so may be sent again.
func (c *gatewayClient) sendAny(ctx context.Context, r signing.Request) (int, []byte, error) {
	return c.try(ctx, c.sending(r), repeatable)
}

// sending makes a request of the contract.
func (c *gatewayClient) sending(r signing.Request) sender {
	return func(ctx context.Context) (*http.Response, error) {
		request, err := http.NewRequestWithContext(ctx, r.Method, strings.TrimSuffix(c.url, "/")+r.Target, bytes.NewReader(r.Body))
		if err != nil {
			return nil, err
		}
		for name, values := range r.Header {
			request.Header[name] = values
		}
		if r.Body != nil {
			request.Header.Set("Content-Type", jsonType)
		}
		for _, edit := range c.RequestEditors {
			if err := edit(ctx, request); err != nil {
				return nil, err
			}
		}
		return c.Client.Client.Do(request)
	}
}
