package interchange

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/transform"
)

// lookAhead is how much of a file tells its encoding: the header and some rows.
const lookAhead = 64 << 10

// decodeText answers r as UTF-8 without byte-order mark. Office software in China
// still writes CSV in GB 18030, so text whose beginning is not UTF-8 is read as
// that. A later cell that is not valid is its row's finding.
func decodeText(r io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(r, lookAhead)
	head, err := buffered.Peek(lookAhead)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
		return nil, errors.New("the file is in UTF-16; save it as UTF-8 or GB 18030")
	}
	if bytes.HasPrefix(head, []byte("\ufeff")) {
		_, _ = buffered.Discard(len("\ufeff")) // was peeked
		return buffered, nil
	}
	cut := err == nil // there is more
	if cut {
		head = head[:len(head)-utf8.UTFMax]
		for len(head) > 0 && !utf8.RuneStart(head[len(head)-1]) {
			head = head[:len(head)-1]
		}
		head = head[:max(len(head)-1, 0)]
	}
	if utf8.Valid(head) {
		return buffered, nil
	}
	text, err := simplifiedchinese.GB18030.NewDecoder().Bytes(head)
	if cut { // the last character may be half a one
		text = bytes.TrimRight(text, string(utf8.RuneError))
	}
	if err != nil || bytes.ContainsRune(text, utf8.RuneError) {
		return nil, errors.New("the file is neither UTF-8 nor GB 18030 text")
	}
	return transform.NewReader(buffered, simplifiedchinese.GB18030.NewDecoder()), nil
}
