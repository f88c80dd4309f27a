package credential

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

// rfcKey is the issuer's key of RFC 9901, appendix A.5.
const rfcKey = `{"kty":"EC","crv":"P-256","x":"b28d4MwZMjw8-00CG4xfnn9SLMVMM19SlqZpVb_uNtQ","y":"Xv5zWwuoaTgdS6hV43yI6gBwTnjukmFQQnJ_kCxzqk8"}`

// The examples of RFC 9901, as printed there, line breaks included.
var rfcExamples = []struct{ name, text, want string }{
	{"A.1 simple structured", `
		eyJhbGciOiAiRVMyNTYiLCAidHlwIjogImV4YW1wbGUrc2Qtand0In0.eyJfc2QiOiBb
		IkM5aW5wNllvUmFFWFI0Mjd6WUpQN1FyazFXSF84YmR3T0FfWVVyVW5HUVUiLCAiS3Vl
		dDF5QWEwSElRdlluT1ZkNTloY1ZpTzlVZzZKMmtTZnFZUkJlb3d2RSIsICJNTWxkT0ZG
		ekIyZDB1bWxtcFRJYUdlcmhXZFVfUHBZZkx2S2hoX2ZfOWFZIiwgIlg2WkFZT0lJMnZQ
		TjQwVjd4RXhad1Z3ejd5Um1MTmNWd3Q1REw4Ukx2NGciLCAiWTM0em1JbzBRTExPdGRN
		cFhHd2pCZ0x2cjE3eUVoaFlUMEZHb2ZSLWFJRSIsICJmeUdwMFdUd3dQdjJKRFFsbjFs
		U2lhZW9iWnNNV0ExMGJRNTk4OS05RFRzIiwgIm9tbUZBaWNWVDhMR0hDQjB1eXd4N2ZZ
		dW8zTUhZS08xNWN6LVJaRVlNNVEiLCAiczBCS1lzTFd4UVFlVTh0VmxsdE03TUtzSVJU
		ckVJYTFQa0ptcXhCQmY1VSJdLCAiaXNzIjogImh0dHBzOi8vaXNzdWVyLmV4YW1wbGUu
		Y29tIiwgImlhdCI6IDE2ODMwMDAwMDAsICJleHAiOiAxODgzMDAwMDAwLCAiYWRkcmVz
		cyI6IHsiX3NkIjogWyI2YVVoelloWjdTSjFrVm1hZ1FBTzN1MkVUTjJDQzFhSGhlWnBL
		bmFGMF9FIiwgIkF6TGxGb2JrSjJ4aWF1cFJFUHlvSnotOS1OU2xkQjZDZ2pyN2ZVeW9I
		emciLCAiUHp6Y1Z1MHFiTXVCR1NqdWxmZXd6a2VzRDl6dXRPRXhuNUVXTndrclEtayIs
		ICJiMkRrdzBqY0lGOXJHZzhfUEY4WmN2bmNXN3p3Wmo1cnlCV3ZYZnJwemVrIiwgImNQ
		WUpISVo4VnUtZjlDQ3lWdWIyVWZnRWs4anZ2WGV6d0sxcF9KbmVlWFEiLCAiZ2xUM2hy
		U1U3ZlNXZ3dGNVVEWm1Xd0JUdzMyZ25VbGRJaGk4aEdWQ2FWNCIsICJydkpkNmlxNlQ1
		ZWptc0JNb0d3dU5YaDlxQUFGQVRBY2k0MG9pZEVlVnNBIiwgInVOSG9XWWhYc1poVkpD
		TkUyRHF5LXpxdDd0NjlnSkt5NVFhRnY3R3JNWDQiXX0sICJfc2RfYWxnIjogInNoYS0y
		NTYifQ.JwMde4aGprmyUSPPl4SB5Woe7cBBzxEYyIUiMApNTMZuYjdKjoJ09F1V5KQ0Q
		0d6AzvMCuZBEQSxuhJwQVZRMg
		~WyJHMDJOU3JRZmpGWFE3SW8wOXN5YWpBIiwgInJlZ2lvbiIsICJcdTZlMmZcdTUzM2E
		iXQ
		~WyJsa2x4RjVqTVlsR1RQVW92TU5JdkNBIiwgImNvdW50cnkiLCAiSlAiXQ
		~`, `{
		"iss": "https://issuer.example.com", "iat": 1683000000, "exp": 1883000000,
		"address": {"region": "港区", "country": "JP"}
	}`},
	{"A.2 complex structured", `
		eyJhbGciOiAiRVMyNTYiLCAidHlwIjogImV4YW1wbGUrc2Qtand0In0.eyJfc2QiOiBb
		Ii1hU3puSWQ5bVdNOG9jdVFvbENsbHN4VmdncTEtdkhXNE90bmhVdFZtV3ciLCAiSUti
		cllObjN2QTdXRUZyeXN2YmRCSmpERFVfRXZRSXIwVzE4dlRScFVTZyIsICJvdGt4dVQx
		NG5CaXd6TkozTVBhT2l0T2w5cFZuWE9hRUhhbF94a3lOZktJIl0sICJpc3MiOiAiaHR0
		cHM6Ly9pc3N1ZXIuZXhhbXBsZS5jb20iLCAiaWF0IjogMTY4MzAwMDAwMCwgImV4cCI6
		IDE4ODMwMDAwMDAsICJ2ZXJpZmllZF9jbGFpbXMiOiB7InZlcmlmaWNhdGlvbiI6IHsi
		X3NkIjogWyI3aDRVRTlxU2N2REtvZFhWQ3VvS2ZLQkpwVkJmWE1GX1RtQUdWYVplM1Nj
		IiwgInZUd2UzcmFISUZZZ0ZBM3hhVUQyYU14Rno1b0RvOGlCdTA1cUtsT2c5THciXSwg
		InRydXN0X2ZyYW1ld29yayI6ICJkZV9hbWwiLCAiZXZpZGVuY2UiOiBbeyIuLi4iOiAi
		dFlKMFREdWN5WlpDUk1iUk9HNHFSTzV2a1BTRlJ4RmhVRUxjMThDU2wzayJ9XX0sICJj
		bGFpbXMiOiB7Il9zZCI6IFsiUmlPaUNuNl93NVpIYWFka1FNcmNRSmYwSnRlNVJ3dXJS
		czU0MjMxRFRsbyIsICJTXzQ5OGJicEt6QjZFYW5mdHNzMHhjN2NPYW9uZVJyM3BLcjdO
		ZFJtc01vIiwgIldOQS1VTks3Rl96aHNBYjlzeVdPNklJUTF1SGxUbU9VOHI4Q3ZKMGNJ
		TWsiLCAiV3hoX3NWM2lSSDliZ3JUQkppLWFZSE5DTHQtdmpoWDFzZC1pZ09mXzlsayIs
		ICJfTy13SmlIM2VuU0I0Uk9IbnRUb1FUOEptTHR6LW1oTzJmMWM4OVhvZXJRIiwgImh2
		RFhod21HY0pRc0JDQTJPdGp1TEFjd0FNcERzYVUwbmtvdmNLT3FXTkUiXX19LCAiX3Nk
		X2FsZyI6ICJzaGEtMjU2In0.QQlreqD-uUiutZfHPyqCh9zc6PFOOLz2HMvB7MrIxjUe
		U__0N-VzTlx_6cBIY2P7iE6uycx03OVxfihCFzXDrg
		~WyIyR0xDNDJzS1F2ZUNmR2ZyeU5STjl3IiwgInRpbWUiLCAiMjAxMi0wNC0yM1QxODo
		yNVoiXQ
		~WyJQYzMzSk0yTGNoY1VfbEhnZ3ZfdWZRIiwgeyJfc2QiOiBbIjl3cGpWUFd1RDdQSzB
		uc1FETDhCMDZsbWRnVjNMVnliaEh5ZFFwVE55TEkiLCAiRzVFbmhPQU9vVTlYXzZRTU5
		2ekZYanBFQV9SYy1BRXRtMWJHX3djYUtJayIsICJJaHdGcldVQjYzUmNacTl5dmdaMFh
		QYzdHb3doM08ya3FYZUJJc3dnMUI0IiwgIldweFE0SFNvRXRjVG1DQ0tPZURzbEJfZW1
		1Y1lMejJvTzhvSE5yMWJFVlEiXX1d
		~WyJlSThaV205UW5LUHBOUGVOZW5IZGhRIiwgIm1ldGhvZCIsICJwaXBwIl0
		~WyJHMDJOU3JRZmpGWFE3SW8wOXN5YWpBIiwgImdpdmVuX25hbWUiLCAiTWF4Il0
		~WyJsa2x4RjVqTVlsR1RQVW92TU5JdkNBIiwgImZhbWlseV9uYW1lIiwgIk1cdTAwZmN
		sbGVyIl0
		~WyJ5MXNWVTV3ZGZKYWhWZGd3UGdTN1JRIiwgImFkZHJlc3MiLCB7ImxvY2FsaXR5Ijo
		gIk1heHN0YWR0IiwgInBvc3RhbF9jb2RlIjogIjEyMzQ0IiwgImNvdW50cnkiOiAiREU
		iLCAic3RyZWV0X2FkZHJlc3MiOiAiV2VpZGVuc3RyYVx1MDBkZmUgMjIifV0
		~`, `{
		"iss": "https://issuer.example.com", "iat": 1683000000, "exp": 1883000000,
		"verified_claims": {
			"verification": {"trust_framework": "de_aml", "evidence": [{"method": "pipp"}], "time": "2012-04-23T18:25Z"},
			"claims": {
				"given_name": "Max", "family_name": "Müller",
				"address": {"locality": "Maxstadt", "postal_code": "12344", "country": "DE", "street_address": "Weidenstraße 22"}
			}
		}
	}`},
}

