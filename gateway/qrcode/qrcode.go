// Package qrcode draws QR codes: as PNG for print shops and office software, as
// SVG for pages, and as text for terminals. Every drawing has the quiet zone of
// four modules that scanners need, and error correction level Q, which survives
// the loss of a quarter of the code: paper in a wallet gets folded and stained.
package qrcode

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"strings"

	"github.com/boombuler/barcode/qr"

	"github.com/zhenglian/zhenglian/domain"
)

const (
	quietZone = 4    // modules on each side, ISO/IEC 18004
	maxText   = 1000 // bytes; beyond this poor printers and old phones give up
	maxModule = 64   // pixels
)

// code is a square of modules, quiet zone included; true is dark.
type code [][]bool

// encode draws text as bytes, without ECI header: links are ASCII, and most
// scanners cannot read the header.
func encode(text string) (code, error) {
	if text == "" || len(text) > maxText {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("a QR code takes 1 to %d bytes of text, got %d", maxText, len(text))}
	}
	symbol, err := qr.Encode(text, qr.Q, qr.Unicode)
	if err != nil {
		return nil, fmt.Errorf("draw QR code of %d bytes: %w", len(text), err)
	}
	size := symbol.Bounds().Dx()
	c := make(code, size+2*quietZone)
	for y := range c {
		c[y] = make([]bool, size+2*quietZone)
	}
	for y := range size {
		for x := range size {
			c[y+quietZone][x+quietZone] = color.GrayModel.Convert(symbol.At(x, y)).(color.Gray).Y < 128
		}
	}
	return c, nil
}

// PNG draws text as a black and white PNG with modulePixels pixels (1 to 64) to
// a module. It returns a [*domain.Error] of kind invalid if text is empty or
// longer than 1000 bytes, or modulePixels is out of range.
func PNG(text string, modulePixels int) ([]byte, error) {
	if modulePixels < 1 || modulePixels > maxModule {
		return nil, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("a QR module takes 1 to %d pixels, got %d", maxModule, modulePixels)}
	}
	c, err := encode(text)
	if err != nil {
		return nil, err
	}
	side := len(c) * modulePixels
	img := image.NewPaletted(image.Rect(0, 0, side, side), color.Palette{color.White, color.Black})
	for y := range side {
		for x := range side {
			if c[y/modulePixels][x/modulePixels] {
				img.SetColorIndex(x, y, 1)
			}
		}
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		return nil, fmt.Errorf("encode QR code as PNG: %w", err)
	}
	return buf.Bytes(), nil
}

// SVG draws text as an SVG document without scripts, styles or links. Its unit
// is the module, so it scales to any size. Errors are those of [PNG].
func SVG(text string) ([]byte, error) {
	c, err := encode(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[1]d" shape-rendering="crispEdges">`, len(c))
	fmt.Fprintf(&b, `<rect width="%[1]d" height="%[1]d" fill="#fff"/><path fill="#000" d="`, len(c))
	for y, row := range c {
		for x := 0; x < len(row); {
			run := x
			for run < len(row) && row[run] == row[x] {
				run++
			}
			if row[x] { // one rectangle for a run of dark modules: a third of the size
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x, y, run-x, run-x)
			}
			x = run
		}
	}
	b.WriteString(`"/></svg>`)
	return b.Bytes(), nil
}

// Terminal writes text as a QR code of half blocks, two modules to a character.
// It sets black on white itself, so that it scans from dark terminals as well.
// Errors are those of [PNG] and of w.
func Terminal(w io.Writer, text string) error {
	c, err := encode(text)
	if err != nil {
		return err
	}
	var b strings.Builder
	for y := 0; y < len(c); y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := range c[y] {
			lower := y+1 < len(c) && c[y+1][x]
			switch upper := c[y][x]; {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteRune(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write QR code: %w", err)
	}
	return nil
}
