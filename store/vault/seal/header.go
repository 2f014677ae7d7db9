package seal

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	nonceSize = 16
	// minHead and maxHead are how long header and nonce together can be: for one
	// recipient, and more than for maxRecipients.
	minHead = 184
	maxHead = 64 << 10
)

// head is what stands before the chunks, and the key that they are made with.
type head struct {
	raw  []byte
	aead cipher.AEAD
}

// newHead makes one by age, which draws the keys.
func (s *Sealer) newHead() (head, error) {
	var raw bytes.Buffer
	first := &capture{Recipient: s.recipients[0]}
	to := append([]age.Recipient{first}, s.recipients[1:]...)
	if _, err := age.Encrypt(&raw, to...); err != nil {
		return head{}, err
	}
	return newHead(raw.Bytes(), first.key)
}

func newHead(raw, fileKey []byte) (head, error) {
	key, err := hkdf.Key(sha256.New, fileKey, raw[len(raw)-nonceSize:], "payload", chacha20poly1305.KeySize)
	if err != nil {
		return head{}, err
	}
	aead, err := chacha20poly1305.New(key)
	return head{raw, aead}, err
}

// capture is a recipient that keeps the file key.
type capture struct {
	age.Recipient
	key []byte
}

func (c *capture) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	c.key = bytes.Clone(fileKey)
	if r, ok := c.Recipient.(age.RecipientWithLabels); ok {
		return r.WrapWithLabels(fileKey)
	}
	stanzas, err := c.Wrap(fileKey)
	return stanzas, nil, err
}

// readHead reads a header and the nonce behind it, and nothing more. ErrDamaged,
// ErrOthers, or what r says.
func (s *Sealer) readHead(r *bufio.Reader) (head, error) {
	raw, err := readHeader(r)
	if err != nil {
		return head{}, err
	}
	fileKey, err := age.DecryptHeader(raw, s.identities...)
	if _, others := errors.AsType[*age.NoIdentityMatchError](err); others {
		return head{}, ErrOthers
	}
	if err != nil {
		return head{}, fmt.Errorf("%w: its header: %w", ErrDamaged, err)
	}
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(r, nonce); err != nil {
		return head{}, cutOff(err)
	}
	return newHead(append(raw, nonce...), fileKey)
}

// readHeader reads lines up to the one that ends a header.
func readHeader(r *bufio.Reader) (raw []byte, err error) {
	for {
		line, err := r.ReadSlice('\n')
		raw = append(raw, line...)
		switch {
		case len(raw) > maxHead || errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("%w: it has no header", ErrDamaged)
		case err != nil:
			return nil, cutOff(err)
		case bytes.HasPrefix(line, []byte("---")):
			return raw, nil
		}
	}
}

// cutOff is the error for what ends too soon.
func cutOff(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	return err
}
