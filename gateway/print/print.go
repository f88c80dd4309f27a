// Package print makes the paper form of a certificate: a PDF of A4 pages with the
// face items, the QR code that leads to the certificate's page, and the proof file
// attached, so that the document can be checked on paper and as a file.
//
// # Fonts
//
// The PDF holds the characters it needs of a Chinese font that is installed on the
// gateway's machine; none is shipped with the program. Without one there are no
// PDFs, see [ErrNoFont], and everything else goes on.
//
// A PDF is no OFD (GB/T 33190), the format that GB/T 36905 knows for certificate
// files, and is not tagged for screen readers: who cannot read it uses the page
// that the QR code leads to.
package print

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"codeberg.org/go-pdf/fpdf"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/qrcode"
)

// QRSize is the width of the QR code on paper in millimetres, without its quiet
// zone.
const QRSize = 25.0

// Certificate is what is printed of a certificate. Everything but Proof is needed.
type Certificate struct {
	TypeNameZh string
	TypeNameEn string
	CertID     string // 电子证照标识
	Ref        string
	IssuerZh   string
	IssuerEn   string
	IssuerUSCC string
	IssuedAt   time.Time
	Validity   domain.Period
	Items      []credential.Item // face items 照面信息项, in their order
	Link       string            // what the QR code carries: the page, and the check code behind #
	CheckCode  string            // 查验码, for those who type it
	PrintedAt  time.Time
	ProofName  string // of the attached file
	Proof      []byte // nil: nothing is attached
}

// Printer prints certificates. It is safe for concurrent use.
type Printer struct {
	mu   sync.Mutex
	font *font // nil until one is found
}

// New returns a printer with the TrueType font or collection in fontFile. With ""
// it looks for a font that is installed when it first prints, and again until it
// finds one. It fails if the file cannot be read or is no Chinese TrueType font.
func New(fontFile string) (*Printer, error) {
	if fontFile == "" {
		return &Printer{}, nil
	}
	f, err := readFont(fontFile)
	if err != nil {
		return nil, err
	}
	return &Printer{font: f}, nil
}

// find answers the printer's font, or [ErrNoFont].
func (p *Printer) find() (*font, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.font != nil {
		return p.font, nil
	}
	failed := []error{ErrNoFont}
	for _, file := range fonts {
		f, err := readFont(file)
		if err == nil {
			p.font = f
			return f, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// PDF prints a certificate. The same certificate, printed at the same time with
// the same font, gives the same bytes.
//
// Its error is a [domain.Error] of kind [domain.Invalid] if the certificate is not
// in its shape or the font lacks one of its characters, and [ErrNoFont] without a
// font. It quotes no item.
func (p *Printer) PDF(c Certificate) (data []byte, err error) {
	f, err := p.find()
	if err != nil {
		return nil, err
	}
	if err := c.check(f); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			// The library's panics may quote what it was to print.
			data, err = nil, errors.New("the PDF library failed")
		}
	}()
	return write(f, c)
}

func (c Certificate) check(f *font) error {
	link, err := url.Parse(c.Link)
	switch {
	case err != nil || link.Host == "":
		return invalidf("link: must be an address")
	case c.IssuedAt.IsZero() || c.PrintedAt.IsZero() || !c.Validity.From.Before(c.Validity.To):
		return invalidf("a time is missing, or the validity ends before it begins")
	case c.Proof != nil && c.ProofName == "":
		return invalidf("proofName: is required with a proof")
	}
	if err := credential.CheckItems(c.Items); err != nil {
		return err
	}
	for _, text := range []struct{ field, value string }{
		{"typeNameZh", c.TypeNameZh}, {"typeNameEn", c.TypeNameEn}, {"certId", c.CertID}, {"ref", c.Ref}, {"issuerZh", c.IssuerZh},
		{"issuerEn", c.IssuerEn}, {"issuerUscc", c.IssuerUSCC}, {"checkCode", c.CheckCode}, {"link", c.Link}, {"proofName", c.ProofName},
	} {
		if text.value == "" && text.field != "proofName" {
			return invalidf("%s: is required", text.field)
		}
		if f.missing(text.value) >= 0 {
			return invalidf("%s: has a character that the print font lacks", text.field)
		}
	}
	for i, item := range c.Items {
		for _, part := range []struct{ field, value string }{{"name", item.Name}, {"value", item.Value}} {
			if at := f.missing(part.value); at >= 0 {
				return invalidf("items[%d].%s: character %d is one that the print font lacks", i, part.field, len([]rune(part.value[:at]))+1)
			}
		}
	}
	return nil
}

func invalidf(format string, args ...any) error {
	return &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf(format, args...)}
}

// The page, in millimetres.
const (
	pageWidth  = 210.0
	pageHeight = 297.0
	margin     = 20.0
	width      = pageWidth - 2*margin
	bottom     = pageHeight - 24 // the footer is below
	nameWidth  = 46.0
	checkArea  = 68.0 // height of the box with the QR code

	family = "zh"
)

