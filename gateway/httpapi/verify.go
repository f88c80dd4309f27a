package httpapi

import (
	"context"

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

func (s *server) VerifyCertificate(ctx context.Context, r api.VerifyCertificateRequestObject) (api.VerifyCertificateResponseObject, error) {
	ctx, _ = inbound(ctx)
	out, err := verification(s.Verification.Verify(ctx, r.Ref))
	return api.VerifyCertificate200JSONResponse(out), err
}

// verification renders what the public may know: neither the holder's
// commitment nor the check code's hash, which would let a guess be tested.
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
		StatusSince: c.StatusSince, ContentDigest: c.Content.ContentDigest,
	}
	if d := v.Issuer; d != nil {
		out.Certificate.IssuerNameZh, out.Certificate.IssuerNameEn = d.NameZh, d.NameEn
	}
	if c.StatusAct != nil {
		act, err := api.Convert[api.StatusAct](c.StatusAct)
		if err != nil {
			return api.Verification{}, err
		}
		out.Certificate.StatusAct = &act
	}
	return out, nil
}

// verdict answers v as the contract writes it. What it does not know, the zero
// value included, is "cannot check".
func verdict(v service.Verdict) api.Verdict {
	switch v {
	case service.Valid:
		return api.VerdictValid
	case service.Revoked:
		return api.VerdictRevoked
	case service.Expired:
		return api.VerdictExpired
	case service.NotYetValid:
		return api.VerdictNotYetValid
	case service.NotFound:
		return api.VerdictNotFound
	case service.CannotCheck:
		return api.VerdictCannotCheck
	}
	return api.VerdictCannotCheck
}

func (s *server) GetCertificateProof(ctx context.Context, r api.GetCertificateProofRequestObject) (api.GetCertificateProofResponseObject, error) {
	ctx, _ = inbound(ctx)
	bundle, _, err := s.Verification.Proof(ctx, string(domain.KindCertificate), r.Ref)
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
