package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What stands in bbolt's pages, in the byte order of the machine:
//
//	page     id 8 · flags 2 · count 2 · overflow 4 · elements, 16 each · keys and values
//	branch   position of the key, from the element's start 4 · key size 4 · page 8
//	leaf     flags 4 · position 4 · key size 4 · value size 4; the value follows the key
//	bucket   a leaf's value: root page 8 · sequence 8 · with no root, a page of its own
const (
	headerSize  = 16
	elementSize = 16
	flagBranch  = 1
	flagLeaf    = 2
	flagBucket  = 1
)

// pages checks the trees of a bbolt file before bbolt reads them: a page that
// is lost, lies elsewhere or belongs to two trees ends the process there.
type pages struct {
	file io.ReaderAt
	size int64           // of a page
	end  uint64          // number of pages
	seen map[uint64]bool // those that belong to a tree

	faults *faults // nil: the first ends it
}

// errEnough ends a check that keeps no more faults.
var errEnough = errors.New("more faults than are kept")

// bear keeps a fault, if that is wanted, so that what is beside it is checked as
// well.
func (c *pages) bear(err error) error {
	if err == nil || err == errEnough || c.faults == nil {
		return err
	}
	if !c.faults.add(err) {
		return errEnough
	}
	return nil
}

// page is one page with those that continue it.
type page struct {
	id    uint64
	flags uint16
	count int
	bytes []byte
}

func (p page) fault(what string) error { return fmt.Errorf("page %d: %s", p.id, what) }

// bucket checks the tree below a root page.
func (c *pages) bucket(root uint64) error {
	_, err := c.tree(root, nil, nil)
	return err
}

// tree checks the page and all below it: all keys lie between low and high. It
// returns the last key.
func (c *pages) tree(id uint64, low, high []byte) (last []byte, err error) {
	p, err := c.read(id)
	if err != nil {
		return nil, err
	}
	switch p.flags {
	case flagBranch:
		return c.branch(p, low, high)
	case flagLeaf:
		return c.leaf(p, low, high)
	}
	return nil, p.fault("neither a branch nor a leaf")
}

func (c *pages) branch(p page, low, high []byte) (last []byte, err error) {
	if p.count == 0 {
		return nil, p.fault("a branch without leaves")
	}
	last = low
	for i := range p.count {
		key, err := p.key(i, 0)
		if err == nil {
			err = p.inOrder(last, key, high, i == 0)
		}
		if err != nil {
			return nil, err
		}
		next := high
		if i+1 < p.count {
			if next, err = p.key(i+1, 0); err != nil {
				return nil, err
			}
		}
		if last, err = c.tree(p.number(i, 8), key, next); err != nil {
			last, err = key, c.bear(err)
		}
		if err != nil {
			return nil, err
		}
	}
	return last, nil
}

func (c *pages) leaf(p page, low, high []byte) (last []byte, err error) {
	last = low
	for i := range p.count {
		key, err := p.key(i, 4)
		if err == nil {
			err = p.inOrder(last, key, high, i == 0)
		}
		if err != nil {
			return nil, err
		}
		last = key
		value, err := p.value(i)
		if err == nil && p.half(i, 0) == flagBucket {
			err = c.bear(c.inner(p, value))
		} else if err == nil && p.half(i, 0) != 0 {
			err = p.fault("an element of no known kind")
		}
		if err != nil {
			return nil, err
		}
	}
	return last, nil
}

// inner checks a bucket that is the value of a key.
func (c *pages) inner(p page, value []byte) error {
	if len(value) < 16 {
		return p.fault("half a bucket")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.bucket(root)
	}
	inline, err := parse(p.id, value[16:])
	if err != nil {
		return err
	}
	if inline.flags != flagLeaf {
		return p.fault("a bucket inside that is no leaf")
	}
	_, err = c.leaf(inline, nil, nil)
	return err
}

// read reads a page that no tree had yet.
func (c *pages) read(id uint64) (page, error) {
	if id < 2 || id >= c.end {
		return page{}, fmt.Errorf("page %d: outside the file", id)
	}
	header := make([]byte, headerSize)
	if _, err := c.file.ReadAt(header, int64(id)*c.size); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	n := 1 + uint64(binary.NativeEndian.Uint32(header[12:]))
	if binary.NativeEndian.Uint64(header) != id || n > c.end-id {
		return page{}, fmt.Errorf("page %d: not what belongs there", id)
	}
	for i := id; i < id+n; i++ {
		if c.seen[i] {
			return page{}, fmt.Errorf("page %d: used twice", i)
		}
		c.seen[i] = true
	}
	whole := make([]byte, int64(n)*c.size)
	if _, err := c.file.ReadAt(whole, int64(id)*c.size); err != nil && !errors.Is(err, io.EOF) {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	return parse(id, whole)
}

func parse(id uint64, whole []byte) (page, error) {
	p := page{id: id, bytes: whole}
	if len(whole) < headerSize {
		return p, p.fault("half a page")
	}
	p.flags = binary.NativeEndian.Uint16(whole[8:])
	p.count = int(binary.NativeEndian.Uint16(whole[10:]))
	if headerSize+p.count*elementSize > len(whole) {
		return p, p.fault("more elements than it has room for")
	}
	return p, nil
}

// half and number read a field of the element i.
func (p page) half(i, at int) uint32 {
	return binary.NativeEndian.Uint32(p.bytes[headerSize+i*elementSize+at:])
}

func (p page) number(i, at int) uint64 {
	return binary.NativeEndian.Uint64(p.bytes[headerSize+i*elementSize+at:])
}

// key reads the key of the element i, whose place and size stand at at.
func (p page) key(i, at int) ([]byte, error) {
	from := headerSize + i*elementSize + int(p.half(i, at))
	return p.slice(from, int(p.half(i, at+4)))
}

// value reads the value of the element i of a leaf.
func (p page) value(i int) ([]byte, error) {
	from := headerSize + i*elementSize + int(p.half(i, 4)) + int(p.half(i, 8))
	return p.slice(from, int(p.half(i, 12)))
}

func (p page) slice(from, n int) ([]byte, error) {
	if from > len(p.bytes) || n > len(p.bytes)-from {
		return nil, p.fault("an element that ends outside it")
	}
	return p.bytes[from : from+n], nil
}

// inOrder checks that key follows last – or is it, for the first of a page –
// and lies before high.
func (p page) inOrder(last, key, high []byte, first bool) error {
	order := bytes.Compare(last, key)
	if last != nil && (order > 0 || order == 0 && !first) || high != nil && bytes.Compare(key, high) >= 0 {
		return p.fault("keys are out of order")
	}
	return nil
}
