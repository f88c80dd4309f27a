package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// vitals is what a department's gateway says about itself.
type vitals struct {
	Department string
	Skew       time.Duration // of its clock against this host's; positive is ahead
	Backlog    time.Duration // age of the oldest access record that no anchor covers
	LogSize    uint64
	Anchored   uint64
	NextBlock  uint64 // that its index waits for
	Problems   int    // other departments' logs that do not verify
	Alarms     int    // open on the ledger
	Err        error  // it does not say
}

// readVitals asks a gateway at its base URL for its metrics. The clock is read from the
// answer's Date header, whose second is the finest that HTTP knows.
func readVitals(ctx context.Context, client *http.Client, base string, now func() time.Time) vitals {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return vitals{Err: err}
	}
	sent := now()
	resp, err := client.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return vitals{Err: err}
	}
	defer resp.Body.Close()
	middle := sent.Add(now().Sub(sent) / 2)
	if resp.StatusCode != http.StatusOK {
		return vitals{Err: fmt.Errorf("its metrics answer %s", resp.Status)}
	}
	v := vitals{}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// The header cuts the fraction of the second off.
		v.Skew = date.Add(500 * time.Millisecond).Sub(middle)
	} else {
		v.Err = errors.New("its answer has no date")
	}
	values := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(resp.Body, 4<<20))
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			values[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		v.Err = err
	}
	v.Backlog = time.Duration(values["zhenglian_access_log_backlog_seconds"] * float64(time.Second))
	v.LogSize, v.Anchored = uint64(values["zhenglian_access_log_size"]), uint64(values["zhenglian_access_log_anchored_size"])
	v.NextBlock = uint64(values["zhenglian_index_next_block"])
	v.Problems, v.Alarms = int(values["zhenglian_watched_logs_with_problems"]), int(values["zhenglian_alarms_open"])
	return v
}

// Clocks that differ by more than clockWarn deserve a look; peers refuse a proposal that
// is two minutes off.
const (
	clockWarn = 5 * time.Second
	clockFail = 60 * time.Second
)

// findClocks reports how far the departments' clocks are apart.
func findClocks(all []vitals, add func(check, result, format string, args ...any)) {
	known, worst := 0, time.Duration(0)
	for _, v := range all {
		if v.Err != nil {
			continue
		}
		known++
		worst = max(worst, v.Skew.Abs())
		result := ""
		switch {
		case v.Skew.Abs() >= clockFail:
			result = "fail"
		case v.Skew.Abs() >= clockWarn:
			result = "warn"
		}
		if result != "" {
			direction := "ahead of"
			if v.Skew < 0 {
				direction = "behind"
			}
			add("clocks", result, "the clock of %s is %s %s this host's; peers refuse what is 2m0s off, so run an NTP client there", v.Department, v.Skew.Abs().Round(time.Second), direction)
		}
	}
	if known > 0 && worst < clockWarn {
		add("clocks", "ok", "%d departments within %s of this host", known, max(worst, time.Second).Round(time.Second))
	}
}

// findGateways reports what the gateways say of their logs, indexes and alarms. limit is
// the backlog at which they release nothing more, interval how often they anchor, height
// the highest that a peer has.
func findGateways(all []vitals, limit, interval time.Duration, height uint64, add func(check, result, format string, args ...any)) {
	backlogs, indexes, logs, known := 0, 0, 0, 0
	for _, v := range all {
		if v.Err != nil {
			add("gateways", "warn", "gateway-%s does not say how it is: %v", v.Department, v.Err)
			continue
		}
		known++
		switch {
		case v.Backlog >= limit:
			backlogs++
			add("anchoring", "fail", "the log of %s has %d entries and %d of them anchored, the oldest other one is %s old: its gateway releases nothing until an anchor commits", v.Department, v.LogSize, v.Anchored, v.Backlog.Round(time.Second))
		case v.Backlog >= max(limit/2, 5*interval):
			backlogs++
			add("anchoring", "warn", "the log of %s waits for an anchor since %s; releases stop at %s", v.Department, v.Backlog.Round(time.Second), limit)
		}
		if height > v.NextBlock+indexLag {
			indexes++
			add("indexes", "warn", "the index of %s is %d blocks behind", v.Department, height-v.NextBlock)
		}
		if v.Problems > 0 {
			logs++
			add("logs", "fail", "%s finds %d other departments' logs that do not verify; see its alarms", v.Department, v.Problems)
		}
	}
	if known == 0 {
		return
	}
	if backlogs == 0 {
		add("anchoring", "ok", "every log anchored")
	}
	if indexes == 0 {
		add("indexes", "ok", "every index within %d blocks", indexLag)
	}
	if logs == 0 {
		add("logs", "ok", "every watched log verifies")
	}
	for _, v := range all {
		if v.Err == nil && v.Alarms > 0 { // the same ledger everywhere
			add("alarms", "warn", "%d alarms on the ledger are not dealt with", v.Alarms)
			return
		}
	}
}

// indexLag is how many blocks an index may be behind a peer without a word about it.
const indexLag = 20
