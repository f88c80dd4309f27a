package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// connection sends requests one after the other over a connection that stays open.
// It costs a tenth of what the library's client does, so that on shared cores the
// server is what is measured. It is not safe for concurrent use.
type connection struct {
	host   string
	conn   net.Conn
	reader *bufio.Reader
	buffer []byte
}

// dial connects to the host of a URL.
func dial(ctx context.Context, base string) (*connection, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	return &connection{host: u.Host, conn: conn, reader: bufio.NewReaderSize(conn, 16<<10)}, nil
}

// connections dials n times.
func connections(ctx context.Context, base string, n int) (all []*connection, err error) {
	for range n {
		c, err := dial(ctx, base)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func closeAll(all []*connection) {
	for _, c := range all {
		_ = c.conn.Close() // nothing is under way
	}
}

// get is send without a body.
func (c *connection) get(path, header string) (status int, head, body []byte, err error) {
	return c.send("GET", path, header, nil)
}

// send answers status, head and body, which hold until the next call. header is
// sent as it is, each line with its end.
func (c *connection) send(method, path, header string, content []byte) (status int, head, body []byte, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, nil, nil, err
	}
	c.buffer = append(append(append(c.buffer[:0], method...), ' '), path...)
	c.buffer = append(append(append(append(c.buffer, " HTTP/1.1\r\nHost: "...), c.host...), "\r\n"...), header...)
	if content != nil {
		c.buffer = strconv.AppendInt(append(c.buffer, "Content-Type: application/json\r\nContent-Length: "...), int64(len(content)), 10)
		c.buffer = append(c.buffer, "\r\n"...)
	}
	c.buffer = append(append(c.buffer, "\r\n"...), content...)
	if _, err := c.conn.Write(c.buffer); err != nil {
		return 0, nil, nil, err
	}
	c.buffer = c.buffer[:0]
	length := -1
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return 0, nil, nil, err
		}
		c.buffer = append(c.buffer, line...)
		if len(bytes.TrimSpace(line)) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, nil, nil, err
			}
		}
	}
	if status, err = strconv.Atoi(string(c.buffer[len("HTTP/1.1 "):][:3])); err != nil || length < 0 {
		return 0, nil, nil, errors.Join(err, fmt.Errorf("an answer without a length: %.100q", c.buffer))
	}
	end := len(c.buffer)
	c.buffer = append(c.buffer, make([]byte, length)...)
	if _, err := io.ReadFull(c.reader, c.buffer[end:]); err != nil {
		return 0, nil, nil, err
	}
	return status, c.buffer[:end], c.buffer[end:], nil
}

// callers are connections to the department's gateway that are not in use.
type callers struct {
	mu   sync.Mutex
	idle []*connection
}

// take answers a connection that is not in use, or dials.
func (o *callers) take(ctx context.Context, base string) (*connection, error) {
	o.mu.Lock()
	n := len(o.idle)
	if n == 0 {
		o.mu.Unlock()
		return dial(ctx, base)
	}
	defer o.mu.Unlock()
	c := o.idle[n-1]
	o.idle = o.idle[:n-1]
	return c, nil
}

func (o *callers) give(c *connection) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.idle = append(o.idle, c)
}

// close ends the connections that are not in use.
func (o *callers) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	closeAll(o.idle)
	o.idle = nil
}

// openLoop makes the calls of a rate, each at its time, over the connections there
// are, for the warm-up and then the window. It answers the latencies of the
// window's calls, sorted, from the time at which each was due: a call that had to
// wait for a connection is as late as its caller would have found it.
func openLoop(ctx context.Context, over []*connection, rate int, warmUp, window time.Duration, call func(c *connection, n int) error) (latencies []time.Duration, failed int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var next atomic.Int64
	began := time.Now()
	start, end := began.Add(warmUp), began.Add(warmUp+window)
	for _, c := range over {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1) - 1)
				due := began.Add(time.Duration(n) * time.Second / time.Duration(rate))
				if due.After(end) {
					return
				}
				time.Sleep(time.Until(due))
				callErr := call(c, n)
				took := time.Since(due)
				if due.Before(start) {
					continue
				}
				mu.Lock()
				latencies = append(latencies, took)
				if callErr != nil {
					failed++
					err = callErr
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(latencies)
	if len(latencies) == 0 || failed == len(latencies) {
		return nil, failed, fmt.Errorf("no call succeeded: %w", errors.Join(err, ctx.Err()))
	}
	return latencies, failed, ctx.Err()
}
