package web

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/proof"
)

// files are what may be found of a file.
func files() map[string]service.Checked {
	questions := []proof.Question{proof.Integrity, proof.Quorum, proof.Scope, proof.Freshness, proof.Status}
	checks := func(outcome proof.Outcome) (all []proof.Check) {
		for _, q := range questions {
			all = append(all, proof.Check{Question: q, Outcome: outcome, Reason: "because"})
		}
		return all
	}
	police := proof.Department{Code: "police", NameZh: "公安局", NameEn: "Public Security Bureau"}
	now := verification(service.Revoked)
	return map[string]service.Checked{
		"none": {Verdict: noFile},
		"a proof of a certificate": {
			Verdict: service.Valid, Checks: checks(proof.Pass), Signers: []proof.Department{police}, Certificate: certificate(), Issuer: &police, Now: &now,
			Statement: &domain.Statement{Kind: domain.KindCertificate, ID: ref, Found: true, AsOf: asOf},
		},
		"a proof of another record": {
			Verdict: service.Recorded, Checks: checks(proof.Pass), Signers: []proof.Department{police},
			Statement: &domain.Statement{Kind: domain.KindGrant, ID: ref, Found: true, AsOf: asOf},
		},
		"refused":         {Verdict: service.BadProof, Reason: "the quorum is not reached", Checks: checks(proof.Fail)},
		"nothing decided": {Verdict: service.CannotCheck, Reason: "too old", Checks: checks(proof.Unknown)},
		"a credential": {
			Verdict: service.Valid, Items: []credential.Item{{Name: "姓名", Value: "<b>张三</b>"}}, Withheld: 3, Certificate: certificate(), Issuer: &police, Now: &now,
		},
		"of a later version": {Verdict: "new", Reason: "new"},
	}
}

func TestFilePage(t *testing.T) {
	tests := map[string]struct {
		class, heading string
		zh             []string
	}{
		"none":                      {"verdict file", "核验文件", []string{"请选择证明文件"}},
		"a proof of a certificate":  {"verdict valid", "证明成立：证照有效", []string{"签名部门 公安局", "签名时间 2026年11月21日 22:05:06", "签名以后状态有了变化，现在是“已撤销”", "本网关现在的核验结果 已撤销", "居住证", "有足够多的部门签名 : 通过"}},
		"a proof of another record": {"verdict recorded", "证明成立：账本上有这条记录", []string{"记录 grant " + ref}},
		"refused":                   {"verdict bad_proof", "证明不成立", []string{"技术原因 the quorum is not reached", "未通过"}},
		"nothing decided":           {"verdict cannot_check", "无法判定", []string{"技术原因 too old", "未判定"}},
		"a credential":              {"verdict valid", "证明成立：证照有效", []string{"姓名 <b>张三</b>", "另有 3 项没有出示", "本网关现在的核验结果 已撤销"}},
		"of a later version":        {"verdict cannot_check", "无法判定", nil},
	}
	all := files()
	if len(all) != len(tests) {
		t.Fatalf("%d files, %d are tested", len(all), len(tests))
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			pages(verification(service.Valid)).ServeChecked(w, httptest.NewRequest(http.MethodPost, "/verify?lang=zh&size=large", nil), all[name])
			doc := parse(t, w.Body.String())
			if got := words(doc.elements("h1")[0]); w.Code != http.StatusOK || got != tt.heading {
				t.Errorf("%d %q, want %q", w.Code, got, tt.heading)
			}
			if got := attr(doc.elements("section")[0], "class"); got != tt.class {
				t.Errorf("class %q, want %q", got, tt.class)
			}
			text := regexp.MustCompile(`\s+`).ReplaceAllString(strings.ReplaceAll(words(doc.elements("main")[0]), ": ", " : "), " ")
			for _, want := range tt.zh {
				if !strings.Contains(text, want) {
					t.Errorf("page does not say %q:\n%s", want, text)
				}
			}
			if got, want := attr(doc.elements("form")[0], "action"), "/verify?lang=zh&size=large"; got != want {
				t.Errorf("the form goes to %q, want %q", got, want)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	p := pages(verification(service.Valid))
	for path, part := range map[string]string{"/verify/page.js": "const TEXT = {", "/verify/zhenglian-proof.js": "export{"} {
		res, body := get(t, p, path, "")
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/javascript; charset=utf-8" || !strings.Contains(body, part) {
			t.Errorf("%s: %d, %v", path, res.StatusCode, res.Header)
		}
		if regexp.MustCompile(`https?://|@import|\beval\(|new Function|innerHTML|insertAdjacentHTML|document\.write|localStorage|sessionStorage|document\.cookie`).MatchString(body) {
			t.Errorf("%s names another address, keeps something or writes markup", path)
		}
	}
	if res, _ := get(t, p, "/verify/other.js", ""); res.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d of a file that is not there", res.StatusCode)
	}
}

// TestScriptSaysOnlyWhatThereAreWordsFor looks for the words that the script names.
func TestScriptSaysOnlyWhatThereAreWordsFor(t *testing.T) {
	spoken := mustText(textFiles, "text/zh.json").spoken()
	used := regexp.MustCompile(`words\.([a-z_]+)`).FindAllStringSubmatch(string(scriptSource), -1)
	if len(used) < 15 {
		t.Fatalf("the script uses only %d words", len(used))
	}
	for _, m := range used {
		if spoken[m[1]] == "" {
			t.Errorf("the script says %q, for which there are no words", m[1])
		}
	}
	for _, verdict := range append(verdicts, service.BadProof, service.Recorded) {
		if spoken["p_"+string(verdict)] == "" {
			t.Errorf("no words for a proof of %s", verdict)
		}
	}
}

// missing says that a test cannot run here; where everything must run, it fails.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// TestVerifierIsTheBuildOfItsSource builds the browser's module anew where Node and
// its packages are there; "make test-js" installs them.
func TestVerifierIsTheBuildOfItsSource(t *testing.T) {
	source := filepath.Join("..", "..", "proof", "js")
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "no Node on the PATH: the committed build is not compared with its source")
	}
	if _, err := os.Stat(filepath.Join(source, "node_modules", "esbuild")); err != nil {
		missing(t, "the packages of proof/js are not installed (make test-js): the committed build is not compared with its source")
	}
	out := filepath.Join(t.TempDir(), "module.js")
	cmd := exec.CommandContext(t.Context(), node, "build.mjs", "--module", out)
	cmd.Dir = source
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	built, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if string(built) != string(verifierSource) {
		t.Error("verifier/zhenglian-proof.js is not the build of proof/js: run npm run build:gateway there")
	}
}
