package credential

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

// What the check code shows lies sealed at a public address, so that a reader's
// browser can open it and the gateway never learns who has which code.
const (
	// MinCheckCode is the length of the shortest check code that seals: 26 of 32
	// characters are 130 bits. Anybody may guess at what is sealed for as long as
	// they like.
	MinCheckCode = 26

	// SealedBlock is the number of bytes that the sealed text is filled up to, or
	// to a multiple of: the size says nothing of what is shown.
	SealedBlock = 4096

	// SealedOverhead is what sealing adds: the nonce before, the tag behind.
	SealedOverhead = sealNonce + 16

	maxSealed = 4 * SealedBlock
	sealNonce = 12
	sealKey   = 32 // bytes: AES-256

	// sealContext separates this use of a check code from its others.
	sealContext = "zhenglian/sealed/1"
)

// Seal encrypts a credential that discloses what the check code shows, under a key
// that the code alone yields: AES-256-GCM, the key by HKDF-SHA-256 from the code
// with the certificate's reference as its salt, the context and the reference as
// additional data. The answer is the nonce, the ciphertext and the tag; the text is
// filled up with spaces.
//
// Its error is a [domain.Error] of kind [domain.Invalid] if the text is longer than
// 16 KiB or the code has less than [MinCheckCode] characters.
func Seal(ref, checkCode, text string) ([]byte, error) {
	if len(checkCode) < MinCheckCode {
		return nil, invalidf("checkCode: has less than %d characters, too few to seal with", MinCheckCode)
	}
	if len(text) > maxSealed {
		return nil, invalidf("items: those that the check code shows take %d bytes, at most %d are allowed", len(text), maxSealed)
	}
	aead, err := sealer(ref, checkCode)
	if err != nil {
		return nil, err
	}
	size := max(1, (len(text)+SealedBlock-1)/SealedBlock) * SealedBlock
	plain := []byte(text + strings.Repeat(" ", size-len(text)))
	nonce := make([]byte, sealNonce, sealNonce+size+aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return aead.Seal(nonce, nonce, plain, []byte(sealContext+"\n"+ref)), nil
}

// Unseal answers the text that [Seal] was given. It fails if the code or reference
// is another one, or a bit was changed.
func Unseal(ref, checkCode string, sealed []byte) (string, error) {
	aead, err := sealer(ref, checkCode)
	if err != nil {
		return "", err
	}
	if len(sealed) < SealedOverhead {
		return "", errors.New("nothing is sealed here")
	}
	plain, err := aead.Open(nil, sealed[:sealNonce], sealed[sealNonce:], []byte(sealContext+"\n"+ref))
	if err != nil {
		return "", errors.New("the check code does not open this")
	}
	return string(bytes.TrimRight(plain, " ")), nil
}

func sealer(ref, checkCode string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(checkCode), []byte(ref), sealContext, sealKey)
	if err != nil {
		return nil, fmt.Errorf("derive a key from the check code: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use a key from the check code: %w", err)
	}
	return cipher.NewGCM(block)
}
