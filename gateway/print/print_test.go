package print

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/makiuchi-d/gozxing"
	zxing "github.com/makiuchi-d/gozxing/qrcode"
	"github.com/pdfcpu/pdfcpu/pkg/api"
	"github.com/pdfcpu/pdfcpu/pkg/pdfcpu/model"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
)

// need skips without one of the programs or fonts that scripts/test-setup.sh
// installs, and fails in CI, which must have them.
func need(t *testing.T, programs ...string) *Printer {
	t.Helper()
	missing := ""
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing = program
		}
	}
	p, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.find(); err != nil {
		missing = "a Chinese font"
	}
	if missing == "" {
		return p
	}
	what := missing + " is not there: run scripts/test-setup.sh"
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
	return nil
}

// certificate is one that nobody has.
func certificate(items int) Certificate {
	issued := time.Date(2026, 3, 2, 1, 30, 0, 0, time.UTC)
	c := Certificate{
		TypeNameZh: "示例许可证", TypeNameEn: "Sample permit",
		CertID: "1.2.156.3005.2.119900000000000023001.119900000000000023.20260001.001.K", Ref: "5f1d3c9a7be24806b1c0d2e4f6a89713",
		IssuerZh: "示例市市场监管局", IssuerEn: "Market Regulation Bureau", IssuerUSCC: "119900000000000023",
		IssuedAt: issued, Validity: domain.Period{From: time.Date(2026, 3, 1, 16, 0, 0, 0, time.UTC), To: time.Date(2028, 3, 1, 16, 0, 0, 0, time.UTC)},
		Items: []credential.Item{
			{Name: "名称", Value: "示例商行（样例）"}, {Name: "经营者", Value: "样例甲"},
			{Name: "经营范围", Value: strings.Repeat("食品销售（仅销售预包装食品）；日用百货、办公用品、五金产品零售；", 5) + "Sale of prepackaged food, office supplies and hardware."},
			{Name: "经营场所", Value: "示例市样板区样板路 1 号 101 室"},
		},
		Link:      "https://zheng.example.gov.cn/v/5f1d3c9a7be24806b1c0d2e4f6a89713#K7QXM2RTWHABCDEFGHJKLMNPQRST",
		CheckCode: "K7QXM2RTWHABCDEFGHJKLMNPQRST", PrintedAt: time.Date(2026, 3, 2, 2, 0, 0, 0, time.UTC),
		ProofName: "certificate.zlproof", Proof: []byte(`{"format":"zhenglian-proof/1","note":"示例"}`),
	}
	for i := len(c.Items); i < items; i++ {
		c.Items = append(c.Items, credential.Item{Name: fmt.Sprintf("照面信息项 %d", i+1), Value: fmt.Sprintf("值 %d", i+1)})
	}
	c.Items = c.Items[:items]
	return c
}

// printed prints a certificate into a file.
func printed(t *testing.T, p *Printer, c Certificate) string {
	t.Helper()
	data, err := p.PDF(c)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "certificate.pdf")
	if dir := os.Getenv("ZHENGLIAN_TEST_KEEP"); dir != "" { // to look at
		file = filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+".pdf")
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, stderr.String())
	}
	return string(out)
}

// squeezed is text without spaces and line breaks, at which long values are cut.
func squeezed(s string) string { return strings.Join(strings.Fields(s), "") }

