package httpapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/service"
)

// TestVerifyThen asks about an earlier moment: the verdict stays that of now.
func TestVerifyThen(t *testing.T) {
	h, g, _ := newTest(t)
	g.verdict = service.Revoked
	var got api.Verification
	w := send(h, "GET", "/v1/verify/"+testRef+"?at=2026-03-01T07:30:00Z", "", "")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Verdict != api.VerdictRevoked || got.Then == nil || got.Then.Verdict != api.VerdictNotYetValid || got.Then.Change == nil || // its validity begins at 08:00
		!got.Then.At.Equal(testTime.Add(-30*time.Minute)) || got.Then.Change.Status != api.CertificateStatusValid {
		t.Errorf("%s", w.Body)
	}
	w = send(h, "GET", "/v1/verify/"+testRef, "", "")
	if strings.Contains(w.Body.String(), `"then"`) {
		t.Errorf("nobody asked about then: %s", w.Body)
	}
	for _, at := range []string{"2026-03-02", "2026-03-01T08:00:01Z", "yesterday", "2026-02-29"} {
		g.reset()
		w := send(h, "GET", "/v1/verify/"+testRef+"?at="+at, "", "")
		p := checkProblem(t, at, w)
		if w.Code != http.StatusBadRequest || len(p.Fields) != 1 || p.Fields[0].Field != "query at" || p.Fields[0].Rule != "past-moment" || g.called != 0 {
			t.Errorf("%s: %d, use case called %d times: %s", at, w.Code, g.called, w.Body)
		}
	}
}

// TestVerifyTellsOfAnObjection: beside the verdict, which it leaves alone.
func TestVerifyTellsOfAnObjection(t *testing.T) {
	c := testCertificate
	v := service.Verification{Verdict: service.Valid, Ref: testRef, Certificate: &c}
	without, err := verification(v)
	if err != nil || without.Certificate.OpenObjection != nil {
		t.Fatalf("%+v, %v", without.Certificate, err)
	}
	c.OpenObjection = &domain.Objection{Act: *testAct, RecordedAt: testTime}
	got, err := verification(v)
	if o := got.Certificate.OpenObjection; err != nil || got.Verdict != without.Verdict || o == nil || o.Act.ReasonCode != testAct.ReasonCode || !o.RecordedAt.Equal(testTime) {
		t.Errorf("%+v, %v", got.Certificate, err)
	}
}

func TestProofWithNonce(t *testing.T) {
	h, g, _ := newTest(t)
	nonce := strings.Repeat("0a", 16)
	if w := send(h, "GET", "/v1/verify/"+testRef+"/proof?nonce="+nonce, "", ""); w.Code != http.StatusOK || g.got != "certificate "+testRef+" "+nonce {
		t.Errorf("status %d, use case called with %v", w.Code, g.got)
	}
	g.reset()
	if w := send(h, "GET", "/v1/verify/"+testRef+"/proof?nonce=x", "", ""); w.Code != http.StatusBadRequest || g.called != 0 {
		t.Errorf("status %d, use case called %d times", w.Code, g.called)
	}
}

