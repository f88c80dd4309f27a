package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zhenglian/zhenglian/domain"
)

func leadArgs(f *fakeConsortium, args ...string) []string {
	return append(args, "--gateway", f.urls["bigdata"], "--token-file", filepath.Join(f.folder, "tokens", "bigdata.json"))
}

// holidays writes a file of one year.
func holidays(t *testing.T, year int, days map[string]bool, papers ...string) string {
	t.Helper()
	file := map[string]any{"year": year, "papers": papers}
	list := []map[string]any{}
	for date, off := range days {
		list = append(list, map[string]any{"name": "节", "date": date, "isOffDay": off})
	}
	file["days"] = list
	data, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "year.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCalendarImportRealFiles sets every published year, and compares every day
// with the second source.
func TestCalendarImportRealFiles(t *testing.T) {
	f := newFakeConsortium(t)
	f.found(t)
	clear(f.calendars)
	folder := filepath.Join("..", "..", "..", "shared", "data", "calendar")
	files, err := filepath.Glob(filepath.Join(folder, "holiday-cn", "2*.json"))
	if err != nil || len(files) != 10 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	args := leadArgs(f, append([]string{"calendar", "import"}, files...)...)
	_, errs := runCommand(t, exitUsage, args...)
	if !strings.Contains(errs, "2027 has no days") || len(f.calendars) != 0 {
		t.Errorf("%d calendars; error %q", len(f.calendars), errs)
	}
	out, _ := runCommand(t, exitOK, append(args, "--provisional")...)
	for _, want := range []string{"2023: 2022-12-31 is off", "2026: set as version 1 (official): 33 days off, 6 weekend days worked", "2027: set as version 1 (provisional 暂定): 0 days off"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	var second struct {
		Holidays map[string]string `json:"holidays"`
		Workdays map[string]string `json:"workdays"`
	}
	if err := json.Unmarshal([]byte(mustRead(t, filepath.Join(folder, "chinese-days.json"))), &second); err != nil {
		t.Fatal(err)
	}
	var all []domain.Calendar
	for _, c := range f.calendars {
		all = append(all, *c)
	}
	days := 0
	for year, c := range f.calendars {
		if c.Provisional != (year == 2027) || c.Source == "" {
			t.Errorf("%d: %+v", year, c)
		}
		for day := time.Date(year, 1, 1, 12, 0, 0, 0, beijing); day.Year() == year && year != 2027; day = day.AddDate(0, 0, 1) {
			text := day.Format(time.DateOnly)
			want := second.Workdays[text] != "" || !weekend(day) && second.Holidays[text] == ""
			if got, err := (domain.Workdays{Calendars: all}).IsWorkday(day); err != nil || got != want {
				t.Errorf("%s: working day %v, the second source says %v (%v)", text, got, want, err)
			}
			days++
		}
	}
	if days != 9*365+2 { // 2016 and 2024
		t.Errorf("compared %d days", days)
	}

	writes := f.writes
	out, _ = runCommand(t, exitOK, append(args, "--provisional")...)
	if f.writes != writes || strings.Count(out, "in force already, version 1") != 10 {
		t.Errorf("%d writes the second time; output:\n%s", f.writes-writes, out)
	}
}

func TestCalendarImportMerges(t *testing.T) {
	first := func() holidayFile {
		file, err := readHolidays(holidays(t, 2031, map[string]bool{"2031-01-01": true, "2032-01-02": true, "2031-01-04": false}, "p1"))
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	second, err := readHolidays(holidays(t, 2032, map[string]bool{"2032-01-01": true}, "p2", "p3"))
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := mergeHolidays([]holidayFile{first(), second}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	want := []domain.SetCalendarArgs{
		{Year: 2031, DaysOff: []string{"2031-01-01"}, Workdays: []string{"2031-01-04"}, Source: "p1"},
		{Year: 2032, DaysOff: []string{"2032-01-01", "2032-01-02"}, Workdays: []string{}, Source: "p2 p3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calendars (-want +got):\n%s", diff)
	}
	// The other year is on the ledger.
	known := []domain.Calendar{{Year: 2032, Version: 1, DaysOff: []string{"2032-01-01"}, Workdays: []string{}, Source: "p2"}}
	got, _, err = mergeHolidays([]holidayFile{first()}, known, false)
	if err != nil || len(got) != 2 || !cmp.Equal(got[1].DaysOff, []string{"2032-01-01", "2032-01-02"}) || got[1].Source != "p2" {
		t.Errorf("%v %+v", err, got)
	}
	if len(known[0].DaysOff) != 1 {
		t.Error("the known calendar was changed")
	}
}

func TestCalendarImportRefuses(t *testing.T) {
	tests := []struct {
		name  string
		files []string
		want  string
	}{
		{"no days", []string{holidays(t, 2031, nil)}, "--provisional"},
		{"no paper", []string{holidays(t, 2031, map[string]bool{"2031-01-01": true})}, "names no paper"},
		{"worked weekday", []string{holidays(t, 2031, map[string]bool{"2031-01-01": false}, "p")}, "neither Saturday nor Sunday"},
		{"no date", []string{holidays(t, 2031, map[string]bool{"1 January": true}, "p")}, "is not a date"},
		{"other year", []string{holidays(t, 2031, map[string]bool{"2032-01-01": true}, "p")}, "give the file of 2032"},
		{"year twice", []string{holidays(t, 2031, map[string]bool{"2031-01-01": true}, "p"), holidays(t, 2031, map[string]bool{"2031-01-01": true}, "p")}, "two files"},
		{"off and worked", []string{holidays(t, 2031, map[string]bool{"2032-01-03": true}, "p"), holidays(t, 2032, map[string]bool{"2032-01-03": false}, "p")}, "both off and worked"},
		{"year out of range", []string{holidays(t, 1931, map[string]bool{"1931-01-01": true}, "p")}, "year"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeConsortium(t)
			f.found(t)
			_, errs := runCommand(t, exitUsage, leadArgs(f, append([]string{"calendar", "import"}, tt.files...)...)...)
			if !strings.Contains(errs, tt.want) || f.writes != 0 {
				t.Errorf("%d writes; error %q, want %q", f.writes, errs, tt.want)
			}
		})
	}
	t.Run("not the lead", func(t *testing.T) {
		f := newFakeConsortium(t)
		f.found(t)
		_, errs := runCommand(t, exitFailed, "calendar", "import", holidays(t, 2031, map[string]bool{"2031-01-01": true}, "p"),
			"--gateway", f.urls["police"], "--token-file", filepath.Join(f.folder, "tokens", "police.json"))
		if !strings.Contains(errs, "forbidden") {
			t.Errorf("error %q", errs)
		}
	})
	t.Run("provisional over official", func(t *testing.T) {
		f := newFakeConsortium(t)
		f.found(t)
		_, errs := runCommand(t, exitFailed, leadArgs(f, "calendar", "import", "--provisional", holidays(t, 2026, nil))...)
		if !strings.Contains(errs, "official calendar is in force") || f.calendars[2026].Version != 1 {
			t.Errorf("error %q", errs)
		}
	})
}

func TestRuleImport(t *testing.T) {
	f := newFakeConsortium(t)
	f.found(t)
	put := func(text string) string {
		path := filepath.Join(t.TempDir(), "rules.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out, _ := runCommand(t, exitOK, leadArgs(f, "rule", "import", filepath.Join("sample", "rules.json"))...)
	if f.writes != 0 || strings.Count(out, "in force already") != len(domain.DeadlineEvents) {
		t.Errorf("%d writes; output %q", f.writes, out)
	}
	out, _ = runCommand(t, exitOK, leadArgs(f, "rule", "import", put(`[{"event":"request_answer","limit":5,"extendMax":0,"extendWith":"none","legalBasis":"某市细则"}]`))...)
	if r := f.rules["request_answer"]; r.Version != 2 || r.Limit != 5 || !strings.Contains(out, "version 2: 5 working days") {
		t.Errorf("rule %+v; output %q", r, out)
	}
	for text, want := range map[string]string{
		`[{"event":"request_answer","limit":0,"extendMax":0,"extendWith":"none","legalBasis":""}]`:                                                                                "legalBasis: required",
		`[{"event":"lunch","limit":1,"extendMax":0,"extendWith":"none","legalBasis":"x"}]`:                                                                                        "event",
		`[{"event":"mediation","limit":1,"days":2}]`:                                                                                                                              `unknown field "days"`,
		`[{"event":"mediation","limit":1,"extendMax":0,"extendWith":"none","legalBasis":"x"},{"event":"mediation","limit":1,"extendMax":0,"extendWith":"none","legalBasis":"x"}]`: "repeats the event",
		`[]`: "no rules",
	} {
		if _, errs := runCommand(t, exitUsage, leadArgs(f, "rule", "import", put(text))...); !strings.Contains(errs, want) {
			t.Errorf("error %q, want %q", errs, want)
		}
	}
}
