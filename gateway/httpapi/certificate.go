package httpapi

import (
	"context"
	"strings"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/index"
	"github.com/zhenglian/zhenglian/gateway/qrcode"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// defaultModule is the width of a QR code's module in pixels: about 0.7 mm on
// paper at 300 dpi.
const defaultModule = 8

func (s *server) ListCertificates(ctx context.Context, r api.ListCertificatesRequestObject) (api.ListCertificatesResponseObject, error) {
	ctx, _ = inbound(ctx)
	l, err := s.Certificates.List(ctx, index.Filter{
		Department: domain.DepartmentCode(valueOf(r.Params.Department)),
		State:      valueOf(r.Params.State),
	}, page(r.Params.Limit, r.Params.Cursor))
	return listed[api.ListCertificates200JSONResponse](l, err)
}

func (s *server) IssueCertificate(ctx context.Context, r api.IssueCertificateRequestObject) (api.IssueCertificateResponseObject, error) {
	ctx, caller := inbound(ctx)
	b := r.Body
	issued, err := s.Certificates.Issue(ctx, caller, service.IssueRequest{
		TypeCode:        b.TypeCode,
		TypeNameZh:      b.TypeNameZh,
		TypeNameEn:      b.TypeNameEn,
		HolderKind:      string(b.HolderKind),
		HolderSaltedRef: b.HolderSaltedRef,
		ValidFrom:       b.Validity.From,
		ValidTo:         b.Validity.To,
		ServiceItem:     b.ServiceItem,
		ContentDigest:   b.ContentDigest,
		Serial:          b.Serial,
	})
	if body, headers, ok := outcomeUnknown(err); ok {
		// The link cannot be made again, and it is good if the transaction was.
		body.Ref, body.Link, body.CheckCode = issued.Value.Content.Ref, issued.Link, issued.CheckCode
		return api.IssueCertificate202JSONResponse{OutcomeUnknownJSONResponse: api.OutcomeUnknownJSONResponse{Body: body, Headers: headers}}, nil
	}
	if err != nil {
		return nil, err
	}
	w, err := written[api.WrittenCertificate](issued.Written, nil)
	if err != nil {
		return nil, err
	}
	return api.IssueCertificate201JSONResponse{
		Record: w.Record, Block: w.Block, TxID: w.TxID, Link: issued.Link, CheckCode: issued.CheckCode,
	}, nil
}

func (s *server) GetCertificate(ctx context.Context, r api.GetCertificateRequestObject) (api.GetCertificateResponseObject, error) {
	ctx, _ = inbound(ctx)
	w, err := s.Certificates.Get(ctx, r.Ref)
	return written[api.GetCertificate200JSONResponse](w, err)
}

func (s *server) RevokeCertificate(ctx context.Context, r api.RevokeCertificateRequestObject) (api.RevokeCertificateResponseObject, error) {
	ctx, caller := inbound(ctx)
	act, err := api.Convert[domain.StatusAct](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Certificates.Revoke(ctx, caller, domain.RevokeArgs{Ref: r.Ref, Act: act})
	return written[api.RevokeCertificate200JSONResponse](w, err)
}

// The pictures say nothing about whether the certificate exists: they are drawn
// from the reference alone.

func (s *server) GetCertificateQRPNG(_ context.Context, r api.GetCertificateQRPNGRequestObject) (api.GetCertificateQRPNGResponseObject, error) {
	module := defaultModule
	if r.Params.Module != nil {
		module = *r.Params.Module
	}
	picture, err := qrcode.PNG(s.publicLink(r.Ref), module)
	return document{media: "image/png", body: picture}, err
}

func (s *server) GetCertificateQRSVG(_ context.Context, r api.GetCertificateQRSVGRequestObject) (api.GetCertificateQRSVGResponseObject, error) {
	picture, err := qrcode.SVG(s.publicLink(r.Ref))
	return document{media: "image/svg+xml", body: picture}, err
}

// publicLink answers the page's address without the check code, which the
// gateway does not have.
func (s *server) publicLink(ref string) string {
	return strings.TrimSuffix(s.PublicURL, "/") + "/v/" + ref
}
