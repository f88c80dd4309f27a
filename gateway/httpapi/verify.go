package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
)

const proofMedia = "application/zhenglian-proof+json"

func (s *server) ShowCertificate(ctx context.Context, _ api.ShowCertificateRequestObject) (api.ShowCertificateResponseObject, error) {
	// The generated code hands over nothing but the context; the pages want the
	// request.
	return delegate{handler: s.Pages, request: requestOf(ctx)}, nil
}

func (s *server) ShowFileCheck(ctx context.Context, _ api.ShowFileCheckRequestObject) (api.ShowFileCheckResponseObject, error) {
	return delegate{handler: s.Pages, request: requestOf(ctx)}, nil
}

func (s *server) GetVerifyScript(ctx context.Context, _ api.GetVerifyScriptRequestObject) (api.GetVerifyScriptResponseObject, error) {
	return delegate{handler: s.Pages, request: requestOf(ctx)}, nil
}

func (s *server) GetVerifierModule(ctx context.Context, _ api.GetVerifierModuleRequestObject) (api.GetVerifierModuleResponseObject, error) {
	return delegate{handler: s.Pages, request: requestOf(ctx)}, nil
}

func (s *server) CheckFileOnPage(ctx context.Context, r api.CheckFileOnPageRequestObject) (api.CheckFileOnPageResponseObject, error) {
	request := requestOf(ctx)
	file, err := uploaded(r.Body)
	if err != nil {
		return nil, err
	}
	ctx, _ = inbound(ctx)
	checked := s.Verification.CheckFile(ctx, file)
	return delegate{request: request, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Pages.ServeChecked(w, r, checked)
	})}, nil
}

// uploaded answers the file that a form holds: the first one.
func uploaded(form *multipart.Reader) ([]byte, error) {
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, &refusal{code: api.ProblemCodeInvalid, detail: "the form has no file"}
		}
		if err != nil {
			return nil, unreadable(err)
		}
		if part.FormName() != "file" {
			continue
		}
		file, err := io.ReadAll(part)
		if err != nil {
			return nil, unreadable(err)
		}
		return file, nil
	}
}

func (s *server) CheckFile(ctx context.Context, r api.CheckFileRequestObject) (api.CheckFileResponseObject, error) {
	ctx, _ = inbound(ctx)
	file, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, unreadable(err)
	}
	checked := s.Verification.CheckFile(ctx, file)
	out := api.CheckFile200JSONResponse{Verdict: fileVerdict(checked.Verdict), Reason: checked.Reason, Withheld: checked.Withheld}
	for _, c := range checked.Checks {
		out.Checks = append(out.Checks, api.ProofCheck{Question: string(c.Question), Outcome: string(c.Outcome), Reason: c.Reason})
	}
	for _, d := range checked.Signers {
		out.Signers = append(out.Signers, string(d.Code))
	}
	for _, item := range checked.Items {
		out.Items = append(out.Items, api.CertificateItem{Name: item.Name, Value: item.Value})
	}
	if checked.Statement != nil {
		statement, err := api.Convert[api.Statement](checked.Statement)
		if err != nil {
			return nil, err
		}
		out.Statement = &statement
	}
	if checked.Now != nil {
		now, err := verification(*checked.Now)
		if err != nil {
			return nil, err
		}
		out.Now = &now
	}
	return out, nil
}

func (s *server) VerifyCertificate(ctx context.Context, r api.VerifyCertificateRequestObject) (api.VerifyCertificateResponseObject, error) {
	ctx, _ = inbound(ctx)
	var at time.Time
	if asked := r.Params.At; asked != nil {
		var err error
		if at, err = service.ParseMoment(*asked, s.Clock()); err != nil {
			f := finding("query at", ruleMoment)
			return nil, &refusal{code: api.ProblemCodeInvalid, detail: f.Field + ": " + f.En, fields: []api.FieldFinding{f}}
		}
	}
	v := s.Verification.Verify(ctx, r.Ref)
	if at.IsZero() {
		begin, rest, err := s.verified(&v, nil)
		return document{media: jsonMedia, body: append(begin, rest...)}, err
	}
	out, err := verification(v)
	if err == nil {
		m := v.Then(at)
		out.Then = &api.VerifiedMoment{At: m.At, Verdict: verdict(m.Verdict)}
		if m.Change != nil {
			var change api.StatusChange
			change, err = api.Convert[api.StatusChange](m.Change)
			out.Then.Change = &change
		}
	}
	return api.VerifyCertificate200JSONResponse(out), err
}

// maxRendered bounds the answers that are kept rendered: one or two kilobytes each.
const maxRendered = 4096

// rendered is the JSON of an answer after its time.
type rendered struct {
	certificate *domain.Certificate
	issuer      *domain.Department
	verdict     service.Verdict
	height      uint64
	rest        []byte
}

// asOfFirst is how an answer begins: its time is the first of its names.
const asOfFirst = `{"asOf":"`

// verified answers the JSON of v in two parts, of which it appends the first to
// begin. Of an answer about a certificate that was given before only the time is
// new; the other part is shared and must not be changed.
func (s *server) verified(v *service.Verification, begin []byte) (first, rest []byte, err error) {
	kept, ok := s.rendered.Get(v.Ref)
	if ok && v.Certificate != nil && kept.certificate == v.Certificate && kept.issuer == v.Issuer && kept.verdict == v.Verdict && kept.height == v.Height {
		return v.AsOf.AppendFormat(append(begin, asOfFirst...), time.RFC3339Nano), kept.rest, nil
	}
	out, err := verification(*v)
	if err != nil {
		return nil, nil, err
	}
	body, err := json.Marshal(out)
	if err != nil {
		return nil, nil, fmt.Errorf("render a verification: %w", err)
	}
	rest, ok = bytes.CutPrefix(body, v.AsOf.AppendFormat([]byte(asOfFirst), time.RFC3339Nano))
	if ok && v.Certificate != nil {
		s.rendered.Add(v.Ref, rendered{v.Certificate, v.Issuer, v.Verdict, v.Height, rest})
	}
	return append(begin, body...), nil, nil
}

