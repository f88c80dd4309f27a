package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
)

// leadFlags are what the commands of the lead's admin have in common.
type leadFlags struct {
	Gateway   string        `required:"" placeholder:"URL" help:"The lead's gateway, for example http://127.0.0.1:8081."`
	TokenFile string        `required:"" type:"existingfile" help:"File with the access token: the token alone, or a JSON object of tokens by role."`
	Role      string        `default:"admin" help:"Whose token to take from a JSON token file."`
	Patience  time.Duration `default:"2m" help:"How long one step may wait for a busy or unreachable gateway."`
}

func (f *leadFlags) client() (*gatewayClient, error) {
	token, err := readToken(f.TokenFile, f.Role)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	client, err := newGatewayClient(f.Gateway, token, f.Patience)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return client, nil
}

// calendarCmd groups the commands that work with calendars.
type calendarCmd struct {
	Import calendarImportCmd `cmd:"" help:"Set the working days of years from files of the State Council's notices."`
}

// calendarImportCmd is "zhenglian calendar import".
type calendarImportCmd struct {
	leadFlags
	Files       []string `arg:"" type:"existingfile" help:"One JSON file per year: {year, papers, days: [{name, date, isOffDay}]}."`
	Provisional bool     `help:"Set years without days as well: with weekends only, marked provisional 暂定."`
}

// holidayFile is a year's notice as published in machine-readable form: the days
// that are off, and the weekend days that are worked in exchange.
type holidayFile struct {
	Year   int      `json:"year"`
	Papers []string `json:"papers"`
	Days   []struct {
		Name     string `json:"name"`
		Date     string `json:"date"`
		IsOffDay bool   `json:"isOffDay"`
	} `json:"days"`
}

// provisionalSource is the source of a calendar that no notice stands behind.
const provisionalSource = "暂定：只含周末，国务院办公厅的节假日安排通知尚未公布"

// Run sets the calendars.
func (c *calendarImportCmd) Run(e *env) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var files []holidayFile
	for _, path := range c.Files {
		file, err := readHolidays(path)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		files = append(files, file)
	}
	known, err := listAll[domain.Calendar](e.ctx, client, listCalendars(client))
	if err != nil {
		return err
	}
	calendars, notes, err := mergeHolidays(files, known, c.Provisional)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	for _, note := range notes {
		fmt.Fprintln(e.stdout, note)
	}
	for _, args := range calendars {
		if i := slices.IndexFunc(known, func(k domain.Calendar) bool { return k.Year == args.Year }); i >= 0 {
			switch {
			case slices.Equal(known[i].DaysOff, args.DaysOff) && slices.Equal(known[i].Workdays, args.Workdays) && known[i].Source == args.Source && known[i].Provisional == args.Provisional:
				fmt.Fprintf(e.stdout, "%d: in force already, version %d\n", args.Year, known[i].Version)
				continue
			case args.Provisional && !known[i].Provisional:
				return fmt.Errorf("%d: an official calendar is in force; a provisional one does not replace it", args.Year)
			}
		}
		set, err := setCalendar(e.ctx, client, args)
		if err != nil {
			return fmt.Errorf("%d: %w", args.Year, coded(err))
		}
		kind := "official"
		if args.Provisional {
			kind = "provisional 暂定"
		}
		fmt.Fprintf(e.stdout, "%d: set as version %d (%s): %d days off, %d weekend days worked\n", args.Year, set.Version, kind, len(args.DaysOff), len(args.Workdays))
	}
	return nil
}

// coded gives an error whose write may have happened its exit code.
func coded(err error) error {
	var unknown *unknownError
	if errors.As(err, &unknown) {
		return &exitError{exitUnknown, err}
	}
	return err
}

func readHolidays(path string) (holidayFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return holidayFile{}, err
	}
	var file holidayFile
	if err := json.Unmarshal(data, &file); err != nil {
		return holidayFile{}, fmt.Errorf("%s: %w", path, err)
	}
	if file.Year == 0 {
		return holidayFile{}, fmt.Errorf("%s: names no year", path)
	}
	for _, day := range file.Days {
		date, err := time.Parse(time.DateOnly, day.Date)
		if err != nil {
			return holidayFile{}, fmt.Errorf("%s: %q is not a date", path, day.Date)
		}
		if !day.IsOffDay && !weekend(date) {
			return holidayFile{}, fmt.Errorf("%s: %s is listed as worked and is neither Saturday nor Sunday", path, day.Date)
		}
	}
	return file, nil
}

