package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/proof/prooftest"
)

// TestIssuingConfiguration checks that a gateway starts with the issuing key of
// its department, with none, and with no other.
func TestIssuingConfiguration(t *testing.T) {
	consortium := prooftest.New()
	civil, police := consortium.Department("civil").Authority, consortium.Department("police").Authority
	named := map[string]any{"certificate": "issuing/cert.pem", "key": "issuing/key.pem"}
	for _, tt := range []struct {
		name     string
		identity *prooftest.Identity
		issuing  any
		font     string
		want     string // in the error
		issues   bool
	}{
		{name: "none"},
		{name: "own", identity: civil.Issue("issuing", credential.IssuingUnit), issuing: named, issues: true},
		{name: "an operator's", identity: civil.Issue("operator", "client"), issuing: named, want: "field issuing: the issuing certificate: "},
		{name: "another department's", identity: police.Issue("issuing", credential.IssuingUnit), issuing: named, want: "field issuing: the issuing certificate: "},
		{name: "no files", issuing: named, want: "field issuing.key: open "},
		{name: "no key", issuing: map[string]any{"certificate": "identity/cert.pem"}, want: "field issuing.key: is missing"},
		{name: "no font", font: "none.ttf", want: "field printFont: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newGatewayFolder(t, "civil", nil)
			if tt.identity != nil {
				writeIdentity(t, filepath.Join(f.dir, "issuing"), tt.identity)
			}
			if tt.issuing != nil {
				f.config["issuing"] = tt.issuing
			}
			if tt.font != "" {
				f.config["printFont"] = tt.font
			}
			f.write("gateway.json", f.config)
			setup, err := loadGateway(f.file(), "")
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Fatalf("error = %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if issues := setup.issuer != nil; issues != tt.issues || setup.printer == nil {
				t.Errorf("issues: %v, want %v; printer %v", issues, tt.issues, setup.printer)
			}
		})
	}
}
