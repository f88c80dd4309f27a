package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/zhenglian/zhenglian/network"
)

// configCommand is the command line of changes that several departments sign.
type configCommand struct {
	Department string `help:"Whose operator this is; needed where the admins' keys of several departments are."`

	Propose struct {
		Output   string   `help:"File to write." short:"o" required:"" type:"path"`
		Ordering struct{} `cmd:"" help:"The ordering's limits and timers, as the edited definition has them."`

		AddDepartment struct {
			Certificates string `help:"Folder with ca.pem, tlsca.pem, orderer.pem and orderer-tls.pem of the new department." required:"" type:"path"`
		} `cmd:"" help:"The department that the edited definition has besides: first as a member, then among those who order."`

		Orderer struct{} `cmd:"" help:"New certificates for the own orderer."`

		Revoke struct {
			Identity    string `help:"Replace the key of this identity (admin, auditor, gateway, issuing, operator, peer, reviewer), then revoke its certificate." xor:"what" required:""`
			Certificate string `help:"Revoke the certificate in this file." xor:"what" required:"" type:"path"`
			Reason      string `help:"Why, as RFC 5280 names it." default:"keycompromise" enum:"unspecified,keycompromise,affiliationchanged,superseded,cessationofoperation"`
		} `cmd:"" help:"Revoke a certificate at the own authority and name it to the channel."`

		Capability struct {
			Section string `help:"Of what." required:"" enum:"channel,orderer,application"`
			Name    string `help:"Such as V2_5. Nodes that do not know it stop." required:""`
		} `cmd:"" help:"The capability that all nodes of the channel must have."`
	} `cmd:"" help:"Write a change of the channel into a file for the departments to sign."`

	Show struct {
		File string `arg:"" help:"File that config propose wrote." type:"path"`
	} `cmd:"" help:"Say what a file would change, who has signed it and whether that is enough."`

	Sign struct {
		File   string `arg:"" help:"File that config propose wrote." type:"path"`
		Digest string `help:"Do not ask: what was shown had this digest."`
	} `cmd:"" help:"Show a file and, after asking, add the own admin's signature."`

	Merge struct {
		File   string   `arg:"" help:"File that takes the signatures." type:"path"`
		Others []string `arg:"" help:"Copies of it." type:"path"`
	} `cmd:"" help:"Bring the signatures of several copies of a file together."`

	Submit struct {
		Files []string `arg:"" help:"The file, or several copies of it." type:"path"`
	} `cmd:"" help:"Hand a change with enough signatures to an orderer and wait until it is committed."`

	Adopt struct{} `cmd:"" help:"Bring the own state folder to what the channel has: revocation lists, the orderer's new certificates, the edited ordering."`
}

// config runs the command with the name that the parser gives it.
func (s *session) config(ctx context.Context, command string) error {
	words := strings.Fields(command)
	if len(words) < 2 || words[0] != "config" {
		return fmt.Errorf("no such command %q", command)
	}
	in := s.cli.Config
	switch words[1] {
	case "propose":
		return s.proposeConfig(ctx, words[len(words)-1])
	case "show":
		review, err := s.consortium.ReviewConfig(ctx, in.Department, in.Show.File)
		if err != nil {
			return err
		}
		return s.showReview(review)
	case "sign":
		return s.signConfig(ctx)
	case "merge":
		review, taken, err := s.consortium.MergeConfig(ctx, in.Department, in.Merge.File, in.Merge.Others)
		if err != nil {
			return err
		}
		if s.cli.JSON || review.Committed {
			return s.showReview(review)
		}
		return s.report(nil, "signatures taken over: %d; %s", taken, standing(review))
	case "submit":
		result, err := s.consortium.SubmitConfig(ctx, in.Department, in.Submit.Files)
		if err != nil {
			return err
		}
		if result.Already {
			return s.report(result, "was committed in block %d", result.Block)
		}
		return s.report(result, "committed in block %d", result.Block)
	}
	result, err := s.consortium.AdoptConfig(ctx, in.Department)
	if err != nil {
		return err
	}
	if len(result.Changed) == 0 {
		return s.report(result, "nothing to change")
	}
	for _, kind := range result.Restart {
		defer fmt.Fprintf(s.people(), "restart zhenglian-%s\n", kind)
	}
	return s.report(result, "new: %s", strings.Join(result.Changed, ", "))
}