func weekend(date time.Time) bool {
	return date.Weekday() == time.Saturday || date.Weekday() == time.Sunday
}

// mergeHolidays makes the calendars of the files' years. A notice may name days
// of the year before or after: they are added to that year's calendar, from
// another file or on the ledger (known). notes say what else was done.
func mergeHolidays(files []holidayFile, known []domain.Calendar, provisional bool) (calendars []domain.SetCalendarArgs, notes []string, err error) {
	byYear := make(map[int]*domain.SetCalendarArgs)
	for _, file := range files {
		if byYear[file.Year] != nil {
			return nil, nil, fmt.Errorf("two files are of %d", file.Year)
		}
		args := &domain.SetCalendarArgs{Year: file.Year, DaysOff: []string{}, Workdays: []string{}, Source: strings.Join(file.Papers, " ")}
		switch {
		case len(file.Days) == 0 && !provisional:
			return nil, nil, fmt.Errorf("the file of %d has no days: the year is not announced yet; --provisional sets weekends only, marked 暂定", file.Year)
		case len(file.Days) == 0:
			args.Source, args.Provisional = provisionalSource, true
		case args.Source == "":
			return nil, nil, fmt.Errorf("the file of %d names no paper: a calendar needs its source", file.Year)
		}
		byYear[file.Year] = args
	}
	for _, file := range files {
		for _, day := range file.Days {
			date, err := time.Parse(time.DateOnly, day.Date)
			if err != nil {
				return nil, nil, err
			}
			args := byYear[date.Year()]
			if args == nil {
				if i := slices.IndexFunc(known, func(k domain.Calendar) bool { return k.Year == date.Year() }); i >= 0 {
					args = &domain.SetCalendarArgs{
						Year: date.Year(), DaysOff: slices.Clone(known[i].DaysOff), Workdays: slices.Clone(known[i].Workdays),
						Source: known[i].Source, Provisional: known[i].Provisional,
					}
					byYear[date.Year()] = args
				}
			}
			switch {
			case args == nil && day.IsOffDay && weekend(date):
				notes = append(notes, fmt.Sprintf("%d: %s is off and a weekend day all the same; the calendar of %d is not known and was not made", file.Year, day.Date, date.Year()))
				continue
			case args == nil:
				return nil, nil, fmt.Errorf("the file of %d names %s: give the file of %d as well", file.Year, day.Date, date.Year())
			}
			to, other := &args.DaysOff, &args.Workdays
			if !day.IsOffDay {
				to, other = other, to
			}
			if slices.Contains(*other, day.Date) {
				return nil, nil, fmt.Errorf("%s is both off and worked", day.Date)
			}
			if !slices.Contains(*to, day.Date) {
				*to = append(*to, day.Date)
			}
		}
	}
	for _, args := range byYear {
		slices.Sort(args.DaysOff)
		slices.Sort(args.Workdays)
		if err := args.Validate(); err != nil {
			return nil, nil, fmt.Errorf("%d: %w", args.Year, err)
		}
		calendars = append(calendars, *args)
	}
	slices.SortFunc(calendars, func(a, b domain.SetCalendarArgs) int { return a.Year - b.Year })
	return calendars, notes, nil
}

// ruleCmd groups the commands that work with deadline rules.
type ruleCmd struct {
	Import ruleImportCmd `cmd:"" help:"Set deadline rules from a file."`
}

// ruleImportCmd is "zhenglian rule import".
type ruleImportCmd struct {
	leadFlags
	File string `arg:"" type:"existingfile" help:"JSON list of rules: [{event, limit, extendMax, extendWith, legalBasis}]; see docs/deadlines.md."`
}

