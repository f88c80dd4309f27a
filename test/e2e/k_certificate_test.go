//go:build e2e

package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/statuslist"
	"github.com/zhenglian/zhenglian/proof"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// TestSealed checks what a holder's check code opens at the issuer's gateway, and
// nothing else anywhere; and the status list that the issuer signs, which says of the
// same certificate what became of it.
func TestSealed(t *testing.T) {
	police := net.Gateway("police")
	trust, err := police.Do(t.Context(), "", "GET", "/v1/trust", nil)
	must(t, err)
	anchors, err := proof.ParseAnchors(trust.Body)
	must(t, err)
	reader, err := credential.NewVerifier(anchors)
	must(t, err)
	body := permit(t)
	body["items"] = []map[string]any{{"name": "姓名", "value": "欧阳测试", "byCode": "masked"}, {"name": "住址", "value": "示例路1号"}}
	var w struct {
		consortium.Written[domain.Certificate]
		CheckCode string `json:"checkCode"`
	}
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/certificates", body, 201, &w))
	ref, place := w.Record.Content.Ref, w.Record.Content.StatusIndex
	sealed := func(department, ref string) []byte {
		t.Helper()
		res, err := net.Gateway(department).Do(t.Context(), "", "GET", "/v1/verify/"+ref+"/sealed", nil)
		must(t, err)
		if res.Status != 200 || res.Header.Get("Content-Type") != "application/octet-stream" || len(res.Body) != credential.SealedBlock+credential.SealedOverhead {
			t.Fatalf("status %d, %s, %d bytes", res.Status, res.Header.Get("Content-Type"), len(res.Body))
		}
		return res.Body
	}
	closed := func(why, department, ref, code string) {
		t.Helper()
		if _, err := credential.Unseal(ref, code, sealed(department, ref)); err == nil {
			t.Errorf("%s: the code opens what is sealed", why)
		}
	}
	closed("not approved yet", "police", ref, w.CheckCode)
	must(t, police.Call(t.Context(), "reviewer", "POST", "/v1/certificates/"+ref+"/actions/decide", map[string]any{"decision": "approve"}, 200, nil))
	text, err := credential.Unseal(ref, w.CheckCode, sealed("police", ref))
	must(t, err)
	shown, err := reader.Verify(text, time.Now())
	must(t, err)
	if len(shown.ByCode) != 1 || shown.ByCode[0].Name != "姓名" || !strings.HasPrefix(shown.ByCode[0].Value, "欧") || strings.Contains(shown.ByCode[0].Value, "测试") ||
		strings.Contains(text, "示例路") || shown.Ref != ref || shown.Digest != w.Record.Content.ContentDigest {
		t.Errorf("the code shows %+v", shown)
	}
	closed("another code", "police", ref, strings.Repeat("2", len(w.CheckCode)))
	closed("no certificate", "police", strings.Repeat("0", 32), w.CheckCode)
	closed("another department's gateway", "civil", ref, w.CheckCode)

	if signedBit(t, anchors, place) {
		t.Error("the signed list says that a valid certificate was revoked")
	}
	change(t, ref, "revoke", "撤字〔2026〕9号")
	await(t, "a signed list that says revoked", 5*time.Second, func() (bool, string) { return signedBit(t, anchors, place), "" })
	res, err := net.Gateway("civil").DoWith(t.Context(), "", "GET", revocationList(place), nil, http.Header{"Accept": {"application/vc+jwt"}})
	must(t, err)
	if res.Status != 404 {
		t.Errorf("another department's gateway signs: status %d: %s", res.Status, res.Body)
	}
}

// permit is what the police issue in these tests; the lead has authorised it.
func permit(t *testing.T) map[string]any {
	t.Helper()
	const typeCode = "11100000000013338W011"
	now := time.Now().UTC().Truncate(time.Second)
	res, err := net.Gateway("bigdata").Do(t.Context(), "admin", "POST", "/v1/issuers", map[string]any{
		"issuer": "police", "typeCode": typeCode, "typeNameZh": "居住证", "typeNameEn": "Residence permit",
		"basis": "《居住证暂行条例》", "period": domain.Period{From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2056, 1, 1, 0, 0, 0, 0, time.UTC)},
	})
	must(t, err)
	if res.Status != 201 && res.Status != 409 {
		t.Fatalf("authorise the police: status %d: %s", res.Status, res.Body)
	}
	return map[string]any{
		"typeCode": typeCode, "typeNameZh": "居住证", "typeNameEn": "Residence permit",
		"holderKind": "person", "holderSaltedRef": domain.Digest([]byte(randomHex(t, 16))), "serial": strings.ToUpper(randomHex(t, 6)),
		"validity": domain.Period{From: now.Add(-time.Hour), To: now.AddDate(1, 0, 0)}, "serviceItem": "000512001000",
	}
}

func revocationList(place int) string {
	return "/v1/status-lists/police/revocation/" + strconv.Itoa(place/domain.StatusListLength)
}

// signedBit is what the list that the police sign says of a place. Whoever reads it
// needs nothing but the trust anchors.
func signedBit(t *testing.T, anchors *proof.Anchors, place int) bool {
	t.Helper()
	res, err := net.Gateway("police").DoWith(t.Context(), "", "GET", revocationList(place), nil, http.Header{"Accept": {"application/vc+jwt"}})
	must(t, err)
	if res.Status != 200 || res.Header.Get("Content-Type") != "application/vc+jwt" {
		t.Fatalf("status %d, %s: %.200s", res.Status, res.Header.Get("Content-Type"), res.Body)
	}
	signed, err := jose.ParseSignedCompact(string(bytes.TrimSpace(res.Body)), []jose.SignatureAlgorithm{jose.ES256})
	must(t, err)
	roots := x509.NewCertPool()
	for _, d := range anchors.Departments {
		if d.Code == "police" {
			roots.AppendCertsFromPEM([]byte(strings.Join(d.CARoots, "\n")))
		}
	}
	chains, err := signed.Signatures[0].Protected.Certificates(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	must(t, err)
	payload, err := signed.Verify(chains[0][0].PublicKey)
	must(t, err)
	var list struct {
		Issued  int64 `json:"iat"`
		Ends    int64 `json:"exp"`
		Subject struct {
			Purpose string `json:"statusPurpose"`
			Encoded string `json:"encodedList"`
		} `json:"credentialSubject"`
	}
	must(t, json.Unmarshal(payload, &list))
	if now := time.Now().Unix(); list.Subject.Purpose != "revocation" || list.Issued > now+1 || list.Ends <= now {
		t.Errorf("a list for %s from %d to %d", list.Subject.Purpose, list.Issued, list.Ends)
	}
	bits, err := statuslist.Decode(list.Subject.Encoded)
	must(t, err)
	return bits.At(place % domain.StatusListLength)
}