type sheet struct {
	*fpdf.Fpdf
	c Certificate
	y float64 // where the next thing goes
}

func write(f *font, c Certificate) ([]byte, error) {
	s := &sheet{Fpdf: fpdf.New("P", "mm", "A4", ""), c: c}
	s.SetCatalogSort(true)
	s.SetCreationDate(c.PrintedAt.UTC())
	s.SetModificationDate(c.PrintedAt.UTC())
	s.SetProducer("Zhenglian", true)
	s.SetTitle(c.TypeNameZh+" "+c.CertID, true) // never an item: titles end up in lists of files
	s.SetAuthor(c.IssuerZh, true)
	s.SetLang("zh-CN")
	s.SetMargins(margin, margin, margin)
	s.SetAutoPageBreak(false, 0)
	s.AliasNbPages("")
	s.AddUTF8FontFromBytes(family, "", f.data)
	s.SetFooterFunc(s.footer)
	if c.Proof != nil {
		s.SetAttachments([]fpdf.Attachment{{Content: c.Proof, Filename: c.ProofName, Description: "证明文件 proof"}})
	}
	s.newPage()
	s.heading()
	s.items()
	s.issue()
	if err := s.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := s.Output(&b); err != nil {
		return nil, errors.New("the PDF library failed") // its words may quote what it was to print
	}
	return b.Bytes(), nil
}

// Black, and a grey that still has a contrast of 7 to 1 on paper.
func (s *sheet) black() { s.SetTextColor(0, 0, 0) }
func (s *sheet) grey()  { s.SetTextColor(85, 85, 85) }

func (s *sheet) newPage() {
	s.AddPage()
	s.y = margin
}

// room sees that height fits on the page.
func (s *sheet) room(height float64) {
	if s.y+height > bottom {
		s.newPage()
	}
}

// line writes one line of text and moves on by height.
func (s *sheet) line(x, size, height float64, text string) {
	s.SetFont(family, "", size)
	s.Text(x, s.y+height*0.72, text)
	s.y += height
}

func (s *sheet) centred(size, height float64, text string) {
	s.SetFont(family, "", size)
	for _, part := range s.wrap(text, width) {
		s.line((pageWidth-s.GetStringWidth(part))/2, size, height, part)
	}
}

func (s *sheet) rule(weight float64) {
	s.SetDrawColor(120, 120, 120)
	s.SetLineWidth(weight)
	s.Line(margin, s.y, margin+width, s.y)
}

func (s *sheet) heading() {
	s.grey()
	s.centred(10.5, 6, "电子证照打印件 Printed copy of an electronic certificate")
	s.y += 6
	s.black()
	s.centred(26, 13, s.c.TypeNameZh)
	s.grey()
	s.centred(12, 7, s.c.TypeNameEn)
	s.y += 7
}

// row writes a name and a value between two rules.
func (s *sheet) row(name, value string, size float64) {
	const lineHeight, space = 6.2, 2.2
	s.SetFont(family, "", 10.5)
	names := s.wrap(name, nameWidth-4)
	s.SetFont(family, "", size)
	values := s.wrap(value, width-nameWidth-2)
	for len(values) > 0 {
		// A value longer than the page goes on on the next one.
		s.room(float64(max(len(names), min(len(values), 3)))*lineHeight + 2*space)
		fits := min(len(values), int((bottom-s.y-2*space)/lineHeight))
		begin := s.y
		s.y += space
		s.grey()
		for _, text := range names {
			s.line(margin+2, 10.5, lineHeight, text)
		}
		end := s.y
		s.y = begin + space
		s.black()
		for _, text := range values[:fits] {
			s.line(margin+nameWidth, size, lineHeight, text)
		}
		s.y = max(s.y, end) + space
		s.rule(0.15)
		names, values = nil, values[fits:]
	}
}

func (s *sheet) items() {
	s.rule(0.5)
	for _, item := range s.c.Items {
		s.row(item.Name, item.Value, 12)
	}
}

func (s *sheet) issue() {
	s.y += 5
	s.rule(0.5)
	s.row("颁发机构 Issued by", s.c.IssuerZh+"  "+s.c.IssuerEn, 10.5)
	s.row("机构代码 Issuer's code", s.c.IssuerUSCC, 10.5)
	s.row("颁发日期 Issued on", day(s.c.IssuedAt), 10.5)
	s.row("有效期 Valid", validity(s.c.Validity), 10.5)
	s.row("证照标识 Identifier", s.c.CertID, 8.5)
	s.y += 7
}

var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

func day(t time.Time) string { return t.In(shanghai).Format("2006年1月2日") }

// validity says a period in whole days where it is one.
func validity(p domain.Period) string {
	moment := func(t time.Time) string {
		local := t.In(shanghai)
		if h, m, sec := local.Clock(); h != 0 || m != 0 || sec != 0 {
			return local.Format("2006年1月2日 15:04")
		}
		return day(t)
	}
	to := moment(p.To)
	if to == day(p.To) { // midnight: the day before is the last
		to = day(p.To.Add(-time.Nanosecond))
	}
	return moment(p.From) + " 至 to " + to
}