func TestText(t *testing.T) {
	p := need(t, "pdftotext")
	for _, items := range []int{1, 4, 20, 60} {
		t.Run(strconv.Itoa(items), func(t *testing.T) {
			c := certificate(items)
			text := squeezed(run(t, "pdftotext", "-raw", printed(t, p, c), "-"))
			want := []string{
				c.TypeNameZh, c.TypeNameEn, c.CertID, c.Ref, c.IssuerZh, c.IssuerEn, c.IssuerUSCC, "K7QX-M2RT-WHAB-CDEF-GHJK-LMNP-QRST", c.ProofName,
				"2026年3月2日至to2028年3月1日", "https://zheng.example.gov.cn。", "2026-03-0210:00:00+08:00",
				"扫码验真", "以扫码所见为准", "Compare with the holder's identity document",
			}
			at := 0
			for _, item := range c.Items {
				want = append(want, item.Name, item.Value)
				i := strings.Index(text[at:], squeezed(item.Name+item.Value))
				if i < 0 {
					t.Errorf("item %q is not there, or not behind the one before", item.Name)
					continue
				}
				at += i
			}
			for _, w := range want {
				if !strings.Contains(text, squeezed(w)) {
					t.Errorf("%q is not there", w)
				}
			}
			if strings.Contains(text, "{nb}") {
				t.Error("the number of pages is not filled in")
			}
		})
	}
}

// TestLongestItems checks that nothing leaves the page, whatever is printed.
func TestLongestItems(t *testing.T) {
	p := need(t, "pdftotext", "pdfinfo")
	for name, value := range map[string]string{
		"Chinese":      strings.Repeat("值", credential.MaxValue),
		"one word":     strings.Repeat("W", credential.MaxValue),
		"words":        strings.Repeat("certificate ", credential.MaxValue/12),
		"punctuation":  strings.Repeat("。", credential.MaxValue),
		"many of them": strings.Repeat("多", credential.MaxValue),
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name == "many of them" {
				t.Skip("60 pages take long under the race detector")
			}
			c := certificate(4)
			c.TypeNameZh, c.TypeNameEn = strings.Repeat("证", 100), strings.Repeat("permit ", 25)
			c.Items = append(c.Items, credential.Item{Name: strings.Repeat("名", credential.MaxName), Value: value})
			if name == "many of them" {
				for i := range credential.MaxItems - len(c.Items) {
					c.Items = append(c.Items, credential.Item{Name: strconv.Itoa(i), Value: value})
				}
			}
			file := printed(t, p, c)
			// The words with their boxes in points.
			text := run(t, "pdftotext", "-bbox", file, "-")
			words := 0
			for line := range strings.Lines(text) {
				var x1, y1, x2, y2 float64
				if n, _ := fmt.Sscanf(strings.TrimSpace(line), `<word xMin="%g" yMin="%g" xMax="%g" yMax="%g">`, &x1, &y1, &x2, &y2); n != 4 {
					continue
				}
				words++
				const mm = 72 / 25.4
				if x1 < 19.5*mm || x2 > 191*mm || y1 < 15*mm || y2 > 290*mm {
					t.Errorf("beyond the margins: %s", line)
				}
			}
			if words < 20 {
				t.Fatalf("found %d words", words)
			}
			plain := squeezed(run(t, "pdftotext", "-raw", file, "-"))
			if got, want := strings.Count(plain, value[:len("值")]), strings.Count(value, value[:len("值")]); name == "Chinese" && got < want {
				t.Errorf("%d of %d characters are there", got, want)
			}
		})
	}
}

func TestPages(t *testing.T) {
	p := need(t, "pdfinfo")
	for items, pages := range map[int]string{1: "1", 4: "1", 60: "4"} {
		info := run(t, "pdfinfo", printed(t, p, certificate(items)))
		for _, want := range []string{"Page size:       595.28 x 841.89 pts (A4)", "Pages:           " + pages, "Title:           示例许可证 1.2.156"} {
			if !strings.Contains(info, want) {
				t.Errorf("%d items: pdfinfo has no %q:\n%s", items, want, info)
			}
		}
		for _, item := range certificate(items).Items {
			if strings.Contains(info, item.Value) {
				t.Errorf("the document's properties tell %q", item.Value)
			}
		}
	}
}