func TestStatusListIsABitstringStatusListCredential(t *testing.T) {
	h, _, _ := newTest(t)
	w := send(h, "GET", "/v1/status-lists/police/revocation/3", "", "")
	if got := w.Header().Get("Content-Type"); got != "application/vc+json" {
		t.Errorf("media type %q", got)
	}
	var got any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	id := "https://gateway.example/v1/status-lists/police/revocation/3"
	want := map[string]any{
		"@context": []any{"https://www.w3.org/ns/credentials/v2"}, "id": id,
		"type": []any{"VerifiableCredential", "BitstringStatusListCredential"}, "issuer": "urn:zhenglian:department:police",
		"validFrom": "2026-03-01T08:00:00Z", "validUntil": "2026-03-02T08:00:00Z",
		"credentialSubject": map[string]any{"id": id + "#list", "type": "BitstringStatusList", "statusPurpose": "revocation", "encodedList": "uAAAA"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

// TestSignedStatusList asks for the signed form by its media type.
func TestSignedStatusList(t *testing.T) {
	h, _, _ := newTest(t)
	ask := func(department, accept string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/v1/status-lists/"+department+"/revocation/3", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for accept, media := range map[string]string{
		"application/vc+jwt": "application/vc+jwt", "application/vc+json, application/vc+jwt;q=0.8": "application/vc+jwt",
		"application/vc+jwt;q=0": "application/vc+json", "*/*": "application/vc+json", "application/vc+json": "application/vc+json", ";;,": "application/vc+json",
	} {
		if w := ask("police", accept); w.Code != http.StatusOK || w.Header().Get("Content-Type") != media {
			t.Errorf("%s: %d %s, want %s", accept, w.Code, w.Header().Get("Content-Type"), media)
		}
	}
	text, ok := strings.CutPrefix(ask("police", "application/vc+jwt").Body.String(), "signed ")
	var signed, plain map[string]any
	if err := json.Unmarshal([]byte(text), &signed); err != nil || !ok {
		t.Fatalf("%v: %s", err, text)
	}
	if err := json.Unmarshal(ask("police", "").Body.Bytes(), &plain); err != nil {
		t.Fatal(err)
	}
	plain["iat"], plain["exp"] = float64(1772352000), float64(1772438400) // validFrom, validUntil
	if diff := cmp.Diff(plain, signed); diff != "" {
		t.Errorf("what is signed (-want +got):\n%s", diff)
	}
	if w := ask("civil", "application/vc+jwt"); w.Code != http.StatusNotFound {
		t.Errorf("another department's list, signed: %d", w.Code)
	}
}

// TestFilesAreNotKept sends files with a canary, good and bad, by either way: it
// reaches neither the log nor, when the file is refused, the answer.
func TestFilesAreNotKept(t *testing.T) {
	form := func(name, text string) string {
		return strings.Replace(strings.Replace(sampleForm, "{}", text, 1), `name="file"`, `name="`+name+`"`, 1)
	}
	for name, tt := range map[string]struct {
		target, media, body string
		status              int
	}{
		"file":                 {"/v1/verify", "application/octet-stream", "canary", 200},
		"empty file":           {"/v1/verify", "application/octet-stream", "", 200},
		"large file":           {"/v1/verify", "application/octet-stream", strings.Repeat("canary ", service.MaxFile/7+1), 413},
		"another media type":   {"/v1/verify", "text/canary", "canary", 415},
		"query":                {"/v1/verify?x=canary", "application/octet-stream", "canary", 400},
		"form":                 {"/verify", "multipart/form-data; boundary=part", form("file", "canary"), 200},
		"form without a file":  {"/verify", "multipart/form-data; boundary=part", form("canary", "canary"), 400},
		"form cut short":       {"/verify", "multipart/form-data; boundary=part", form("file", "canary")[:75], 400},
		"form of another part": {"/verify", "multipart/form-data; boundary=canary", form("file", "canary"), 400},
		"form without parts":   {"/verify", "multipart/form-data", form("file", "canary"), 400},
		"large form":           {"/verify", "multipart/form-data; boundary=part", form("file", strings.Repeat("canary ", service.MaxFile/6)), 413},
		"no form":              {"/verify", "application/json", `{"canary":1}`, 415},
	} {
		t.Run(name, func(t *testing.T) {
			h, g, log := newTest(t)
			r := httptest.NewRequest("POST", tt.target, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.media)
			r.RemoteAddr = "203.0.113.77:5"
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("status %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			if called := g.called != 0; called != (tt.status == 200) {
				t.Errorf("the use case was called: %v", called)
			}
			for _, secret := range []string{"canary", "203.0.113", testRef} {
				if strings.Contains(log.String(), secret) {
					t.Errorf("the log holds %q: %s", secret, log)
				}
			}
			if strings.Contains(w.Body.String(), "canary\"") && tt.status >= 400 {
				t.Errorf("the answer repeats the file: %s", w.Body)
			}
		})
	}
}

// TestWhatCheckFileAnswers renders a credential's check, items included: they go to
// whoever sent them.
func TestWhatCheckFileAnswers(t *testing.T) {
	h, g, _ := newTest(t)
	for _, v := range []service.Verdict{service.Valid, service.BadProof, service.Recorded, service.CannotCheck, service.Withdrawn, "", "new"} {
		g.reset()
		g.verdict = v
		r := httptest.NewRequest("POST", "/v1/verify", strings.NewReader("x"))
		r.Header.Set("Content-Type", "application/octet-stream")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var got api.CheckedFile
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		want := string(v)
		if v == "" || v == "new" {
			want = "cannot_check"
		}
		if string(got.Verdict) != want || len(got.Items) != 1 || got.Items[0].Value != "张三" || got.Withheld != 2 || got.Signers[0] != "police" ||
			got.Statement.Kind != api.RecordKind(domain.KindCertificate) || got.Now == nil || len(got.Checks) != 1 {
			t.Errorf("%q: %s", v, w.Body)
		}
	}
}

// TestQuickVerification asks the short way and, with a query that says nothing, the
// general one: both answer the same.
func TestQuickVerification(t *testing.T) {
	h, g, _ := newTest(t)
	for _, v := range []service.Verdict{service.Valid, service.Revoked, service.NotFound, service.CannotCheck} {
		g.reset()
		g.verdict = v
		for _, method := range []string{"GET", "HEAD"} {
			var answers [2]*httptest.ResponseRecorder
			for i, query := range []string{"", "?&"} {
				answers[i] = httptest.NewRecorder()
				h.ServeHTTP(answers[i], httptest.NewRequest(method, "/v1/verify/"+testRef+query, nil))
				answers[i].Header().Del("X-Request-Id")
			}
			quick, general := answers[0], answers[1]
			if quick.Code != http.StatusOK || quick.Code != general.Code || quick.Body.String() != general.Body.String() {
				t.Errorf("%s %q: %d %s\nwant %d %s", method, v, quick.Code, quick.Body, general.Code, general.Body)
			}
			if diff := cmp.Diff(general.Header(), quick.Header()); diff != "" {
				t.Errorf("%s %q: -general +quick\n%s", method, v, diff)
			}
			if got := quick.Header().Get("Content-Length"); got != strconv.Itoa(quick.Body.Len()) {
				t.Errorf("%s %q: length %s of %d bytes", method, v, got, quick.Body.Len())
			}
		}
		if g.called != 4 || g.got != testRef {
			t.Errorf("%q: %d calls, the last with %v", v, g.called, g.got)
		}
	}
}

// TestVerificationIsRenderedOnce checks that an answer which is put together from
// one that was given before is what the renderer would write, and that another
// content, verdict or height makes another answer.
func TestVerificationIsRenderedOnce(t *testing.T) {
	answers, err := lru.New[string, rendered](1)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{rendered: answers}
	other := testCertificate
	other.Content.TypeNameEn = "Other"
	v := service.Verification{Verdict: service.Valid, Ref: testRef, AsOf: testTime, Height: 18, Certificate: &testCertificate, Issuer: &testDepartment, Position: testPosition}
	unknown := service.Verification{Verdict: service.NotFound, Ref: testRef, AsOf: testTime, Height: 18}
	changed := v
	for name, change := range map[string]func(){
		"same":               func() {},
		"later":              func() { changed.AsOf = testTime.Add(1234567 * time.Nanosecond) },
		"other verdict":      func() { changed.Verdict = service.Expired },
		"other height":       func() { changed.Height = 19 },
		"other certificate":  func() { changed.Certificate = &other },
		"other issuer":       func() { changed.Issuer = &domain.Department{Code: "police", NameEn: "Other"} },
		"not found any more": func() { changed = unknown },
	} {
		t.Run(name, func(t *testing.T) {
			changed = v
			change()
			for _, v := range []service.Verification{v, changed, v, changed} {
				out, err := verification(v)
				if err != nil {
					t.Fatal(err)
				}
				want, err := json.Marshal(out)
				if err != nil {
					t.Fatal(err)
				}
				first, rest, err := s.verified(&v, []byte("#"))
				if got := string(first) + string(rest); err != nil || got != "#"+string(want) {
					t.Errorf("%s, %v\nwant #%s", got, err, want)
				}
			}
		})
	}
}
