package web

import (
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/service"
	"github.com/zhenglian/zhenglian/proof"
)

// fileView is what the page about a file shows.
type fileView struct {
	frame
	Checks     []check
	Items      []credential.Item
	Withheld   int
	Signers    []string
	SignedAt   string
	Record     string // of another kind than a certificate
	ReasonText string // why the file is refused or nothing can be decided, in English
	Now        *nowView
}

// check is one question about a proof and its answer, in words.
type check struct{ Outcome, Mark, Question, Word string }

// nowView is what the gateway knows now of the certificate that a file speaks about.
type nowView struct {
	Word, Link string
	Differs    bool // from what the file proves, which was signed before
}

func (p *Pages) fileView(c service.Checked, how shown) fileView {
	words := p.texts[how.lang]
	how.at = ""
	out := fileView{frame: p.frame(c.Verdict, how), Items: c.Items, Withheld: c.Withheld}
	if c.Verdict == noFile {
		out.Word, out.Means = words["file_title"], words["file_none"]
		return out
	}
	out.Word = words["p_"+string(c.Verdict)]
	if out.Word == "" { // of a later version
		out.frame = p.frame(service.CannotCheck, how)
		out.Word = words["p_"+string(service.CannotCheck)]
	}
	if c.Verdict == service.BadProof || c.Verdict == service.CannotCheck {
		out.ReasonText = c.Reason
	}
	for _, asked := range c.Checks {
		out.Checks = append(out.Checks, words.check(asked))
	}
	for _, d := range c.Signers {
		out.Signers = append(out.Signers, map[string]string{"zh": d.NameZh, "en": d.NameEn}[how.lang])
	}
	if s := c.Statement; s != nil {
		out.SignedAt = words.moment(s.AsOf, "time")
		if c.Certificate == nil {
			out.Record = string(s.Kind) + " " + s.ID
		}
	}
	if c.Certificate == nil {
		return out
	}
	out.Facts = certificateFacts(*c.Certificate, words, how.lang)
	if c.Issuer != nil {
		out.Facts.nameIssuer(c.Issuer.NameZh, c.Issuer.NameEn, how.lang)
	}
	if c.Now != nil {
		out.Now = &nowView{
			Word: words["word_"+string(c.Now.Verdict)], Link: Prefix + c.Now.Ref + how.link(),
			Differs: c.Now.Verdict.Issued() && c.Now.Verdict != c.Verdict && c.Verdict.Issued(),
		}
	}
	return out
}

// check puts a question about a proof and its answer into words.
func (words text) check(c proof.Check) check {
	switch c.Outcome {
	case proof.Pass:
		return check{"pass", "✓", words["q_"+string(c.Question)], words["o_pass"]}
	case proof.Fail:
		return check{"fail", "✗", words["q_"+string(c.Question)], words["o_fail"]}
	case proof.Unknown:
	}
	return check{"unknown", "?", words["q_"+string(c.Question)], words["o_unknown"]}
}
