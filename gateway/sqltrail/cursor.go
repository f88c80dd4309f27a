package sqltrail

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/trail"
)

// A cursor is the position of the last item of a page under the name of its list,
// in base64url so that it passes through a URL and nobody builds one by hand. A
// checksum tells a damaged one. It is not signed: a forged one only starts the
// caller's own list elsewhere.
const cursorVersion = "1"

// listName names a list by what was asked, without telling it: a filter can hold
// a reference to a person.
func listName(list string, asked any) (string, error) {
	text, err := domain.Canonical(asked)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return list + string(sum[:16]), nil
}

func encodeCursor(list, position string) string {
	text := []byte(cursorVersion + list + position)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(text, crc32.ChecksumIEEE(text)))
}

// decodeCursor answers the position that cursor holds, "" for the first page.
func decodeCursor(list, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) < 4 {
		return "", badCursor()
	}
	text, sum := raw[:len(raw)-4], raw[len(raw)-4:]
	position, ok := strings.CutPrefix(string(text), cursorVersion+list)
	if !ok || binary.BigEndian.Uint32(sum) != crc32.ChecksumIEEE(text) {
		return "", badCursor()
	}
	return position, nil
}

func badCursor() error { return invalid("the cursor is not one that this list gave") }

// checkPage refuses a page outside the port's bounds.
func checkPage(page trail.Page) error {
	if page.Limit < 1 || page.Limit > 200 {
		return invalid("limit %d is not between 1 and 200", page.Limit)
	}
	return nil
}
