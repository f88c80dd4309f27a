package httpapi

import (
	"context"
	"strings"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
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
	return listed[api.ListCertificates200JSONResponse](s, l, err)
}

func (s *server) ListIssuers(ctx context.Context, r api.ListIssuersRequestObject) (api.ListIssuersResponseObject, error) {
	ctx, _ = inbound(ctx)
	l, err := s.Certificates.Authorisations(ctx, index.Filter{
		Department: domain.DepartmentCode(valueOf(r.Params.Department)),
		State:      valueOf(r.Params.State),
	}, page(r.Params.Limit, r.Params.Cursor))
	return listed[api.ListIssuers200JSONResponse](s, l, err)
}

func (s *server) AuthoriseIssuer(ctx context.Context, r api.AuthoriseIssuerRequestObject) (api.AuthoriseIssuerResponseObject, error) {
	ctx, caller := inbound(ctx)
	args, err := api.Convert[domain.AuthoriseArgs](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Certificates.Authorise(ctx, caller, args)
	return written[api.AuthoriseIssuer201JSONResponse](w, err)
}

func (s *server) EndIssuerAuthorisation(ctx context.Context, r api.EndIssuerAuthorisationRequestObject) (api.EndIssuerAuthorisationResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Certificates.EndAuthorisation(ctx, caller, domain.EndAuthorisationArgs{
		Issuer: domain.DepartmentCode(r.Department), TypeCode: r.TypeCode, Reason: r.Body.Reason,
	})
	return written[api.EndIssuerAuthorisation200JSONResponse](w, err)
}

func issueRequest(b api.IssueCertificate) service.IssueRequest {
	r := service.IssueRequest{
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
		Replaces:        b.Replaces,
	}
	for _, item := range b.Items {
		r.Items = append(r.Items, credential.Item{Name: item.Name, Value: item.Value, ByCode: credential.Showing(item.ByCode)})
	}
	return r
}

func (s *server) IssueCertificate(ctx context.Context, r api.IssueCertificateRequestObject) (api.IssueCertificateResponseObject, error) {
	ctx, caller := inbound(ctx)
	issued, err := s.Certificates.Issue(ctx, caller, issueRequest(*r.Body))
	if body, headers, ok := outcomeUnknown(err); ok {
		// The link cannot be made again, and it is good if the transaction was.
		body.Ref, body.Link, body.CheckCode, body.Credential = issued.Value.Content.Ref, issued.Link, issued.CheckCode, issued.Credential
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
		Record: w.Record, Block: w.Block, TxID: w.TxID, Link: issued.Link, CheckCode: issued.CheckCode, Credential: issued.Credential,
	}, nil
}

func (s *server) IssueCertificateBatch(ctx context.Context, r api.IssueCertificateBatchRequestObject) (api.IssueCertificateBatchResponseObject, error) {
	ctx, caller := inbound(ctx)
	requests := make([]service.IssueRequest, len(r.Body.Certificates))
	for i, b := range r.Body.Certificates {
		requests[i] = issueRequest(b)
	}
	issued, err := s.Certificates.IssueBatch(ctx, caller, requests)
	items := make([]api.IssuedItem, len(issued.Items))
	for i, item := range issued.Items {
		items[i] = api.IssuedItem{Ref: item.Ref, CertID: item.CertID, Link: item.Link, CheckCode: item.CheckCode, Credential: item.Credential}
	}
	if body, headers, ok := outcomeUnknown(err); ok {
		body.Items = items
		return api.IssueCertificateBatch202JSONResponse{OutcomeUnknownJSONResponse: api.OutcomeUnknownJSONResponse{Body: body, Headers: headers}}, nil
	}
	if err != nil {
		return nil, err
	}
	return api.IssueCertificateBatch201JSONResponse{Items: items, Block: int64(issued.Block), TxID: string(issued.TxID)}, nil
}

func (s *server) GetCertificate(c context.Context, r api.GetCertificateRequestObject) (api.GetCertificateResponseObject, error) {
	ctx, _ := inbound(c)
	w, err := s.Certificates.Get(ctx, r.Ref)
	return tagged[api.GetCertificate200JSONResponse](c, w, err)
}

func (s *server) ProposeCertificateChange(ctx context.Context, r api.ProposeCertificateChangeRequestObject) (api.ProposeCertificateChangeResponseObject, error) {
	ctx, caller := inbound(ctx)
	act, err := api.Convert[domain.StatusAct](r.Body.Act)
	if err != nil {
		return nil, err
	}
	w, err := s.Certificates.Propose(ctx, caller, domain.ProposeArgs{Ref: r.Ref, Event: domain.StatusEvent(r.Body.Event), Act: act})
	return written[api.ProposeCertificateChange200JSONResponse](w, err)
}

func (s *server) DecideCertificate(ctx context.Context, r api.DecideCertificateRequestObject) (api.DecideCertificateResponseObject, error) {
	ctx, caller := inbound(ctx)
	w, err := s.Certificates.Decide(ctx, caller, domain.DecideArgs{
		Ref: r.Ref, Decision: domain.CertificateDecision(r.Body.Decision), Opinion: r.Body.Opinion,
	})
	return written[api.DecideCertificate200JSONResponse](w, err)
}

func (s *server) DecideCertificateBatch(ctx context.Context, r api.DecideCertificateBatchRequestObject) (api.DecideCertificateBatchResponseObject, error) {
	ctx, caller := inbound(ctx)
	args, err := api.Convert[domain.DecideBatchArgs](r.Body)
	if err != nil {
		return nil, err
	}
	w, err := s.Certificates.DecideBatch(ctx, caller, args)
	return written[api.DecideCertificateBatch200JSONResponse](w, err)
}

func (s *server) PrintCertificate(ctx context.Context, r api.PrintCertificateRequestObject) (api.PrintCertificateResponseObject, error) {
	ctx, caller := inbound(ctx)
	paper, err := s.Certificates.Print(ctx, caller, r.Ref)
	return document{media: "application/pdf", disposition: `inline; filename="certificate.pdf"`, body: paper}, err
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