// Run sets the rules.
func (c *ruleImportCmd) Run(e *env) error {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	var rules []domain.SetRuleArgs
	if err := decodeStrictly(data, &rules); err != nil {
		return &exitError{exitUsage, fmt.Errorf("%s: %w", c.File, err)}
	}
	var wrong []error
	for i, rule := range rules {
		if err := rule.Validate(); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: rule %d (%s): %w", filepath.Base(c.File), i+1, rule.Event, err))
		}
		if slices.ContainsFunc(rules[:i], func(r domain.SetRuleArgs) bool { return r.Event == rule.Event }) {
			wrong = append(wrong, fmt.Errorf("%s: rule %d: repeats the event %s", filepath.Base(c.File), i+1, rule.Event))
		}
	}
	if len(wrong) > 0 || len(rules) == 0 {
		return &exitError{exitUsage, errors.Join(append(wrong, errorIf(len(rules) == 0, "the file has no rules"))...)}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	known, err := listAll[domain.DeadlineRule](e.ctx, client, listRules(client))
	if err != nil {
		return err
	}
	for _, args := range rules {
		if i := slices.IndexFunc(known, func(k domain.DeadlineRule) bool { return ruleArgs(k) == args }); i >= 0 {
			fmt.Fprintf(e.stdout, "%s: in force already, version %d\n", args.Event, known[i].Version)
			continue
		}
		set, err := setRule(e.ctx, client, args)
		if err != nil {
			return fmt.Errorf("%s: %w", args.Event, coded(err))
		}
		fmt.Fprintf(e.stdout, "%s: set as version %d: %d working days\n", args.Event, set.Version, args.Limit)
	}
	return nil
}

func errorIf(is bool, text string) error {
	if is {
		return errors.New(text)
	}
	return nil
}

func ruleArgs(r domain.DeadlineRule) domain.SetRuleArgs {
	return domain.SetRuleArgs{Event: r.Event, Limit: r.Limit, ExtendMax: r.ExtendMax, ExtendWith: r.ExtendWith, LegalBasis: r.LegalBasis}
}

func listCalendars(client *gatewayClient) func(context.Context, *string) (*http.Response, error) {
	return func(ctx context.Context, cursor *string) (*http.Response, error) {
		return client.ListCalendars(ctx, &api.ListCalendarsParams{Limit: pointer(200), Cursor: cursor})
	}
}

func listRules(client *gatewayClient) func(context.Context, *string) (*http.Response, error) {
	return func(ctx context.Context, cursor *string) (*http.Response, error) {
		return client.ListRules(ctx, &api.ListRulesParams{Limit: pointer(200), Cursor: cursor})
	}
}

// listAll reads every page of a list.
func listAll[T any](ctx context.Context, client *gatewayClient, page func(context.Context, *string) (*http.Response, error)) ([]T, error) {
	var all []T
	var cursor *string
	for {
		var got list[T]
		if err := client.read(ctx, func(ctx context.Context) (*http.Response, error) { return page(ctx, cursor) }, &got); err != nil {
			return nil, err
		}
		for _, item := range got.Items {
			all = append(all, item.Record)
		}
		if got.Next == "" {
			return all, nil
		}
		cursor = pointer(got.Next)
	}
}

func setCalendar(ctx context.Context, client *gatewayClient, args domain.SetCalendarArgs) (domain.Calendar, error) {
	var out written[domain.Calendar]
	key, err := newOperationKey()
	if err == nil {
		_, err = client.write(ctx, posting(args, func(ctx context.Context, body io.Reader) (*http.Response, error) {
			return client.SetCalendarWithBody(ctx, &api.SetCalendarParams{IdempotencyKey: &key}, jsonType, body)
		}), repeatable, &out)
	}
	return out.Record, err
}

func setRule(ctx context.Context, client *gatewayClient, args domain.SetRuleArgs) (domain.DeadlineRule, error) {
	var out written[domain.DeadlineRule]
	key, err := newOperationKey()
	if err == nil {
		_, err = client.write(ctx, posting(args, func(ctx context.Context, body io.Reader) (*http.Response, error) {
			return client.SetRuleWithBody(ctx, &api.SetRuleParams{IdempotencyKey: &key}, jsonType, body)
		}), repeatable, &out)
	}
	return out.Record, err
}
