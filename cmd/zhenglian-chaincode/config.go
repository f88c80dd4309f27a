package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

// config is the configuration of one chaincode process. Every field is required.
type config struct {
	// Listen is the address to serve on, host:port.
	Listen string `json:"listen"`
	// ChaincodeID is the package ID that the peer installed, label:hash. The peer
	// refuses a process that says anything else.
	ChaincodeID string `json:"chaincodeId"`
	// TLS is mandatory on both sides: whoever may connect is the peer as far as
	// chaincode can tell.
	TLS tlsConfig `json:"tls"`

	folder string // of the configuration file
}

// tlsConfig names PEM files, relative to the configuration file.
type tlsConfig struct {
	Certificate string `json:"certificate"` // this server's chain
	Key         string `json:"key"`         // its private key
	ClientRoots string `json:"clientRoots"` // the CA of the peer's client certificate
}

// readConfig reads a configuration file strictly: an unknown or missing field is
// an error that names it.
func readConfig(path string) (config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return config{}, fmt.Errorf("read configuration: %w", err)
	}
	c := config{folder: filepath.Dir(path)}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return config{}, fmt.Errorf("configuration %s: text follows the JSON object", path)
	}
	for _, field := range []struct{ name, value string }{
		{"listen", c.Listen},
		{"chaincodeId", c.ChaincodeID},
		{"tls.certificate", c.TLS.Certificate},
		{"tls.key", c.TLS.Key},
		{"tls.clientRoots", c.TLS.ClientRoots},
	} {
		if field.value == "" {
			return config{}, fmt.Errorf("configuration %s: %s is required", path, field.name)
		}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return config{}, fmt.Errorf("configuration %s: listen must be host:port: %w", path, err)
	}
	return c, nil
}

// tls loads the keys. The result demands a client certificate.
func (c config) tls() (*tls.Config, error) {
	at := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(c.folder, name)
	}
	pair, err := tls.LoadX509KeyPair(at(c.TLS.Certificate), at(c.TLS.Key))
	if err != nil {
		return nil, fmt.Errorf("tls.certificate and tls.key: %w", err)
	}
	roots, err := os.ReadFile(at(c.TLS.ClientRoots))
	if err != nil {
		return nil, fmt.Errorf("tls.clientRoots: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return nil, fmt.Errorf("tls.clientRoots: no certificate in %s", at(c.TLS.ClientRoots))
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
	}, nil
}
