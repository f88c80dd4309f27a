package qrcode

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/makiuchi-d/gozxing"
	zxing "github.com/makiuchi-d/gozxing/qrcode"
	"pgregory.net/rapid"

	"github.com/zhenglian/zhenglian/domain"
)

// link has the length of a real certificate link: host, 128-bit reference and
// check code.
const link = "https://verify.zhenglian.example/v/0f1e2d3c4b5a69788796a5b4c3d2e1f0#7KQ2M9XW4B"

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func decode(t fataler, img image.Image) string {
	t.Helper()
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatalf("bitmap: %v", err)
	}
	// Drawings here are exact, so the reader need not search for the code: the
	// search of this decoder loses some large codes that phones read. The links
	// of certificates are decoded with the search as well.
	hints := map[gozxing.DecodeHintType]any{
		gozxing.DecodeHintType_CHARACTER_SET: "UTF-8",
		gozxing.DecodeHintType_PURE_BARCODE:  true,
	}
	result, err := zxing.NewQRCodeReader().Decode(bitmap, hints)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return result.GetText()
}

func decodeSearching(t fataler, img image.Image) string {
	t.Helper()
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatalf("bitmap: %v", err)
	}
	result, err := zxing.NewQRCodeReader().DecodeWithoutHints(bitmap)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return result.GetText()
}

func decodePNG(t fataler, data []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("read PNG: %v", err)
	}
	return img
}

var rectangle = regexp.MustCompile(`^M(\d+) (\d+)h(\d+)v1h-(\d+)z`)

// rasterise draws the path of an SVG made by [SVG] with pixels pixels to a
// module, and fails on anything that it does not know.
func rasterise(t fataler, data []byte, pixels int) image.Image {
	t.Helper()
	var doc struct {
		ViewBox string `xml:"viewBox,attr"`
		Path    struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	if err := xml.Unmarshal(data, &doc); err != nil {
		t.Fatalf("read SVG: %v", err)
	}
	box := strings.Fields(doc.ViewBox)
	if len(box) != 4 {
		t.Fatalf("viewBox %q", doc.ViewBox)
	}
	side, err := strconv.Atoi(box[2])
	if err != nil {
		t.Fatalf("viewBox %q: %v", doc.ViewBox, err)
	}
	img := image.NewGray(image.Rect(0, 0, side*pixels, side*pixels))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	for d := doc.Path.D; d != ""; {
		m := rectangle.FindStringSubmatch(d)
		if m == nil || m[3] != m[4] {
			t.Fatalf("path at %.40q is not a row of modules", d)
		}
		x, _ := strconv.Atoi(m[1])
		y, _ := strconv.Atoi(m[2])
		n, _ := strconv.Atoi(m[3])
		r := image.Rect(x*pixels, y*pixels, (x+n)*pixels, (y+1)*pixels)
		draw.Draw(img, r, image.Black, image.Point{}, draw.Src)
		d = d[len(m[0]):]
	}
	return img
}

// readTerminal turns the half blocks of [Terminal] back into an image.
func readTerminal(t fataler, text string, pixels int) image.Image {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	var rows [][]bool
	for _, line := range lines {
		line, ok := strings.CutPrefix(line, "\x1b[30;107m")
		line, ok2 := strings.CutSuffix(line, "\x1b[0m")
		if !ok || !ok2 {
			t.Fatalf("line %q does not set and reset its colours", line)
		}
		var upper, lower []bool
		for _, r := range line {
			upper = append(upper, r == '█' || r == '▀')
			lower = append(lower, r == '█' || r == '▄')
		}
		rows = append(rows, upper, lower)
	}
	img := image.NewGray(image.Rect(0, 0, len(rows[0])*pixels, len(rows)*pixels))
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			if !rows[y/pixels][x/pixels] {
				img.SetGray(x, y, color.Gray{Y: 255})
			}
		}
	}
	return img
}

func TestLinkDecodes(t *testing.T) {
	pngData, err := PNG(link, 6)
	if err != nil {
		t.Fatal(err)
	}
	svgData, err := SVG(link)
	if err != nil {
		t.Fatal(err)
	}
	var term strings.Builder
	if err := Terminal(&term, link); err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]image.Image{
		"png":      decodePNG(t, pngData),
		"svg":      rasterise(t, svgData, 6),
		"terminal": readTerminal(t, term.String(), 6),
	} {
		if diff := cmp.Diff(link, decodeSearching(t, img)); diff != "" {
			t.Errorf("%s decodes to (-want +got):\n%s", name, diff)
		}
	}
	if len(svgData) > 20_000 {
		t.Errorf("SVG of a link has %d bytes", len(svgData))
	}
}

func TestQuietZone(t *testing.T) {
	const pixels = 3
	data, err := PNG(link, pixels)
	if err != nil {
		t.Fatal(err)
	}
	img := decodePNG(t, data)
	side := img.Bounds().Dx()
	dark := func(x, y int) bool { r, _, _, _ := img.At(x, y).RGBA(); return r == 0 }
	for i := range side {
		for margin := range 4 * pixels {
			for _, p := range []image.Point{{i, margin}, {i, side - 1 - margin}, {margin, i}, {side - 1 - margin, i}} {
				if dark(p.X, p.Y) {
					t.Fatalf("dark pixel %v in the quiet zone", p)
				}
			}
		}
	}
	if !dark(4*pixels, 4*pixels) {
		t.Error("the finder pattern does not begin after four modules")
	}
}

func TestDecodedEqualsInput(t *testing.T) {
	text := rapid.OneOf(
		rapid.StringMatching(`https://[a-z0-9.-]{4,40}/v/[0-9a-f]{32}#[2-9A-HJ-NP-Z]{10}`),
		rapid.StringMatching(`[ -~]{1,300}`),
		rapid.StringMatching(`[0-9]{1,60}`),
		rapid.StringMatching(`[一-龥]{1,60}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		want := text.Draw(t, "text")
		pngData, err := PNG(want, 2)
		if err != nil {
			t.Fatalf("PNG: %v", err)
		}
		svgData, err := SVG(want)
		if err != nil {
			t.Fatalf("SVG: %v", err)
		}
		var term strings.Builder
		if err := Terminal(&term, want); err != nil {
			t.Fatalf("Terminal: %v", err)
		}
		for _, img := range []image.Image{
			decodePNG(t, pngData), rasterise(t, svgData, 2), readTerminal(t, term.String(), 2),
		} {
			if got := decode(t, img); got != want {
				t.Fatalf("decoded %q, want %q", got, want)
			}
		}
	})
}

func TestRefuses(t *testing.T) {
	tests := []struct {
		name   string
		text   string
		pixels int
	}{
		{"empty", "", 4},
		{"too long", strings.Repeat("x", 1001), 4},
		{"no pixels", link, 0},
		{"too many pixels", link, 65},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := PNG(tt.text, tt.pixels)
			if got := domain.KindOf(err); got != domain.Invalid {
				t.Errorf("PNG: kind %q, want %q (%v)", got, domain.Invalid, err)
			}
		})
	}
	if _, err := SVG(""); domain.KindOf(err) != domain.Invalid {
		t.Errorf("SVG: %v", err)
	}
	if err := Terminal(failingWriter{}, link); !errors.Is(err, errFull) {
		t.Errorf("Terminal on a full disk: %v", err)
	}
}

var errFull = errors.New("no space left")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errFull }
