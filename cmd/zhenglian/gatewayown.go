package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ownFile is a department's own settings, beside gateway.json.
const ownFile = "own.json"

// gatewayOwn are the settings that are one department's business and not the
// consortium's; none is required. gateway.json is rendered from what all
// departments agreed on, again and again. own.json has the same fields, no
// program writes it, and what it says counts.
type gatewayOwn struct {
	PrintFont string           `json:"printFont,omitempty"` // file, see print.New; without it one that is installed
	Limits    *gatewayLimits   `json:"limits,omitempty"`
	Watch     *gatewayWatch    `json:"watch,omitempty"`
	Monitor   *gatewayMonitor  `json:"monitor,omitempty"`
	OIDC      *gatewayOIDC     `json:"oidc,omitempty"`    // accepts the tokens of an OpenID provider besides those of the file
	MTLS      *gatewayMTLS     `json:"mtls,omitempty"`    // a second port, for client certificates
	Signing   *gatewaySigning  `json:"signing,omitempty"` // people who sign with keys that are not here
	Requests  *gatewayRequests `json:"requests,omitempty"`
	Traces    *gatewayTraces   `json:"traces,omitempty"` // without it no traces are made
}

// readOwn reads own.json from the folder over what the settings are already, and
// says whether there is one.
func (o *gatewayOwn) readOwn(dir string) (bool, error) {
	file := filepath.Join(dir, ownFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the department's own settings: %w", err)
	}
	if err := decodeStrictly(data, o); err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	return true, nil
}
