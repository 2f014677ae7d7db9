package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	chunkSize  = 64 << 10
	tagSize    = chacha20poly1305.Overhead
	sealedSize = chunkSize + tagSize
)

// chunks is how many a content of a size has: an empty one has one.
func chunks(size int64) int64 { return max(1, (size+chunkSize-1)/chunkSize) }

// payload is how long all chunks of a content are.
func payload(size int64) int64 { return size + chunks(size)*tagSize }

// plain is the size of the content that has chunks of that length together.
func plain(length int64) (int64, error) {
	n := (length + sealedSize - 1) / sealedSize
	if size := length - n*tagSize; size >= 0 && payload(size) == length {
		return size, nil
	}
	return 0, fmt.Errorf("%w: nothing has %d bytes", ErrDamaged, length)
}

// Fits reports whether something of a length can be a content of a size, sealed.
func Fits(length, size int64) bool {
	head := length - payload(size)
	return head >= minHead && head <= maxHead
}

// nonce numbers a chunk, and marks the last.
func nonce(n int64, last bool) []byte {
	b := make([]byte, chacha20poly1305.NonceSize)
	binary.BigEndian.PutUint64(b[3:11], uint64(n))
	if last {
		b[11] = 1
	}
	return b
}

// sealChunk seals in place: b has room for the tag.
func sealChunk(a cipher.AEAD, n int64, last bool, b []byte) []byte {
	return a.Seal(b[:0], nonce(n, last), b, nil)
}

// openChunk opens in place.
func openChunk(a cipher.AEAD, n int64, last bool, b []byte) ([]byte, error) {
	p, err := a.Open(b[:0], nonce(n, last), b, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: chunk %d", ErrDamaged, n)
	}
	return p, nil
}
