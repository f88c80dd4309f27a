package network

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadVitals(t *testing.T) {
	now := time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	page := `# HELP zhenglian_access_log_backlog_seconds Age.
# TYPE zhenglian_access_log_backlog_seconds gauge
zhenglian_access_log_backlog_seconds 12.5
zhenglian_access_log_size 250
zhenglian_access_log_anchored_size 240
zhenglian_alarms_open 2
zhenglian_index_next_block 42
zhenglian_watched_logs_with_problems 1
zhenglian_http_request_duration_seconds_bucket{le="0.1"} 3
`
	status, date := http.StatusOK, now.Add(-90*time.Second)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", date.Format(http.TimeFormat))
		w.WriteHeader(status)
		fmt.Fprint(w, page)
	}))
	defer server.Close()
	got := readVitals(t.Context(), server.Client(), server.URL, clock)
	want := vitals{
		Skew: -90*time.Second + 500*time.Millisecond, Backlog: 12500 * time.Millisecond,
		LogSize: 250, Anchored: 240, NextBlock: 42, Problems: 1, Alarms: 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("vitals (-want +got):\n%s", diff)
	}
	status = http.StatusForbidden
	if got := readVitals(t.Context(), server.Client(), server.URL, clock); got.Err == nil || !strings.Contains(got.Err.Error(), "403") {
		t.Errorf("a refusal reads as %+v", got)
	}
	server.Close()
	if got := readVitals(t.Context(), http.DefaultClient, server.URL, clock); got.Err == nil {
		t.Error("a gateway that is down is well")
	}
}

// collect gathers findings as "result check: detail".
func collect(into *[]string) func(check, result, format string, args ...any) {
	return func(check, result, format string, args ...any) {
		*into = append(*into, result+" "+check+": "+fmt.Sprintf(format, args...))
	}
}

// wantFindings requires one finding for each prefix, in order, that contains the words
// after its "|".
func wantFindings(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("findings %q, want %q", got, want)
	}
	for i, w := range want {
		prefix, words, _ := strings.Cut(w, "|")
		if !strings.HasPrefix(got[i], prefix+":") || !strings.Contains(got[i], words) {
			t.Errorf("finding %q, want %q with %q", got[i], prefix, words)
		}
	}
}

func TestFindClocks(t *testing.T) {
	for name, tc := range map[string]struct {
		all  []vitals
		want []string
	}{
		"together": {[]vitals{{Department: "a", Skew: time.Second}, {Department: "b", Skew: -400 * time.Millisecond}}, []string{"ok clocks|2 departments"}},
		"ahead":    {[]vitals{{Department: "a", Skew: 20 * time.Second}, {Department: "b"}}, []string{"warn clocks|a is 20s ahead"}},
		"behind":   {[]vitals{{Department: "a"}, {Department: "b", Skew: -3 * time.Minute}}, []string{"fail clocks|b is 3m0s behind"}},
		"unknown":  {[]vitals{{Department: "a", Err: errors.New("down"), Skew: time.Hour}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			findClocks(tc.all, collect(&got))
			wantFindings(t, got, tc.want...)
		})
	}
}

func TestFindOrderers(t *testing.T) {
	peers := []Height{{Department: "police", Height: 3583}, {Department: "civil", Height: 3580}}
	for name, tc := range map[string]struct {
		st   Status
		want []string
	}{
		"together": {Status{Heights: peers, Orderers: peers, OrderersKeep: true}, []string{"ok orderers|2, none is behind"}},
		"behind":   {Status{Heights: peers, Orderers: []Height{{Department: "police", Height: 3583}, {Department: "civil", Height: 182}}}, []string{"fail orderers|orderer-civil has 182 of 3583 blocks"}},
		"silent":   {Status{Heights: peers, Orderers: []Height{{Department: "civil", Error: "refused"}}}, []string{"fail orderers|orderer-civil does not answer: refused"}},
		"down":     {Status{Heights: peers, Orderers: []Height{{Department: "civil"}}, Processes: []ProcessStatus{{Name: "orderer-civil"}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			findOrderers(&tc.st, collect(&got))
			wantFindings(t, got, tc.want...)
		})
	}
}

func TestFindGateways(t *testing.T) {
	const limit, interval = time.Minute, 2 * time.Second
	fine := vitals{Department: "a", NextBlock: 100}
	for name, tc := range map[string]struct {
		all  []vitals
		want []string
	}{
		"fine":          {[]vitals{fine, fine}, []string{"ok anchoring", "ok indexes", "ok logs"}},
		"short backlog": {[]vitals{{Department: "a", NextBlock: 100, Backlog: 4 * time.Second}}, []string{"ok anchoring", "ok indexes", "ok logs"}},
		"backlog":       {[]vitals{{Department: "a", NextBlock: 100, Backlog: 31 * time.Second}}, []string{"warn anchoring|a waits", "ok indexes", "ok logs"}},
		"stopped":       {[]vitals{{Department: "a", NextBlock: 100, Backlog: limit, LogSize: 9, Anchored: 4}}, []string{"fail anchoring|9 entries and 4", "ok indexes", "ok logs"}},
		"index":         {[]vitals{{Department: "a", NextBlock: 79}}, []string{"warn indexes|21 blocks behind", "ok anchoring", "ok logs"}},
		"logs":          {[]vitals{{Department: "a", NextBlock: 100, Problems: 2}}, []string{"fail logs|2 other departments", "ok anchoring", "ok indexes"}},
		"alarms":        {[]vitals{{Department: "a", NextBlock: 100, Alarms: 3}, {Department: "b", NextBlock: 100, Alarms: 3}}, []string{"ok anchoring", "ok indexes", "ok logs", "warn alarms|3 alarms"}},
		"silent":        {[]vitals{{Department: "a", Err: errors.New("down")}}, []string{"warn gateways|a does not say"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			findGateways(tc.all, limit, interval, 100, collect(&got))
			wantFindings(t, got, tc.want...)
		})
	}
}

func TestFindCertificates(t *testing.T) {
	cert := func(file string, days int) CertificateStatus { return CertificateStatus{File: file, DaysLeft: days} }
	for name, tc := range map[string]struct {
		list []CertificateStatus
		want []string
	}{
		"none": {nil, nil},
		"fine": {[]CertificateStatus{cert("departments/police/peer/tls/server.pem", 30), cert("x", 364)}, []string{"ok certificates|2, the first ends in 30 days"}},
		"near": {
			[]CertificateStatus{cert("departments/civil/peer/tls/server.pem", -1), cert("departments/police/users/admin/cert.pem", 6), cert("departments/police/peer/tls/server.pem", 29), cert("x", 364)},
			[]string{"fail certificates|civil/peer/tls/server.pem has ended; run zhenglian-network rotate --department civil", "fail certificates|ends in 6 days", "warn certificates|ends in 29 days; run zhenglian-network rotate --department police"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			findCertificates(&Status{Certificates: tc.list}, collect(&got))
			wantFindings(t, got, tc.want...)
		})
	}
}

func TestWorst(t *testing.T) {
	for want, results := range map[string][]string{"ok": {"ok", "ok"}, "warn": {"ok", "warn", "ok"}, "fail": {"warn", "fail", "ok"}} {
		var findings []Finding
		for _, r := range results {
			findings = append(findings, Finding{Result: r})
		}
		if got := Worst(findings); got != want {
			t.Errorf("Worst(%v) = %s, want %s", results, got, want)
		}
	}
	if got := Worst(nil); got != "ok" {
		t.Errorf("Worst(nil) = %s", got)
	}
}
