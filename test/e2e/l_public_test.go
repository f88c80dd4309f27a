//go:build e2e

package e2e

import (
	"bytes"
	"image"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/test/consortium"
)

// visit gets a public path of a gateway under the name that the visitor's request gives
// it, here and in the headers of proxies.
func visit(t *testing.T, g *consortium.Gateway, host, path string) (status int, header http.Header, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", g.URL+path, nil)
	must(t, err)
	if host != "" {
		req.Host = host
		for _, name := range []string{"X-Forwarded-Host", "X-Original-Host", "X-Host"} {
			req.Header.Set(name, host)
		}
		req.Header.Set("Forwarded", "host="+host+";proto=https")
		req.Header.Set("Origin", "https://"+host)
		req.Header.Set("Referer", "https://"+host+"/")
	}
	res, err := http.DefaultClient.Do(req)
	must(t, err)
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, res.Header, body
}

// TestCodesLeadToTheIssuer asks for codes and pages under the names of other sites: what
// a code says is where its issuer's configuration says it is, and no page names another.
func TestCodesLeadToTheIssuer(t *testing.T) {
	police := net.Gateway("police")
	const other = "police.example.other.example"
	var w struct {
		consortium.Written[domain.Certificate]
		Link string `json:"link"`
	}
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/certificates", withDigest(t), 201, &w))
	ref := w.Record.Content.Ref
	must(t, police.Call(t.Context(), "reviewer", "POST", "/v1/certificates/"+ref+"/actions/decide", map[string]any{"decision": "approve"}, 200, nil))
	if !strings.HasPrefix(w.Link, police.URL+"/v/"+ref+"#") {
		t.Errorf("the certificate's link is %q", w.Link)
	}
	for _, host := range []string{"", other, other + ":443", "127.0.0.1:1", "[::1]"} {
		_, _, picture := visit(t, police, host, "/v1/certificates/"+ref+"/qr.png")
		img, _, err := image.Decode(bytes.NewReader(picture))
		must(t, err)
		bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
		must(t, err)
		got, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
		must(t, err)
		if want := police.URL + "/v/" + ref; got.GetText() != want {
			t.Errorf("asked as %q, the code says %q, want %q", host, got.GetText(), want)
		}
	}
	for _, path := range []string{"/v/" + ref, "/v/" + ref + "?lang=en", "/verify", "/v1/verify/" + ref, "/v1/trust", "/openapi.json", "/audit", "/v1/certificates/" + ref + "/qr.svg"} {
		status, header, body := visit(t, police, other, path)
		if status != 200 || bytes.Contains(body, []byte(other)) {
			t.Errorf("%s: status %d, or it names the other site: %.300s", path, status, body)
		}
		for name, values := range header {
			if strings.Contains(strings.Join(values, " "), other) {
				t.Errorf("%s: %s: %q", path, name, values)
			}
		}
	}
}

// withDigest is a certificate of the police without a credential.
func withDigest(t *testing.T) map[string]any {
	body := permit(t)
	body["contentDigest"] = domain.Digest([]byte(randomHex(t, 16)))
	return body
}

// TestProposedLooksLikeNothing compares what anybody gets for the reference of a
// certificate that is only proposed with what they get for one that never was: but for
// the reference and the time, the answers have the same form and length.
func TestProposedLooksLikeNothing(t *testing.T) {
	police := net.Gateway("police")
	var w consortium.Written[domain.Certificate]
	must(t, police.Call(t.Context(), "operator", "POST", "/v1/certificates", withDigest(t), 201, &w))
	proposed, never := w.Record.Content.Ref, domain.BatchOf(w.Record.Content.Ref)+randomHex(t, 10) // of the same issuing batch
	numbers := regexp.MustCompile(`[0-9]+`)
	masked := func(body []byte, ref string) string {
		return numbers.ReplaceAllString(strings.ReplaceAll(string(body), ref, "REF"), "0")
	}
	for _, department := range net.Departments() {
		g := net.Gateway(department)
		awaitSeen(t, department, "/v1/certificates/"+proposed)
		for _, path := range []string{"/v1/verify/REF", "/v/REF", "/v/REF?lang=en", "/v1/verify/REF/sealed", "/v1/certificates/REF/qr.svg"} {
			status, header, body := visit(t, g, "", strings.ReplaceAll(path, "REF", proposed))
			wantStatus, wantHeader, want := visit(t, g, "", strings.ReplaceAll(path, "REF", never))
			if status != wantStatus || len(body) == 0 {
				t.Errorf("%s, %s: status %d with %d bytes, want status %d", department, path, status, len(body), wantStatus)
			}
			if got, want := slices.Sorted(maps.Keys(header)), slices.Sorted(maps.Keys(wantHeader)); !slices.Equal(got, want) {
				t.Errorf("%s, %s: headers %v, want %v", department, path, got, want)
			}
			switch {
			case strings.HasSuffix(path, "/sealed"): // bytes that look random
				if len(body) != len(want) {
					t.Errorf("%s, %s: %d bytes, want %d", department, path, len(body), len(want))
				}
			case strings.HasSuffix(path, ".svg"): // drawn from the reference alone
			default:
				if got, want := masked(body, proposed), masked(want, never); got != want {
					t.Errorf("%s, %s:\n%s\nwant as for what never was:\n%s", department, path, got, want)
				}
			}
		}
	}
}