func TestAttachment(t *testing.T) {
	p := need(t)
	c := certificate(4)
	c.Proof = bytes.Repeat([]byte{0, 1, 2, 253, '\r', '\n'}, 2000)
	file := printed(t, p, c)
	conf := model.NewDefaultConfiguration()
	if err := api.ValidateFile(file, conf); err != nil {
		t.Errorf("no valid PDF: %v", err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	attached, err := api.ExtractAttachmentsRaw(f, "", nil, conf)
	if err != nil {
		t.Fatal(err)
	}
	if len(attached) != 1 {
		t.Fatalf("%d attachments", len(attached))
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(attached[0].Reader); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), c.Proof) || attached[0].FileName != c.ProofName {
		t.Errorf("%s: %d bytes, want %s with %d", attached[0].FileName, got.Len(), c.ProofName, len(c.Proof))
	}
	t.Run("poppler", func(t *testing.T) {
		need(t, "pdfdetach")
		out := filepath.Join(t.TempDir(), "proof")
		run(t, "pdfdetach", "-save", "1", "-o", out, file)
		if data, err := os.ReadFile(out); err != nil || !bytes.Equal(data, c.Proof) {
			t.Errorf("pdfdetach: %d bytes, %v", len(data), err)
		}
	})
	t.Run("qpdf", func(t *testing.T) {
		need(t, "qpdf")
		run(t, "qpdf", "--check", file)
	})
	t.Run("none", func(t *testing.T) {
		without := c
		without.Proof, without.ProofName = nil, ""
		data, err := p.PDF(without)
		if err != nil {
			t.Fatal(err)
		}
		if none, err := api.Attachments(bytes.NewReader(data), conf); err != nil || len(none) != 0 {
			t.Errorf("%d attachments, %v", len(none), err)
		}
	})
}

// TestQRCode scans the rendered page with two decoders, at the resolutions of a
// screen, of a fax and of a printer.
func TestQRCode(t *testing.T) {
	p := need(t, "pdftoppm", "zbarimg")
	resolutions := []int{150, 200, 300}
	if testing.Short() {
		resolutions = resolutions[:1] // the decoders take long under the race detector
	}
	for _, items := range []int{4, 60} {
		c := certificate(items)
		file := printed(t, p, c)
		for _, dpi := range resolutions {
			t.Run(fmt.Sprintf("%d items at %d dpi", items, dpi), func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "page")
				pages := run(t, "pdfinfo", file)
				last := strings.TrimSpace(strings.Split(strings.SplitN(pages, "Pages:", 2)[1], "\n")[0])
				run(t, "pdftoppm", "-png", "-r", strconv.Itoa(dpi), "-f", last, "-l", last, "-singlefile", file, out)
				picture := out + ".png"
				if got := strings.TrimSpace(run(t, "zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", picture)); got != c.Link {
					t.Errorf("zbar reads %q", got)
				}
				f, err := os.Open(picture)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = f.Close() }()
				page, err := png.Decode(f)
				if err != nil {
					t.Fatal(err)
				}
				corners := scan(t, page, c.Link)
				// The centres of the finder patterns are 7 modules less than the code apart.
				modules := float64(4*7 + 17) // version 7 for this link
				pixels := corners * modules / (modules - 7)
				if mm := pixels / float64(dpi) * 25.4; mm < QRSize-0.7 || mm > QRSize+0.7 {
					t.Errorf("the code is %.1f mm wide, want %.1f", mm, QRSize)
				}
			})
		}
	}
}

// scan reads the QR code on a page and answers how many pixels the centres of two
// finder patterns are apart.
func scan(t *testing.T, page image.Image, want string) float64 {
	t.Helper()
	bitmap, err := gozxing.NewBinaryBitmapFromImage(page)
	if err != nil {
		t.Fatal(err)
	}
	read, err := zxing.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]interface{}{gozxing.DecodeHintType_TRY_HARDER: true})
	if err != nil {
		t.Fatalf("gozxing: %v", err)
	}
	if read.GetText() != want {
		t.Errorf("gozxing reads %q", read.GetText())
	}
	if level := read.GetResultMetadata()[gozxing.ResultMetadataType_ERROR_CORRECTION_LEVEL]; level != "Q" {
		t.Errorf("error correction level %v, want Q", level)
	}
	points := read.GetResultPoints()
	return gozxing.ResultPoint_Distance(points[1], points[2])
}