func TestRFC9901Examples(t *testing.T) {
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON([]byte(rfcKey)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range rfcExamples {
		t.Run(tt.name, func(t *testing.T) {
			s, err := parse(strings.Join(strings.Fields(tt.text), ""))
			if err != nil {
				t.Fatal(err)
			}
			jws, err := jose.ParseSignedCompact(s.jwt, []jose.SignatureAlgorithm{jose.ES256})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := jws.Verify(key); err != nil {
				t.Fatalf("the example is not as printed in the RFC: %v", err)
			}
			got, err := s.reveal()
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("processed payload (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRFC9901Disclosures has the disclosures of sections 4.2.1 to 4.2.3: one
// claim in several spellings, and two array elements.
func TestRFC9901Disclosures(t *testing.T) {
	for _, tt := range []struct {
		name, text, digest, claim string
		value                     any
	}{
		{"claim", "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0", "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0", "family_name", "Möbius"},
		{"claim, escaped", "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNXHUwMGY2Yml1cyJd", "", "family_name", "Möbius"},
		{"claim, no spaces", "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsImZhbWlseV9uYW1lIiwiTcO2Yml1cyJd", "", "family_name", "Möbius"},
		{"element FR", "WyJsa2x4RjVqTVlsR1RQVW92TU5JdkNBIiwgIkZSIl0", "w0I8EKcdCtUPkGCNUrfwVp2xEgNjtoIDlOxc9-PlOhs", "", "FR"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := parseDisclosure(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if d.name != tt.claim || d.value != tt.value || d.named != (tt.claim != "") {
				t.Errorf("read as %q: %v", d.name, d.value)
			}
			if tt.digest != "" && d.digest != tt.digest {
				t.Errorf("digest %s, want %s", d.digest, tt.digest)
			}
		})
	}
}

// TestReveal breaks the rules of RFC 9901, section 7.1, that no certificate can
// break, since it has neither claims in objects nor disclosures in one another.
func TestReveal(t *testing.T) {
	claim := func(name string, value any) disclosure {
		return disclosure{named: true, name: name, value: value, digest: "d-" + name}
	}
	element := func(digest string, value any) disclosure { return disclosure{value: value, digest: digest} }
	nested := any("leaf")
	for range 3 * maxDepth {
		nested = []any{nested}
	}
	for _, tt := range []struct {
		name, payload string
		disclosures   []disclosure
		want          string // processed payload, or
		rule          Rule
	}{
		{"nothing to reveal", `{"a":1}`, nil, `{"a":1}`, ""},
		{"decoys alone", `{"_sd":["x","y"],"list":[{"...":"z"},1],"_sd_alg":"sha-256"}`, nil, `{"list":[1]}`, ""},
		{"no digests left", `{"o":{"_sd":[]}}`, nil, `{"o":{}}`, ""},
		{"claim in a claim", `{"_sd":["d-a"]}`, []disclosure{claim("b", 1.0), claim("a", map[string]any{"_sd": []any{"d-b"}})}, `{"a":{"b":1}}`, ""},
		{"element in an element", `{"l":[{"...":"1"}]}`, []disclosure{element("1", []any{map[string]any{"...": "2"}}), element("2", "x")}, `{"l":[["x"]]}`, ""},

		{"payload no object", `[]`, nil, "", RuleJSON},
		{"payload with a name twice", `{"a":1,"a":1}`, nil, "", RuleJSON},
		{"other hash", `{"_sd_alg":"md5"}`, nil, "", RuleHash},
		{"inner hash", `{"o":{"_sd_alg":"sha-256"}}`, nil, "", RuleReserved},
		{"_sd no array", `{"_sd":"x"}`, nil, "", RuleDigest},
		{"_sd of numbers", `{"_sd":[1]}`, nil, "", RuleDigest},
		{"element's digest a number", `{"l":[{"...":1}]}`, nil, "", RuleDigest},
		{"digest twice in one list", `{"_sd":["x","x"]}`, nil, "", RuleDuplicate},
		{"digest in object and array", `{"_sd":["x"],"l":[{"...":"x"}]}`, nil, "", RuleDuplicate},
		{"digest again in a disclosure", `{"_sd":["d-a"]}`, []disclosure{claim("a", map[string]any{"_sd": []any{"d-a"}})}, "", RuleDuplicate},
		{"disclosure twice", `{"_sd":["d-a"]}`, []disclosure{claim("a", 1.0), claim("a", 1.0)}, "", RuleTwice},
		{"disclosure of nothing", `{"a":1}`, []disclosure{claim("b", 1.0)}, "", RuleUnreferenced},
		{"disclosures of one another", `{}`, []disclosure{claim("a", map[string]any{"_sd": []any{"d-b"}}), claim("b", map[string]any{"_sd": []any{"d-a"}})}, "", RuleUnreferenced},
		{"element's disclosure for a claim", `{"_sd":["1"]}`, []disclosure{element("1", 1.0)}, "", RuleDisclosure},
		{"claim's disclosure for an element", `{"l":[{"...":"d-a"}]}`, []disclosure{claim("a", 1.0)}, "", RuleDisclosure},
		{"claim is there", `{"a":1,"_sd":["d-a"]}`, []disclosure{claim("a", 2.0)}, "", RuleNameTaken},
		{"... is no element", `{"o":{"...":"x"}}`, nil, "", RuleReserved},
		{"... at the top", `{"...":"x"}`, nil, "", RuleReserved},
		{"element with more", `{"l":[{"...":"x","a":1}]}`, nil, "", RuleReserved},
		{"deep by disclosures", `{"l":[{"...":"1"}]}`, []disclosure{element("1", nested)}, "", RuleJSON},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &sdJWT{payload: []byte(tt.payload), disclosures: tt.disclosures}
			got, err := s.reveal()
			if tt.rule != "" {
				var refusal *RefusalError
				if !errors.As(err, &refusal) || refusal.Rule != tt.rule {
					t.Fatalf("error = %v, %v, want rule %s", err, got, tt.rule)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
