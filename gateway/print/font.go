package print

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"codeberg.org/go-pdf/fpdf"
	"golang.org/x/image/font/sfnt"

	"github.com/zhenglian/zhenglian/domain"
)

// fonts are the Chinese fonts that a [Printer] looks for when it is told of none:
// those of Debian's packages fonts-wqy-zenhei, fonts-wqy-microhei, fonts-lxgw-wenkai
// and fonts-arphic-uming. All may be embedded in documents (GPL with the font
// exception, Apache or GPL, OFL, Arphic). Noto CJK is not among them: its outlines
// are not TrueType's, which the PDF library needs.
var fonts = []string{
	"/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
	"/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
	"/usr/share/fonts/truetype/lxgw-wenkai/LXGWWenKai-Regular.ttf",
	"/usr/share/fonts/truetype/arphic/uming.ttc",
}

// ErrNoFont is what a [Printer] answers on a machine without a Chinese font. It is
// a [domain.Error] of kind [domain.WrongState].
var ErrNoFont error = &domain.Error{Kind: domain.WrongState, Msg: "printing is without_font; install a Chinese TrueType font " +
	"on the gateway's machine (Debian: fonts-wqy-zenhei), or name one in printFont of gateway.json"}

// maxFont bounds what is read of a font file. The largest of [fonts] has 21 MB.
const maxFont = 64 << 20

// font is a TrueType font.
type font struct {
	data []byte
	face *sfnt.Font // for what it can show
}

// readFont reads a TrueType font, of a collection the first, and tries it.
func readFont(file string) (*font, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFont {
		return nil, fmt.Errorf("font %s has %d bytes, at most %d are read", file, info.Size(), maxFont)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f, err := parseFont(data)
	if err != nil {
		return nil, fmt.Errorf("font %s: %w", file, err)
	}
	return f, nil
}

func parseFont(data []byte) (f *font, err error) {
	// The library takes a font at its word, and stops the program at a damaged one.
	defer func() {
		if recover() != nil {
			f, err = nil, errors.New("cannot be read")
		}
	}()
	if len(data) > 12 && string(data[:4]) == "ttcf" {
		if data, err = firstOf(data); err != nil {
			return nil, err
		}
	}
	switch {
	case len(data) > 4 && string(data[:4]) == "OTTO":
		return nil, errors.New("has not TrueType's outlines")
	case len(data) < 12 || binary.BigEndian.Uint32(data) != 0x00010000 && string(data[:4]) != "true":
		return nil, errors.New("is no TrueType font")
	}
	face, err := sfnt.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	f = &font{data: data, face: face}
	const sample = "证照 Certificate 0123456789"
	if i := f.missing(sample); i >= 0 {
		return nil, errors.New("is no Chinese font")
	}
	doc := fpdf.New("P", "mm", "A4", "")
	doc.AddUTF8FontFromBytes(family, "", f.data)
	doc.AddPage()
	doc.SetFont(family, "", 12)
	doc.Text(20, 20, sample)
	if err := doc.Output(discard{}); err != nil {
		return nil, err
	}
	return f, nil
}

// firstOf takes the first font out of a TrueType collection, which the PDF
// library cannot read: its table directory says where in the whole file each
// table is, and is written anew.
func firstOf(collection []byte) ([]byte, error) {
	at := func(i int) (uint32, bool) {
		if i < 0 || i+4 > len(collection) {
			return 0, false
		}
		return binary.BigEndian.Uint32(collection[i:]), true
	}
	const directory, entry = 12, 16 // bytes
	begin, ok := at(12)
	count, ok2 := at(int(begin) + 4)
	tables := int(count >> 16)
	end := int(begin) + directory + tables*entry
	if !ok || !ok2 || end > len(collection) {
		return nil, errors.New("is cut off")
	}
	out := append([]byte(nil), collection[begin:end]...)
	for i := range tables {
		e := directory + i*entry
		offset, length := int(binary.BigEndian.Uint32(out[e+8:])), int(binary.BigEndian.Uint32(out[e+12:]))
		if offset+length > len(collection) {
			return nil, errors.New("is cut off")
		}
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
		binary.BigEndian.PutUint32(out[e+8:], uint32(len(out))) //nolint:gosec // below maxFont
		out = append(out, collection[offset:offset+length]...)
	}
	return out, nil
}

// missing answers where the first character of s begins that the font or the PDF
// library cannot show, -1 if there is none. The library has no characters beyond
// the Basic Multilingual Plane.
func (f *font) missing(s string) int {
	var b sfnt.Buffer
	for i, r := range s {
		if r > 0xffff {
			return i
		}
		if glyph, err := f.face.GlyphIndex(&b, r); err != nil || glyph == 0 {
			return i
		}
	}
	return -1
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
