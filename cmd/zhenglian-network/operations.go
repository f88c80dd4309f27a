package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/network"
)

// report writes the result of a command that changes a consortium: as JSON, or as one
// line for people.
func (s *session) report(result any, format string, args ...any) error {
	if s.cli.JSON {
		return s.writeJSON(result)
	}
	_, err := fmt.Fprintf(s.stdout, format+"\n", args...)
	return err
}

func (s *session) revoke(ctx context.Context) error {
	in := s.cli.Revoke
	result, err := s.consortium.Revoke(ctx, network.Revocation{
		Department: in.Department, Identity: in.Identity, Certificate: in.Certificate, Reason: in.Reason,
	})
	if err != nil {
		return err
	}
	return s.report(result, "revoked %s of %s; the list of %s names %d", result.Serial, result.Subject, result.Department, result.Revoked)
}

func (s *session) upgrade(ctx context.Context) error {
	result, err := s.consortium.Upgrade(ctx)
	if err != nil {
		return err
	}
	if len(result.Late) > 0 {
		return s.report(result, "version %s is committed as sequence %d; run upgrade again when these are back: %s", result.Version, result.Sequence, strings.Join(result.Late, ", "))
	}
	return s.report(result, "version %s serves as sequence %d", result.Version, result.Sequence)
}

func (s *session) backup(ctx context.Context) error {
	in := s.cli.Backup
	result, err := s.consortium.Backup(ctx, in.Department, in.Output, network.Secret{Recipients: in.Recipient, PassphraseFile: in.PassphraseFile})
	if err != nil {
		return err
	}
	return s.report(result, "%s holds %s with %d blocks and a log of %d entries, %.1f MB", result.File, result.Department, result.Height, result.LogSize, float64(result.Bytes)/1e6)
}

func (s *session) restore(ctx context.Context) error {
	in := s.cli.Restore
	result, err := s.consortium.Restore(ctx, in.Department, in.Input, network.Secret{IdentityFile: in.Identity, PassphraseFile: in.PassphraseFile})
	if err != nil {
		return err
	}
	if result.NewHost {
		return s.report(result, "the files of %s are in %s; start its services", result.Department, s.consortium.Layout.State)
	}
	return s.report(result, "%s is back with %d blocks; its log goes on after %d entries", result.Department, result.HeightNow, result.LogSize)
}

func (s *session) addDepartment(ctx context.Context) error {
	result, err := s.consortium.AddDepartment(ctx)
	if err != nil {
		return err
	}
	if result.Department == "" {
		return s.report(result, "the definition names nobody new; %d departments order", result.Orderers)
	}
	return s.report(result, "%s takes part: %s; %d departments sign every write", result.Department, result.URL, result.Quorum)
}

func (s *session) rotate(ctx context.Context) error {
	in := s.cli.Rotate
	result, err := s.consortium.Rotate(ctx, in.Department, time.Duration(in.Days)*24*time.Hour)
	if err != nil {
		return err
	}
	return s.report(result, "%d certificates of %s are new, %d were kept; the first ends %s", len(result.Renewed), result.Department, result.Kept, result.NextEnd.Format(time.RFC3339))
}

func (s *session) render(ctx context.Context) error {
	in := s.cli.Render
	result, err := s.consortium.Render(ctx, in.Department, in.Out, network.Host{State: in.HostState, Bin: in.HostBin, Etc: in.HostEtc})
	if err != nil {
		return err
	}
	return s.report(result, "%s has %d files for the machine of %s; see its README.md", result.Folder, result.Files, result.Department)
}
