package progress

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

const (
	barWidth    = 24
	barMinWidth = 8
	gap         = "  "
)

// widthOf finds out how wide the terminal is at present.
func widthOf(o Options) func() int {
	file, ok := o.Out.(interface{ Fd() uintptr })
	if !ok {
		return func() int { return o.Columns }
	}
	return func() int {
		if w, _, err := term.GetSize(int(file.Fd())); err == nil && w > 0 {
			return w
		}
		return o.Columns
	}
}

// parts are the words of the line, the most wanted first. The bar is drawn into
// what they leave.
type parts struct {
	share float64 // done, 0..1; negative: unknown
	words []string
}

func (b *Bars) parts() parts {
	c := b.count
	p := parts{share: -1}
	switch {
	case c.bytes > 0:
		p.share = float64(c.moved) / float64(c.bytes)
	case c.items > 0:
		p.share = float64(c.done) / float64(c.items)
	}
	p.share = min(p.share, 1) // what was planned may fall short
	if c.done < c.items {
		p.share = min(p.share, 0.99)
	}
	if p.share >= 0 {
		p.words = append(p.words, fmt.Sprintf("%3d%%", int(p.share*100)))
	}
	for _, w := range []string{b.amount(), b.rate(), b.images(), b.left(), b.failures()} {
		if w != "" {
			p.words = append(p.words, w)
		}
	}
	return p
}

// summary is the line for where there is no terminal.
func (b *Bars) summary() string {
	var words []string
	for _, w := range []string{b.images(), b.failures(), b.amount(), b.rate(), b.left()} {
		if w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, ", ")
}

func (b *Bars) amount() string {
	c := b.count
	switch {
	case c.bytes > 0:
		return size(c.moved) + " of " + size(max(c.bytes, c.moved))
	case c.moved > 0:
		return size(c.moved)
	}
	return ""
}

func (b *Bars) images() string {
	c := b.count
	if c.items == 0 && c.done == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d %s", c.done, max(c.items, c.done), b.o.Items)
}

func (b *Bars) failures() string {
	if b.count.failed == 0 {
		return ""
	}
	return fmt.Sprintf("%d failed", b.count.failed)
}

func (b *Bars) rate() string {
	r := b.speed.perSecond()
	if r < 1 {
		return ""
	}
	return size(int64(r)) + "/s"
}

func (b *Bars) left() string {
	r, rest := b.speed.perSecond(), b.count.bytes-b.count.moved
	if r < 1 || rest <= 0 {
		return ""
	}
	const tooLong = 100 * 24 * time.Hour
	d := time.Duration(min(float64(rest)/r, tooLong.Seconds()) * float64(time.Second)).Round(time.Second)
	if d >= tooLong {
		return ""
	}
	return d.String() + " left"
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// fit drops the least wanted words until the rest fits, and fills what is left
// with a bar.
func fit(p parts, columns int) string {
	words := p.words
	for len(words) > 1 && len(strings.Join(words, gap)) > columns {
		words = words[:len(words)-1]
	}
	text := strings.Join(words, gap)
	room := min(columns-len(text)-len(gap), barWidth)
	switch {
	case columns <= 0 || text == "":
		return ""
	case len(text) > columns:
		return text[:columns]
	case p.share >= 0 && room >= barMinWidth:
		return bar(p.share, room) + gap + text
	}
	return text
}

func bar(share float64, width int) string {
	inner := width - len("[]")
	full := int(share * float64(inner))
	if full >= inner {
		return "[" + strings.Repeat("=", inner) + "]"
	}
	return "[" + strings.Repeat("=", full) + ">" + strings.Repeat(" ", inner-full-1) + "]"
}

// printable is s on one line and without anything that a terminal would obey.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			return '?'
		}
		return r
	}, s)
}
