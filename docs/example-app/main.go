// Command example-app is what a department's own system does with a gateway: it asks
// another department for data, waits until that is granted, and logs each use of the
// data before it uses it. It is the marriage registration system of the sample's
// civil affairs bureau; take what you need of it.
//
// What it must not forget is the name of the thing that it wants done: from it the
// Idempotency-Key and the request's ID are made, so that the program may be ended
// and run again at any moment and still asks once.
//
//	go run ./docs/example-app -token-file .zhenglian/tokens/civil.json -case 2026-0001
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/api"
)

// The share that this system lives from, and the use that it makes of it.
const (
	catalogCode = "307003/000001"
	purpose     = "婚姻登记核验"
	serviceItem = "000512001000"
	legalBasis  = "《婚姻登记条例》"
	system      = "婚姻登记管理信息系统"
)

func main() {
	gateway := flag.String("gateway", "http://127.0.0.1:8083", "URL of the own department's gateway")
	tokens := flag.String("token-file", ".zhenglian/tokens/civil.json", "file with the department's access tokens, by role")
	caseNo := flag.String("case", "", "number of the case in this system")
	at := flag.String("at", time.Now().UTC().Format(time.RFC3339), "time of the query; it is kept with the case, because logged again it must be the same")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *gateway, *tokens, *caseNo, *at); err != nil {
		fmt.Fprintln(os.Stderr, "example-app:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, gateway, tokens, caseNo, at string) error {
	if caseNo == "" {
		return errors.New("-case must name a case")
	}
	asked, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return fmt.Errorf("-at: %w", err)
	}
	token, err := operatorToken(tokens)
	if err != nil {
		return err
	}
	client, err := api.NewClientWithResponses(gateway, api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Accept-Language", "zh")
		return nil
	}))
	if err != nil {
		return err
	}
	a := &app{client}
	grant, err := a.activeGrant(ctx)
	if err != nil {
		return err
	}
	if grant == nil {
		id, err := a.ask(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("asked for %s under request %s; run this again when it is granted\n", catalogCode, id)
		return nil
	}
	receipt, err := a.use(ctx, *grant, caseNo, asked)
	if err != nil {
		return err
	}
	fmt.Printf("case %s: access logged at index %d under grant %s; the data may be used now\n", caseNo, receipt.Index, grant.ID)
	return nil
}

func operatorToken(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var tokens map[string]string
	if err := json.Unmarshal(data, &tokens); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	if tokens["operator"] == "" {
		return "", fmt.Errorf("%s has no token for role operator", file)
	}
	return tokens["operator"], nil
}

type app struct{ client *api.ClientWithResponses }

// activeGrant answers the grant for the data, nil when there is none in use.
func (a *app) activeGrant(ctx context.Context) (*api.Grant, error) {
	state := string(api.GrantStateActive)
	params := &api.ListGrantsParams{State: &state}
	for {
		page, err := a.client.ListGrantsWithResponse(ctx, params)
		if err != nil {
			return nil, err
		}
		if page.JSON200 == nil {
			return nil, problem(page.Status(), page.Body)
		}
		for _, g := range page.JSON200.Items {
			if g.Record.CatalogCode == catalogCode {
				return &g.Record, nil
			}
		}
		if page.JSON200.Next == "" {
			return nil, nil
		}
		params.Cursor = &page.JSON200.Next
	}
}

// ask asks for the data, once however often it is called on one day.
func (a *app) ask(ctx context.Context) (id string, err error) {
	day := time.Now().UTC().Truncate(24 * time.Hour)
	key := "example-app/" + catalogCode + "/" + day.Format(time.DateOnly)
	body := api.ShareRequestContent{
		ID: digest(key)[:32], CatalogCode: catalogCode, Items: []string{"户号"}, Purpose: purpose, UseBasis: legalBasis,
		ServiceItem: serviceItem, ShareMode: "platform_api", Period: api.Period{From: day, To: day.AddDate(1, 0, 0)},
		Quota: api.Quota{Total: 10_000, PerDay: 500, PerMinute: 20}, LetterDigest: digest("letter of " + key), SecurityMeasures: "专线传输，结果不落地",
	}
	answer, err := a.client.RequestShareWithResponse(ctx, &api.RequestShareParams{IdempotencyKey: &key}, body)
	switch {
	case err != nil:
		return "", fmt.Errorf("nobody answered; run this again, it asks for the same: %w", err)
	case answer.JSON201 != nil:
		return answer.JSON201.Record.Content.ID, nil
	case answer.JSON202 != nil:
		return body.ID, a.settled(ctx, answer.JSON202.Operation)
	}
	return "", problem(answer.Status(), answer.Body)
}

// settled waits until a write that was accepted is done.
func (a *app) settled(ctx context.Context, operation string) error {
	for {
		answer, err := a.client.GetOperationWithResponse(ctx, strings.TrimPrefix(operation, "/v1/operations/"))
		if err != nil {
			return err
		}
		switch o := answer.JSON200; {
		case o == nil:
			return problem(answer.Status(), answer.Body)
		case o.State == api.OperationStateCommitted:
			return nil
		case o.State == api.OperationStateRejected && o.Problem != nil:
			return fmt.Errorf("%s: %s", o.Problem.Title, o.Problem.Detail)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryAfter(answer.HTTPResponse)):
		}
	}
}

// retryAfter is how long the gateway asks to wait: a write that waits for others takes
// longer than one that is on its way.
func retryAfter(answer *http.Response) time.Duration {
	seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		seconds = 2
	}
	return time.Duration(seconds) * time.Second
}

// use logs one use of the data. Only with its receipt may the data be used: the
// record is durable then, and the auditor will find it. The same call logged again
// gets its first receipt.
func (a *app) use(ctx context.Context, g api.Grant, caseNo string, at time.Time) (*api.AccessReceipt, error) {
	// Digests of the query and of the data that came back, which stay where they are.
	query, data := "query of case "+caseNo, "data of case "+caseNo
	answer, err := a.client.RecordAccessWithResponse(ctx, &api.RecordAccessParams{}, api.RecordAccess{Records: []api.AccessInput{{
		Direction: api.DirectionConsumer, CallID: "example-" + digest(caseNo)[:16], GrantID: g.ID, CatalogCode: g.CatalogCode, CatalogVersion: g.CatalogVersion,
		Items: g.Items, Provider: g.Provider, Consumer: g.Consumer, Purpose: g.Purpose, ServiceItem: g.ServiceItem, LegalBasis: legalBasis, System: system,
		CaseRef: digest(caseNo)[:32], Operator: "civil-op-01", OperatorRole: "登记员", RecordCount: 1,
		RequestDigest: digest(query), ResponseDigest: digest(data), At: at, RespondedAt: at, Channel: "api", Result: "ok",
	}}})
	if err != nil {
		return nil, fmt.Errorf("nobody answered; the data may not be used: %w", err)
	}
	if answer.JSON201 == nil {
		return nil, problem(answer.Status(), answer.Body)
	}
	return &answer.JSON201.Receipts[0], nil
}

// problem makes an error of a problem document.
func problem(status string, body []byte) error {
	var p api.Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" {
		return fmt.Errorf("the gateway answered %s", status)
	}
	return fmt.Errorf("%s (%s; trace id %s)", p.Detail, p.Code, p.TraceID)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
