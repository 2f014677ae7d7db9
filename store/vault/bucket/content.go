package bucket

import (
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
)

// existsError is a sentinel that is fs.ErrExist as well.
type existsError string

func (e existsError) Error() string        { return string(e) }
func (e existsError) Is(target error) bool { return target == fs.ErrExist }

// ErrWrongBytes is the cause in a ContentError when all could be read and is not
// what the digest says.
var ErrWrongBytes = errors.New("the bytes do not match the digest")

// checked reads an Object and withholds its end if the bytes are not what the
// digest says, so that a receiver that waits for all of them never has them all.
type checked struct {
	from   *io.SectionReader
	o      Object
	hash   hash.Hash
	hashed int64
	kick   func() // progress was made
}

// Reader reads the object from the start and keeps back its end, with a
// *ContentError, if the bytes are not what the digest says. kick, if not nil, is
// called whenever some were read. Seek back to the start to read again.
func (o Object) Reader(kick func()) io.ReadSeeker {
	if kick == nil {
		kick = func() {}
	}
	return &checked{from: io.NewSectionReader(o.Content, 0, o.Size), o: o, hash: o.Digest.Algorithm().Hash(), kick: kick}
}

// Read returns a *ContentError instead of the last bytes of wrong content.
func (c *checked) Read(p []byte) (int, error) {
	at, _ := c.from.Seek(0, io.SeekCurrent)
	n, err := c.from.Read(p)
	c.kick()
	if err == io.EOF && at+int64(n) < c.o.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		return 0, &ContentError{c.o.Digest, err}
	}
	return c.admit(at, p[:n], err)
}

// Seek starts over, or tells the size; reading on from elsewhere is not checked.
func (c *checked) Seek(offset int64, whence int) (int64, error) {
	return c.from.Seek(offset, whence)
}

func (c *checked) admit(at int64, p []byte, err error) (int, error) {
	if at == 0 {
		c.hash.Reset()
		c.hashed = 0
	}
	if at == c.hashed {
		c.hash.Write(p)
		c.hashed += int64(len(p))
	}
	if c.hashed == c.o.Size && !c.sound() {
		return 0, &ContentError{c.o.Digest, ErrWrongBytes}
	}
	return len(p), err
}

func (c *checked) sound() bool {
	return c.o.Digest.Encoded() == hex.EncodeToString(c.hash.Sum(nil))
}

// Check refuses objects that cannot be stored as they are described.
func (o Object) Check() error {
	if err := o.Digest.Validate(); err != nil {
		return &ContentError{o.Digest, err}
	}
	if o.Size < 0 || o.Content == nil {
		return &ContentError{o.Digest, errors.New("no content given")}
	}
	return nil
}
