// Package statuslist writes and reads the bits of a W3C Bitstring Status List
// (v1.0, https://www.w3.org/TR/vc-bitstring-status-list/): one bit for each
// certificate, so that whoever downloads the list tells nobody which certificate
// the question is about. No Go module offers the encoding without a whole stack of
// credentials around it; it is gzip and base64url.
package statuslist

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/zhenglian/zhenglian/domain"
)

// Size is the number of bits in a list: the least that the standard allows, so
// that the certificates in one list hide one another.
const Size = domain.StatusListLength

// multibase says that base64url without padding follows.
const multibase = "u"

// Encode answers the list, in the form of encodedList, in which the bits at the
// given places are 1. Every place must be from 0 to [Size]-1; one that comes twice
// is one bit.
func Encode(places []int) (string, error) {
	bits := make([]byte, Size/8)
	for _, place := range places {
		if place < 0 || place >= Size {
			return "", fmt.Errorf("place %d is outside a status list of %d bits", place, Size)
		}
		bits[place/8] |= 0x80 >> (place % 8) // the first bit is the most significant
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed) // no name, no time: equal lists are equal bytes
	if _, err := w.Write(bits); err != nil {
		return "", fmt.Errorf("pack status list: %w", err)
	}
	if err := w.Close(); err != nil {
		return "", fmt.Errorf("pack status list: %w", err)
	}
	return multibase + base64.RawURLEncoding.EncodeToString(packed.Bytes()), nil
}

// Decode answers the bits of an encodedList. It refuses one of another length than
// [Size], reading no more than that of it.
func Decode(encoded string) (Bits, error) {
	if len(encoded) == 0 || encoded[:1] != multibase {
		return Bits{}, errors.New("status list: not multibase base64url")
	}
	packed, err := base64.RawURLEncoding.DecodeString(encoded[1:])
	if err != nil {
		return Bits{}, fmt.Errorf("status list: %w", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return Bits{}, fmt.Errorf("status list: %w", err)
	}
	bits, err := io.ReadAll(io.LimitReader(r, Size/8+1))
	if err != nil {
		return Bits{}, fmt.Errorf("status list: %w", err)
	}
	if len(bits) != Size/8 {
		return Bits{}, fmt.Errorf("status list: not of %d bits", Size)
	}
	return Bits{bits}, nil
}

// Bits are a decoded list.
type Bits struct{ bits []byte }

// At reports whether the bit at place is 1; outside the list it is not.
func (b Bits) At(place int) bool {
	return place >= 0 && place < 8*len(b.bits) && b.bits[place/8]&(0x80>>(place%8)) != 0
}
