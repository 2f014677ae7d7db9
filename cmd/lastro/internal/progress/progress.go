package progress

import (
	"io"
	"sync"
	"time"
)

// images are what a log has a line about each of.
const images = "images"

const (
	redraw = 100 * time.Millisecond
	totals = 10 * time.Second
)

// Options say where and how to draw. Out and Now are required.
type Options struct {
	Out     io.Writer        // standard error
	Columns int              // width of the terminal that Out is; 0: Out is none. A terminal's present width is asked for again whenever Out is a file
	Quiet   bool             // draw nothing at all
	Items   string           // what is counted, in the plural; default "images", each of which is a line where Out is no terminal
	Now     func() time.Time // for the speed
}

// Bars shows progress until it is closed. Its methods may be called from many
// goroutines.
type Bars struct {
	o     Options
	width func() int
	stop  func() // ends the redrawing

	mu     sync.Mutex
	count  count
	speed  speed
	line   string // what the line on the screen says; empty: there is none
	middle bool   // what was printed last ends in the middle of a line
	dirty  bool   // something was counted since the totals were printed
	closed bool
}

// count is what was planned and what of it is done. Totals only grow.
type count struct {
	items, done, failed int
	bytes, moved        int64
}

// New begins to show progress. The caller closes it, before it prints a result
// or through [Bars.Over] whenever.
func New(o Options) *Bars {
	if o.Items == "" {
		o.Items = images
	}
	b := &Bars{o: o, width: widthOf(o), stop: func() {}}
	if o.Quiet {
		b.closed = true
		return b
	}
	b.speed.add(o.Now(), 0)
	b.stop = every(b.interval(), b.tick)
	return b
}

// every calls fn in a goroutine of its own until stop is called, which waits
// for it to end.
func every(d time.Duration, fn func()) (stop func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-end:
				return
			case <-t.C:
				fn()
			}
		}
	})
	return sync.OnceFunc(func() { close(end); wg.Wait() })
}

func (b *Bars) terminal() bool { return b.o.Columns > 0 }

func (b *Bars) interval() time.Duration {
	if b.terminal() {
		return redraw
	}
	return totals
}

// Plan adds to what there is to do.
func (b *Bars) Plan(items int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count.items += items
	b.count.bytes += bytes
	b.dirty = true
}

// Bytes adds to what was moved.
func (b *Bars) Bytes(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count.moved += n
	b.dirty = true
}

// Done counts an item, and says so where that is due.
func (b *Bars) Done(item string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count.done++
	b.dirty = true
	if err != nil {
		b.count.failed++
	}
	switch {
	case b.closed:
	case err != nil:
		b.print("failed " + printable(item) + ": " + printable(err.Error()) + "\n")
	case !b.terminal() && b.o.Items == images:
		// Of what else there is there may be a hundred thousand.
		b.print("done " + printable(item) + "\n")
	}
}

// Close takes the line off the screen; elsewhere it prints the totals once
// more. What is counted afterwards is not shown. It may be called twice.
func (b *Bars) Close() {
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	b.speed.add(b.o.Now(), b.count.moved)
	b.wipe()
	if !b.terminal() {
		b.printTotals()
	}
}

// Over is w for as long as progress is shown on the same screen: each write
// takes the line away first, and it comes back when w is at the beginning of a
// line again.
func (b *Bars) Over(w io.Writer) io.Writer { return over{b, w} }

type over struct {
	*Bars
	to io.Writer
}

func (o over) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wipe()
	if len(p) > 0 {
		o.middle = p[len(p)-1] != '\n'
	}
	return o.to.Write(p)
}

// tick draws what has changed.
func (b *Bars) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.speed.add(b.o.Now(), b.count.moved)
	if !b.terminal() {
		b.printTotals()
		return
	}
	line := fit(b.parts(), b.width()-1)
	if line != b.line && !b.middle {
		b.line = line
		b.write("\r" + line + "\x1b[K")
	}
}

func (b *Bars) printTotals() {
	if b.dirty {
		b.dirty = false
		b.print(b.summary() + "\n")
	}
}

// print puts whole lines above the line.
func (b *Bars) print(lines string) {
	b.wipe()
	if b.middle {
		b.middle = false
		lines = "\n" + lines
	}
	b.write(lines)
}

func (b *Bars) wipe() {
	if b.line != "" {
		b.line = ""
		b.write("\r\x1b[K")
	}
}

// write shows s. Nobody can be told when that fails, and the work goes on.
func (b *Bars) write(s string) { _, _ = io.WriteString(b.o.Out, s) }
