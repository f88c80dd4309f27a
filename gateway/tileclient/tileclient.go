// Package tileclient reads another department's access log over HTTP: a
// [remotelog.Log] of what its gateway serves under /v1/logs/{department}/ in the
// form of C2SP tlog-tiles.
//
// Every answer is bounded in size and time. A redirect is not followed: a log
// lives where the configuration says, and a token goes nowhere else.
package tileclient

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/remotelog"
)

const (
	// answerWithin bounds one request, the reading of its answer included.
	answerWithin = 10 * time.Second

	hashSize  = 32
	tileBytes = layout.TileWidth * hashSize
	// maxBundle is 256 entries of the greatest length, each after its length.
	maxBundle = layout.EntryBundleWidth * (2 + 1<<16 - 1)

	maxRetryAfter = time.Minute
)

// Client reads one log. It is safe for concurrent use.
type Client struct {
	base  string // with a slash at the end
	token string
	http  *http.Client
}

var _ remotelog.Log = (*Client)(nil)

// New returns a client of department's log at the gateway with baseURL, scheme
// and host. Entry bundles need the token of an auditor of that gateway; "" reads the
// rest. A nil client means one of its own.
func New(baseURL, token string, department domain.DepartmentCode, client *http.Client) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%q is not http:// or https:// and a host", baseURL)
	}
	own := http.Client{Transport: newTransport()}
	if client != nil {
		own = *client
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		base:  u.Scheme + "://" + u.Host + "/v1/logs/" + url.PathEscape(string(department)) + "/",
		token: token, http: &own,
	}, nil
}

// newTransport keeps as many connections open as a reader of tiles uses at a time.
func newTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = 8
	return t
}

// Checkpoint implements [remotelog.Log].
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	return c.get(ctx, layout.CheckpointPath, remotelog.MaxCheckpoint)
}

// Tile implements [remotelog.Log].
func (c *Client) Tile(ctx context.Context, level, index uint64, width uint8) ([]byte, error) {
	if level >= 64/layout.TileHeight {
		return nil, notThere(fmt.Sprintf("tile level %d", level))
	}
	path := func(width uint8) string { return layout.TilePath(level, index, width) }
	data, used, err := c.partialOrFull(ctx, path, width, tileBytes)
	if err != nil {
		return nil, err
	}
	if len(data) != count(used)*hashSize {
		return nil, &remotelog.FormError{What: path(used), Problem: fmt.Sprintf("has %d bytes, must have %d", len(data), count(used)*hashSize)}
	}
	return data[:count(width)*hashSize], nil
}

// EntryBundle implements [remotelog.Log].
func (c *Client) EntryBundle(ctx context.Context, index uint64, width uint8) ([]byte, error) {
	path := func(width uint8) string { return layout.EntriesPath(index, width) }
	data, used, err := c.partialOrFull(ctx, path, width, maxBundle)
	if err != nil {
		return nil, err
	}
	end, n := 0, 0 // of the entries asked for, and of all
	for rest := data; len(rest) > 0; n++ {
		if n == count(width) {
			end = len(data) - len(rest)
		}
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, &remotelog.FormError{What: path(used), Problem: fmt.Sprintf("is cut off in entry %d", n)}
		}
		rest = rest[2+int(binary.BigEndian.Uint16(rest)):]
	}
	if n != count(used) {
		return nil, &remotelog.FormError{What: path(used), Problem: fmt.Sprintf("has %d entries, must have %d", n, count(used))}
	}
	if used == width {
		end = len(data)
	}
	return data[:end], nil
}

// count is how many hashes or entries a width means.
func count(width uint8) int {
	if width == 0 {
		return layout.TileWidth
	}
	return int(width)
}

// partialOrFull reads the file of a width, and when it is not there the full one:
// a log may drop the partial ones then. It answers which it was.
func (c *Client) partialOrFull(ctx context.Context, path func(uint8) string, width uint8, most int) ([]byte, uint8, error) {
	data, err := c.get(ctx, path(width), most)
	if width == 0 || domain.KindOf(err) != domain.NotFound {
		return data, width, err
	}
	if data, full := c.get(ctx, path(0), most); domain.KindOf(full) != domain.NotFound {
		return data, 0, full
	}
	return nil, width, err // names what was asked for
}

func notThere(what string) error {
	return &domain.Error{Kind: domain.NotFound, Msg: what + " is not in the log"}
}

// get reads a file of the log, at most most bytes.
func (c *Client) get(ctx context.Context, path string, most int) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	data, err := c.request(bounded, path, most)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("read %s: %w", path, ctx.Err()) // the caller's own time is up
	}
	return data, err
}

func (c *Client) request(ctx context.Context, path string, most int) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if c.token != "" { // with what is public too: it then counts as the auditor's, not as its address's
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, &remotelog.UnreachableError{Err: err}
	}
	defer func() { _ = res.Body.Close() }() // read only
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, notThere(path)
	default:
		return nil, &remotelog.UnreachableError{
			Err:    fmt.Errorf("read %s: status %d", c.base+path, res.StatusCode),
			Status: res.StatusCode, RetryAfter: retryAfter(res.Header.Get("Retry-After")),
		}
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, int64(most)+1))
	if err != nil {
		return nil, &remotelog.UnreachableError{Err: fmt.Errorf("read %s: %w", c.base+path, err)}
	}
	if len(data) > most {
		return nil, &remotelog.FormError{What: path, Problem: fmt.Sprintf("is longer than %d bytes", most)}
	}
	return data, nil
}

// retryAfter reads the seconds of a Retry-After header; a date is not read.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.ParseUint(header, 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}
