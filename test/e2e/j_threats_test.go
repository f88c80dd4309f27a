//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// TestNothingPersonalOnTheChannel issues a certificate with a person's particulars,
// and sends them where they do not belong: no peer, no orderer and no log has a byte
// of them afterwards, and of the gateways the issuer's alone.
func TestNothingPersonalOnTheChannel(t *testing.T) {
	name, number, holder := "持证人"+randomHex(t, 8), "3702"+randomHex(t, 12), domain.Digest([]byte(randomHex(t, 16)))
	const typeCode = "11100000000013338W011"
	now := time.Now().UTC().Truncate(time.Second)
	police := net.Gateway("police")
	res, err := net.Gateway("bigdata").Do(t.Context(), "admin", "POST", "/v1/issuers", map[string]any{
		"issuer": "police", "typeCode": typeCode, "typeNameZh": "居住证", "typeNameEn": "Residence permit",
		"basis": "《居住证暂行条例》", "period": domain.Period{From: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2056, 1, 1, 0, 0, 0, 0, time.UTC)},
	})
	must(t, err)
	if res.Status != 201 && res.Status != 409 {
		t.Fatalf("authorise the police: status %d: %s", res.Status, res.Body)
	}
	var w struct {
		consortium.Written[domain.Certificate]
		Credential string `json:"credential"`
	}
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/certificates", map[string]any{
		"typeCode": typeCode, "typeNameZh": "居住证", "typeNameEn": "Residence permit",
		"holderKind": "person", "holderSaltedRef": holder, "serial": strings.ToUpper(randomHex(t, 6)),
		"validity": domain.Period{From: now.Add(-time.Hour), To: now.AddDate(1, 0, 0)}, "serviceItem": "000512001000",
		"items": []map[string]any{{"name": "姓名", "value": name, "byCode": "masked"}, {"name": "公民身份号码", "value": number}},
	}, 201, &w))
	if w.Credential == "" {
		t.Fatal("the certificate has no credential: nothing personal was sent")
	}
	ref := w.Record.Content.Ref
	must(t, police.Call(t.Context(), "reviewer", "POST", "/v1/certificates/"+ref+"/actions/decide", map[string]any{"decision": "approve"}, 200, &w))
	for _, strange := range []struct{ method, path string }{
		{"GET", "/v1/verify/" + number}, {"GET", "/v1/verify/" + ref + "?name=" + number}, {"GET", "/v/" + number},
		{"POST", "/v1/certificates/" + ref + "/actions/" + number}, {"GET", "/v1/catalog/entries?q=" + number},
	} {
		_, err := police.Do(t.Context(), "operator", strange.method, strange.path, map[string]any{name: number})
		must(t, err)
	}
	for _, department := range []string{"bigdata", "police", "civil", "market"} {
		await(t, "the gateway of "+department+" has the certificate", 15*time.Second, func() (bool, string) {
			res, err := net.Gateway(department).Do(t.Context(), "auditor", "GET", "/v1/certificates/"+ref, nil)
			return err == nil && res.Status == 200, ""
		})
	}

	kept := filepath.Join(net.State, "departments", "police", "gateway")
	read, found := 0, 0
	err = filepath.WalkDir(net.State, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // a database has tidied up
			return nil
		}
		if err != nil {
			return err
		}
		read++
		for _, particular := range []string{name, number, holder} {
			for _, form := range forms(particular) {
				if !bytes.Contains(data, []byte(form)) {
					continue
				}
				if found++; !strings.HasPrefix(path, kept+string(filepath.Separator)) {
					t.Errorf("%s holds %q as %q", path, particular, form)
				}
			}
		}
		return nil
	})
	must(t, err)
	if read < 50 || found == 0 {
		t.Errorf("%d files were read, and %d places found at the issuer's gateway, which keeps the credential", read, found)
	}
}

// forms answers how a text may stand in a file: as it is, in hexadecimal, and in the
// base64 of something longer, by where in three bytes it begins.
func forms(text string) []string {
	all := []string{text, hex.EncodeToString([]byte(text))}
	for before := range 3 {
		code := base64.RawURLEncoding.EncodeToString([]byte("\x00\x00\x00"[:before] + text))
		// Characters that the neighbours decide in part are left out.
		whole := code[[]int{0, 2, 3}[before] : len(code)-1]
		all = append(all, whole, strings.NewReplacer("-", "+", "_", "/").Replace(whole))
	}
	return all
}