// people is where text for people goes beside the result.
func (s *session) people() io.Writer {
	if s.cli.JSON {
		return io.Discard
	}
	return s.stdout
}

func (s *session) proposeConfig(ctx context.Context, what string) error {
	in := s.cli.Config
	var change network.ConfigChange
	switch what {
	case "ordering":
		change.Ordering = true
	case "add-department":
		change.Department = in.Propose.AddDepartment.Certificates
	case "orderer":
		change.Orderer = true
	case "revoke":
		r := in.Propose.Revoke
		change.Revocation = &network.Revocation{Identity: r.Identity, Certificate: r.Certificate, Reason: r.Reason}
	case "capability":
		change.Section, change.Capability = in.Propose.Capability.Section, in.Propose.Capability.Name
	}
	result, err := s.consortium.ProposeConfig(ctx, in.Department, change, in.Propose.Output)
	if err != nil {
		return err
	}
	if result.File == "" {
		return s.report(result, "nothing to change: the channel has it in configuration %d", result.Base)
	}
	writeSummary(s.people(), result.Summary)
	return s.report(result, "%s holds it, %s", result.File, result.Digest)
}

func (s *session) signConfig(ctx context.Context) error {
	in := s.cli.Config
	digest := in.Sign.Digest
	if digest == "" {
		review, err := s.consortium.ReviewConfig(ctx, in.Department, in.Sign.File)
		if err != nil {
			return err
		}
		if err := s.writeReview(s.people(), review); err != nil || review.Committed {
			return err
		}
		fmt.Fprint(s.people(), "sign it? Type yes: ")
		answer, err := bufio.NewReader(s.stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the answer: %w", err)
		}
		if strings.TrimSpace(answer) != "yes" {
			return errors.New("not confirmed, nothing was signed; answer yes or give --digest")
		}
		digest = review.Digest
	}
	review, fresh, err := s.consortium.SignConfig(ctx, in.Department, in.Sign.File, digest)
	if err != nil {
		return err
	}
	if fresh {
		return s.report(review, "signed; %s", standing(review))
	}
	return s.report(review, "was signed before; %s", standing(review))
}

// standing says in a few words whether a review's signatures are enough.
func standing(r *network.ConfigReview) string {
	counting := 0
	for _, signature := range r.Signatures {
		if signature.Counts {
			counting++
		}
	}
	if r.Enough {
		return fmt.Sprintf("signatures that count: %d, enough to submit", counting)
	}
	return fmt.Sprintf("signatures that count: %d, not enough yet", counting)
}

func (s *session) showReview(r *network.ConfigReview) error {
	if s.cli.JSON {
		return s.writeJSON(r)
	}
	return s.writeReview(s.stdout, r)
}

func (s *session) writeReview(out io.Writer, r *network.ConfigReview) error {
	if r.Committed {
		_, err := fmt.Fprintf(out, "was committed in block %d\n", r.Block)
		return err
	}
	writeSummary(out, r.Summary)
	fmt.Fprintf(out, "%s\n", r.Digest)
	for _, signature := range r.Signatures {
		verdict := "counts"
		if !signature.Counts {
			verdict = "does not count: " + signature.Why
		}
		fmt.Fprintf(out, "signed by %s, %s, serial %s: %s\n", signature.MSPID, signature.Subject, signature.Serial, verdict)
	}
	for _, policy := range r.Policies {
		verdict := "not satisfied"
		if policy.Satisfied {
			verdict = "satisfied"
		}
		fmt.Fprintf(out, "%s (%s), which guards %d of what changes: %s\n", policy.Policy, policy.Rule, policy.Elements, verdict)
	}
	_, err := fmt.Fprintln(out, standing(r))
	return err
}

// writeSummary writes what a change does, its first line as a heading.
func writeSummary(out io.Writer, lines []string) {
	for i, line := range lines {
		if i > 0 {
			line = "  " + line
		}
		fmt.Fprintln(out, line)
	}
}