// verifyRoute is the route of [server.VerifyCertificate].
const verifyRoute = "/v1/verify/:ref"

var jsonMediaOnly = []string{jsonMedia} // the values of a Content-Type, shared by answers

// verifyQuickly answers a verification that asks for nothing but what is known of a
// certificate now, which nearly all do. The generated code would bind the reference
// and look for a query by reflection, which takes longer than all of this.
// Everything else goes on to it.
func (s *server) verifyQuickly(c *gin.Context) {
	way := passageOf(c)
	if !way.refOnly || c.FullPath() != verifyRoute {
		return
	}
	c.Abort()
	v := s.Verification.Verify(c.Request.Context(), c.Params[0].Value)
	begin, rest, err := s.verified(&v, way.begin[:0])
	if err != nil {
		s.fail(c, err)
		return
	}
	way.length[0] = strconv.Itoa(len(begin) + len(rest))
	h := c.Writer.Header()
	h["Content-Type"], h["Content-Length"] = jsonMediaOnly, way.length[:]
	for _, part := range [...][]byte{begin, rest} {
		if _, err := c.Writer.Write(part); err != nil {
			s.fail(c, fmt.Errorf("write answer: %w", err))
			return
		}
	}
}

// verification renders what the public may know: neither the holder's
// commitment nor the check code's hash, which would let a guess be tested, nor what
// is proposed and not decided.
func verification(v service.Verification) (api.Verification, error) {
	out := api.Verification{
		Verdict: verdict(v.Verdict), Reason: v.Reason, Ref: v.Ref, AsOf: v.AsOf, Height: int64(v.Height),
	}
	c := v.Certificate
	if c == nil {
		return out, nil
	}
	block := int64(v.Position.Block)
	out.Block, out.TxID = &block, string(v.Position.TxID)
	out.Certificate = &api.VerifiedCertificate{
		CertID: c.Content.CertID, TypeCode: c.Content.TypeCode, TypeNameZh: c.Content.TypeNameZh, TypeNameEn: c.Content.TypeNameEn,
		Issuer: string(c.Issuer), IssuerUSCC: c.Content.IssuerUSCC, HolderKind: api.HolderKind(c.Content.HolderKind),
		IssuedAt: c.Content.IssuedAt, Validity: api.Period{From: c.Content.Validity.From, To: c.Content.Validity.To},
		StatusSince: c.StatusSince, Successor: c.Successor, Replaces: c.Content.Replaces,
		ContentDigest: c.Content.ContentDigest, StatusIndex: c.Content.StatusIndex,
	}
	if d := v.Issuer; d != nil {
		out.Certificate.IssuerNameZh, out.Certificate.IssuerNameEn = d.NameZh, d.NameEn
	}
	var err error
	if out.Certificate.Changes, err = api.Convert[[]api.StatusChange](c.Changes); err != nil {
		return api.Verification{}, err
	}
	if c.StatusAct != nil {
		act, err := api.Convert[api.StatusAct](c.StatusAct)
		if err != nil {
			return api.Verification{}, err
		}
		out.Certificate.StatusAct = &act
	}
	if c.OpenObjection != nil {
		objection, err := api.Convert[api.Objection](c.OpenObjection)
		if err != nil {
			return api.Verification{}, err
		}
		out.Certificate.OpenObjection = &objection
	}
	return out, nil
}

// verdict answers v as the contract writes it. What it does not know, the zero
// value included, is "cannot check".
func verdict(v service.Verdict) api.Verdict {
	if v.Issued() || v == service.NotFound {
		return api.Verdict(v) // the contract has the same words
	}
	return api.VerdictCannotCheck
}

func fileVerdict(v service.Verdict) api.FileVerdict {
	switch v {
	case service.BadProof:
		return api.FileVerdictBadProof
	case service.Recorded:
		return api.FileVerdictRecorded
	}
	return api.FileVerdict(verdict(v))
}

func (s *server) GetCertificateProof(ctx context.Context, r api.GetCertificateProofRequestObject) (api.GetCertificateProofResponseObject, error) {
	ctx, _ = inbound(ctx)
	var bundle []byte
	var err error
	if nonce := r.Params.Nonce; nonce != nil {
		bundle, _, err = s.Verification.FreshProof(ctx, string(domain.KindCertificate), r.Ref, *nonce)
	} else {
		bundle, _, err = s.Verification.Proof(ctx, string(domain.KindCertificate), r.Ref)
	}
	return document{media: proofMedia, disposition: `attachment; filename="certificate.zlproof"`, body: bundle}, err
}

func (s *server) GetProof(ctx context.Context, r api.GetProofRequestObject) (api.GetProofResponseObject, error) {
	ctx, _ = inbound(ctx)
	bundle, _, err := s.Verification.Proof(ctx, string(r.Kind), r.ID)
	return document{media: proofMedia, body: bundle}, err
}

func (s *server) GetTrust(context.Context, api.GetTrustRequestObject) (api.GetTrustResponseObject, error) {
	return document{media: "application/json", body: s.Trust}, nil
}
