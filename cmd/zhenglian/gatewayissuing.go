package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/print"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/gateway/sqlcredential"
)

// credentialsFile is the name of the store of credentials in a gateway's data
// folder. It holds personal data and nothing can rebuild it.
const credentialsFile = "credentials.sqlite"

// gatewayIssuing is the department's issuing key.
type gatewayIssuing struct {
	Certificate string `json:"certificate"` // PEM file
	Key         string `json:"key"`         // PEM file
}

func (s *gatewaySetup) readIssuing(r *configReader) {
	if s.PrintFont != "" {
		s.PrintFont = r.path(s.PrintFont)
	}
	var err error
	if s.printer, err = print.New(s.PrintFont); err != nil {
		r.fault("printFont", "%w", err)
	}
	if s.Issuing == nil {
		return
	}
	cert, key := r.contents("issuing.certificate", s.Issuing.Certificate), r.contents("issuing.key", s.Issuing.Key)
	if cert == nil || key == nil || s.department.Code == "" {
		return
	}
	if s.issuer, err = credential.NewIssuer(s.anchors, s.Department, cert, key); err != nil {
		r.fault("issuing", "%w", err)
	}
}

// openIssuing opens the store of credentials, if the gateway has an issuing key.
// It answers what closes the store.
func (p *gatewayParts) openIssuing(ctx context.Context) (func() error, error) {
	if p.setup.issuer == nil {
		return func() error { return nil }, nil
	}
	store, err := sqlcredential.Open(ctx, filepath.Join(p.setup.Data, credentialsFile))
	if err != nil {
		return nil, err
	}
	reader, err := credential.NewVerifier(p.setup.anchors)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	p.issuing = &service.Issuing{Issuer: p.setup.issuer, Store: store, Reader: reader, Printer: p.setup.printer}
	return store.Close, nil
}
