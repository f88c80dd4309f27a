package sqlindex

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/domain"
)

// A cursor is the position of the last item of a page under the name of its
// list, in base64url so that it passes through a URL and nobody builds one by
// hand. A checksum tells a damaged one. It is not signed: a forged one only
// starts the caller's own list elsewhere.
const cursorVersion = "1"

func encodeCursor(list, position string) string {
	text := []byte(cursorVersion + "\x00" + list + "\x00" + position)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(text, crc32.ChecksumIEEE(text)))
}

// decodeCursor answers the position that cursor holds; ok is false for "", the
// first page.
func decodeCursor(list, cursor string) (position string, ok bool, err error) {
	if cursor == "" {
		return "", false, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return "", false, badCursor()
	}
	text := raw[:max(0, len(raw)-4)]
	if len(raw) < 4 || binary.BigEndian.Uint32(raw[len(text):]) != crc32.ChecksumIEEE(text) {
		return "", false, badCursor()
	}
	position, ok = strings.CutPrefix(string(text), cursorVersion+"\x00"+list+"\x00")
	if !ok {
		return "", false, badCursor()
	}
	return position, true, nil
}

// decodeNumberCursor is [decodeCursor] for lists in order of a number; first is
// the answer for the first page.
func decodeNumberCursor(list, cursor string, first int64) (int64, error) {
	position, ok, err := decodeCursor(list, cursor)
	if err != nil {
		return 0, err
	}
	if !ok {
		return first, nil
	}
	n, err := strconv.ParseInt(position, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != position {
		return 0, badCursor()
	}
	return n, nil
}

func badCursor() error {
	return &domain.Error{Kind: domain.Invalid, Msg: "the cursor is not one that this list gave"}
}

// column is a number as SQLite stores it: 63 bits.
func column(what string, n uint64) (int64, error) {
	if n > math.MaxInt64 {
		return 0, &domain.Error{Kind: domain.Invalid, Msg: fmt.Sprintf("%s %d is out of range", what, n)}
	}
	return int64(n), nil
}
