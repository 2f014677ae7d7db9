package ledger

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

const (
	// maxLine is how long a line of an export may be: the record of a backup in
	// which everything failed is the longest.
	maxLine = 16 << 20
	// importBytes is about how much of an export one transaction records.
	importBytes  = 4 << 20
	importSuffix = ".import"
)

// Imported is what Import has recorded.
type Imported struct {
	Events int `json:"events"`
	Facts  int `json:"facts"` // events included
}

// Import makes a new ledger at path of what Export wrote: all of it or none. It
// is made under another name and gets its own when finish, which may make its
// graph, has returned; finish does not close it. A ledger that is there already is
// fs.ErrExist. Since when pulls are noted is not earlier than now: what was pulled
// after the export is not in it.
func Import(ctx context.Context, path string, r io.Reader, o Options, finish func(*Ledger) error) (n Imported, err error) {
	if _, err := os.Lstat(path); err == nil {
		return n, &fs.PathError{Op: "import into", Path: path, Err: fs.ErrExist}
	}
	made := path + importSuffix
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(made)
		}
	}()
	l, err := Open(made, o)
	if err != nil {
		return n, err
	}
	if n, err = l.read(ctx, r); err == nil {
		err = finish(l)
	} else {
		err = fmt.Errorf("import: %w", err)
	}
	if err := errors.Join(err, l.Close()); err != nil {
		return n, err
	}
	return n, file.Place(made, path)
}

// read records an export in an empty ledger.
func (l *Ledger) read(ctx context.Context, r io.Reader) (n Imported, err error) {
	in := reader{in: bufio.NewReaderSize(r, 64<<10)}
	start, err := in.start()
	if err != nil {
		return n, err
	}
	for !in.ended {
		page, err := in.page()
		if err == nil {
			err = l.update(ctx, func(tx *bolt.Tx) error { return recordFacts(tx, page) })
		}
		if err != nil {
			return n, err
		}
		for _, f := range page {
			n.Facts++
			if f.Event != nil {
				n.Events++
			}
		}
	}
	return n, l.update(ctx, func(tx *bolt.Tx) error { return lastNumber(tx, start.Events) })
}

// lastNumber makes the next event's number the one that it would have had.
func lastNumber(tx *bolt.Tx, last uint64) error {
	events := tx.Bucket([]byte(bucketEvent))
	if n := events.Sequence(); n > last {
		return fmt.Errorf("there is an event %d, and the first line says that %d is the last", n, last)
	}
	return events.SetSequence(last)
}

// recordFacts leaves the tags right of what the facts say.
func recordFacts(tx *bolt.Tx, page []numberedFact) error {
	moved := map[[2]string]bool{}
	follows := func() error {
		for t := range moved {
			if err := follow(tx, t[0], t[1]); err != nil {
				return err
			}
		}
		clear(moved)
		return nil
	}
	for _, f := range page {
		if f.Event != nil {
			moved[[2]string{f.Event.Repo, f.Event.Tag}] = true
		} else if err := follows(); err != nil { // what comes after may ask for tags
			return err
		}
		if err := f.record(tx); err != nil {
			return f.fault(err)
		}
	}
	return follows()
}

// numberedFact is a fact with its line.
type numberedFact struct {
	fact
	line int
}

func (f numberedFact) fault(err error) error { return fmt.Errorf("line %d: %w", f.line, err) }

// reader reads the lines of an export.
type reader struct {
	in    *bufio.Reader
	line  int
	facts int
	ended bool
}

// start reads the first line.
func (r *reader) start() (*exportStart, error) {
	text, err := r.next()
	if err != nil {
		return nil, err
	}
	var first struct {
		Ledger *struct {
			Format int `json:"format"`
		} `json:"ledger"`
	}
	// What else is on the line may be of another format.
	if json.Unmarshal(text, &first) != nil || first.Ledger == nil {
		return nil, errors.New("line 1: this is not what lastro ledger export writes")
	}
	if n := first.Ledger.Format; n != exportFormat {
		return nil, fmt.Errorf("line 1: it is an export of format %d, and this lastro reads format %d: use a lastro that reads it", n, exportFormat)
	}
	f, err := r.decode(text)
	return f.Ledger, err
}

// page reads what one transaction records.
func (r *reader) page() (page []numberedFact, err error) {
	for size := 0; len(page) < factPage && size < importBytes; {
		text, err := r.next()
		if err != nil {
			return nil, err
		}
		f, err := r.decode(text)
		if err != nil {
			return nil, err
		}
		if f.Ledger != nil {
			return nil, f.fault(errors.New("a second export begins"))
		}
		if f.End != nil {
			r.ended = true
			return page, r.finish(*f.End)
		}
		r.facts++
		size += len(text)
		page = append(page, f)
	}
	return page, nil
}

// finish looks whether everything was read, and nothing else is there.
func (r *reader) finish(end exportEnd) error {
	if end.Facts != r.facts {
		return fmt.Errorf("line %d: there are %d facts, and there were %d: lines are missing", r.line, r.facts, end.Facts)
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return errors.Join(fmt.Errorf("line %d: something follows the end", r.line+1), err)
	}
	return nil
}

// next reads a line.
func (r *reader) next() (text []byte, err error) {
	r.line++
	for {
		part, err := r.in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case err == nil:
			return text, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("line %d: the export ends before its last line: it was cut short", r.line)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("line %d: %w", r.line, err)
		case len(text) > maxLine:
			return nil, fmt.Errorf("line %d: longer than %d bytes", r.line, maxLine)
		}
	}
}

// decode reads one fact and nothing else.
func (r *reader) decode(text []byte) (f numberedFact, err error) {
	f.line = r.line
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f.fact); err != nil {
		return f, f.fault(err)
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return f, f.fault(errors.New("more than one fact"))
	}
	if n := f.count(); n != 1 {
		return f, f.fault(fmt.Errorf("%d facts where one belongs", n))
	}
	return f, nil
}

// count is how many facts there are.
func (f fact) count() (n int) {
	for _, is := range []bool{f.Ledger != nil, f.Event != nil, f.Absent != nil, f.Checked != nil, f.Known != nil, f.Asked != nil,
		f.Self != nil, f.Job != nil, f.Held != nil, f.Protection != nil, f.Hold != nil, f.PullsSince != nil, f.Pulled != nil, f.End != nil} {
		if is {
			n++
		}
	}
	return n
}