// TestSameBytes checks that printing is a function of what is printed, and that
// several may print at once.
func TestSameBytes(t *testing.T) {
	p := need(t)
	want, err := p.PDF(certificate(20))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := p.PDF(certificate(20)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("printed otherwise: %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if len(want) > 200_000 {
		t.Errorf("the PDF has %d bytes: the whole font?", len(want))
	}
}

func TestRefuses(t *testing.T) {
	p := need(t)
	secret := "秘密"
	for name, tt := range map[string]struct {
		change func(*Certificate)
		want   string
	}{
		"no items":           {func(c *Certificate) { c.Items = nil }, "items"},
		"a rare character":   {func(c *Certificate) { c.Items[1].Value = secret + "\U00020BB7" }, "items[1].value: character 3"},
		"an emoji in a name": {func(c *Certificate) { c.Items[1].Name = "\U0001F600" }, "items[1].name: character 1"},
		"another script":     {func(c *Certificate) { c.TypeNameEn = "\u1820" }, "typeNameEn"},
		"no type":            {func(c *Certificate) { c.TypeNameZh = "" }, "typeNameZh"},
		"no link":            {func(c *Certificate) { c.Link = secret }, "link"},
		"no time":            {func(c *Certificate) { c.PrintedAt = time.Time{} }, "time"},
		"no name of a proof": {func(c *Certificate) { c.ProofName = "" }, "proofName"},
	} {
		t.Run(name, func(t *testing.T) {
			c := certificate(4)
			tt.change(&c)
			_, err := p.PDF(c)
			if domain.KindOf(err) != domain.Invalid || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error = %v, want invalid: %s", err, tt.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error quotes an item: %v", err)
			}
		})
	}
}

func TestFonts(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, file := range map[string]string{
		"no file":           filepath.Join(dir, "none.ttf"),
		"no font":           write("text.ttf", bytes.Repeat([]byte("no font "), 100)),
		"nothing":           write("empty.ttf", nil),
		"half a collection": write("half.ttc", []byte("ttcf\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x10")),
		"far offsets":       write("far.ttc", append([]byte("ttcf\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x10\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00glyf\x00\x00\x00\x00"), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)),
		"CFF outlines":      write("cff.otf", append([]byte("OTTO"), make([]byte, 100)...)),
	} {
		if _, err := New(file); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	p := need(t)
	installed, err := p.find()
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(installed.data); n += len(installed.data) / 9 {
		if f, err := parseFont(installed.data[:n]); err == nil && f == nil {
			t.Error("neither font nor error")
		}
	}
	named, err := New(write("installed.ttf", installed.data))
	if err != nil {
		t.Fatal(err)
	}
	a, err := named.PDF(certificate(4))
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.PDF(certificate(4))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("the same font prints otherwise: %v", err)
	}
}

// TestNoFont checks that a machine without a font has a printer that says so, and
// that one installed later is found.
func TestNoFont(t *testing.T) {
	installed := need(t)
	known := fonts
	t.Cleanup(func() { fonts = known })
	fonts = []string{filepath.Join(t.TempDir(), "none.ttc")}
	p, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.PDF(certificate(4))
	if !errors.Is(err, ErrNoFont) || domain.KindOf(err) != domain.WrongState || domain.StateOf(err) != "without_font" {
		t.Errorf("error = %v", err)
	}
	fonts = known
	got, err := p.PDF(certificate(4))
	if err != nil {
		t.Fatal(err)
	}
	want, err := installed.PDF(certificate(4))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(len(want), len(got)); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkPDF(b *testing.B) {
	p, err := New("")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := p.find(); err != nil {
		b.Skip(err)
	}
	c := certificate(20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.PDF(c); err != nil {
			b.Fatal(err)
		}
	}
}