// check writes the box by which a reader checks the paper.
func (s *sheet) check() error {
	s.room(checkArea)
	top := s.y
	s.SetDrawColor(120, 120, 120)
	s.SetLineWidth(0.3)
	s.Rect(margin, top, width, checkArea, "D")
	const x, pad = margin + 4, 4.0
	side, err := s.qr(x, top+pad)
	if err != nil {
		return err
	}
	s.y = top + checkArea - 8.5
	s.black()
	const label = "查验码 Check code"
	s.SetFont(family, "", 8)
	s.Text(x+2, s.y+4, label)
	inGroups := x + 2 + s.GetStringWidth(label) + 4
	s.line(inGroups, 11.5, 5.5, grouped(s.c.CheckCode))

	left := x + side + 5
	s.y = top + pad
	s.line(left, 13, 9, "扫码验真  Scan to check")
	note := func(size, height float64, text string) {
		s.SetFont(family, "", size)
		for _, part := range s.wrap(text, margin+width-4-left) {
			s.line(left, size, height, part)
		}
		s.y++
	}
	page, _, _ := strings.Cut(s.c.Link, "#")
	site := page
	if u, err := url.Parse(page); err == nil {
		site = u.Scheme + "://" + u.Host
	}
	note(9, 4.6, "证照可能在打印之后被暂扣、撤销、吊销、注销或替代：以扫码所见为准。"+
		"The certificate may have been suspended, revoked or replaced since it was printed: what the scan shows counts.")
	note(9, 4.6, "只认此网址 Official site: "+site+"。查验不需要登录、付款或填写证件号码。Checking never asks for a login, a payment or an ID number.")
	note(9, 4.6, "请核对持证人的身份证件。Compare with the holder's identity document.")
	s.grey()
	note(8, 4, "编号 Reference "+s.c.Ref)
	if s.c.Proof != nil {
		note(8, 4, "本文件附有证明 "+s.c.ProofName+"，可离线查验。The proof is attached to this file and can be checked offline.")
	}
	s.y = top + checkArea
	return nil
}

// grouped answers a check code in groups of four, in which people copy it.
func grouped(code string) string {
	var b strings.Builder
	for i, r := range []rune(code) {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// qr draws the QR code with its quiet zone, so that the code itself is [QRSize]
// wide, and answers the width of both.
func (s *sheet) qr(x, y float64) (float64, error) {
	const pixels, quiet = 8, 4 // a module's; modules on each side
	picture, err := qrcode.PNG(s.c.Link, pixels)
	if err != nil {
		return 0, err
	}
	size, err := png.DecodeConfig(bytes.NewReader(picture))
	if err != nil {
		return 0, fmt.Errorf("read the QR code: %w", err)
	}
	modules := size.Width / pixels
	side := QRSize * float64(modules) / float64(modules-2*quiet)
	options := fpdf.ImageOptions{ImageType: "PNG"}
	s.RegisterImageOptionsReader("qr", options, bytes.NewReader(picture))
	s.ImageOptions("qr", x, y, side, side, false, options, 0, "")
	return side, nil
}

func (s *sheet) footer() {
	s.grey()
	s.SetFont(family, "", 8)
	s.Text(margin, pageHeight-13, s.c.CertID)
	s.Text(margin, pageHeight-9, "打印时间 Printed "+s.c.PrintedAt.In(shanghai).Format("2006-01-02 15:04:05 -07:00"))
	text := fmt.Sprintf("第 %d 页，共 {nb} 页  Page %d of {nb}", s.PageNo(), s.PageNo())
	s.Text(pageWidth-margin-s.GetStringWidth(strings.ReplaceAll(text, "{nb}", "00")), pageHeight-9, text)
}

// wrap cuts text into lines of at most width in the present font: between any two
// Chinese characters, and otherwise between words where it can.
func (s *sheet) wrap(text string, width float64) []string {
	var lines []string
	for text != "" {
		fits, breakAt, sum := 0, 0, 0.0
		for i, r := range text {
			sum += s.GetStringWidth(string(r))
			if sum > width && i > 0 {
				break
			}
			fits = i + len(string(r))
			next, _ := utf8.DecodeRuneInString(text[fits:])
			if fits == len(text) || r == ' ' || isWide(r) && !strings.ContainsRune(closing, next) || isWide(next) && !strings.ContainsRune(closing, next) {
				breakAt = fits
			}
		}
		if fits < len(text) && breakAt > 0 {
			fits = breakAt
		}
		lines = append(lines, strings.TrimSpace(text[:fits]))
		text = strings.TrimLeft(text[fits:], " ")
	}
	return lines
}

// closing are characters that no line begins with.
const closing = "，。、；：？！）》」』】”’,.;:?!)]"

func isWide(r rune) bool {
	return r >= 0x2e80 && r <= 0x9fff || r >= 0xf900 && r <= 0xfaff || r >= 0xff00 && r <= 0xffef
}
