package ledger

import (
	"container/list"
	"context"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	maxNotes   = factPage // of pulls that wait for a flush: it is one transaction
	manyNotes  = maxNotes / 2
	flushAfter = 30 * time.Second
)

// pulled is a tag, or a manifest, of a repository.
type pulled struct {
	repo, name string
	isDigest   bool
}

// key is nil for what cannot be one.
func (p pulled) key() []byte {
	if !p.isDigest {
		return tagKey(p.repo, p.name)
	}
	k, err := repoDigestKey(p.repo, digest.Digest(p.name))
	if err != nil {
		return nil
	}
	return k
}

type note struct {
	pulled
	at int64 // seconds since 1970
}

// notes are when what was pulled, in the order of the seconds in which that was.
type notes struct {
	of map[pulled]*list.Element
	list.List
}

func newNotes() *notes { return &notes{of: map[pulled]*list.Element{}} }

func (n *notes) at(of pulled) int64 {
	if e, ok := n.of[of]; ok {
		return e.Value.(*note).at
	}
	return 0
}

func (n *notes) all() iter.Seq2[pulled, int64] {
	return func(yield func(pulled, int64) bool) {
		for e := n.Front(); e != nil; e = e.Next() {
			if one := e.Value.(*note); !yield(one.pulled, one.at) {
				return
			}
		}
	}
}

// pulls are the notes that are not on disk. No lock is held while a disk works.
type pulls struct {
	mu       sync.Mutex
	waiting  *notes
	flushing *notes // a transaction is writing these
	dropped  int    // since it was last asked

	flushes chan struct{} // holds one token: one flush at a time
	some    chan struct{} // rung with the first note
	many    chan struct{} // rung when there are manyNotes
	stop    chan struct{}
	stopped chan struct{}
}

func newPulls() *pulls {
	return &pulls{
		waiting: newNotes(), flushing: newNotes(),
		flushes: make(chan struct{}, 1), some: make(chan struct{}, 1), many: make(chan struct{}, 1),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
}

func (p *pulls) note(repo, tag string, d digest.Digest, at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tag != "" {
		p.add(pulled{repo: repo, name: tag}, at)
	}
	if d != "" {
		p.add(pulled{repo, string(d), true}, at)
	}
}

func (p *pulls) add(of pulled, at int64) {
	if e, ok := p.waiting.of[of]; ok {
		if one := e.Value.(*note); at > one.at {
			one.at = at
			p.waiting.MoveToBack(e)
		}
		return
	}
	if p.waiting.Len() == maxNotes {
		p.drop(p.waiting.Front())
	}
	// The names may be parts of a long request.
	of.repo, of.name = strings.Clone(of.repo), strings.Clone(of.name)
	p.waiting.of[of] = p.waiting.PushBack(&note{of, at})
	p.ringAt(p.waiting.Len())
}

func (p *pulls) drop(e *list.Element) {
	delete(p.waiting.of, e.Value.(*note).pulled)
	p.waiting.Remove(e)
	p.dropped++
}

func (p *pulls) ringAt(n int) {
	switch n {
	case 1:
		ring(p.some)
	case manyNotes:
		ring(p.many)
	}
}

// ring leaves a bell rung.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// take takes all notes for a flush, which ends with done or giveBack.
func (p *pulls) take() *notes {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting, p.flushing = newNotes(), p.waiting
	return p.flushing
}

func (p *pulls) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushing = newNotes()
}

// giveBack puts what was not flushed before what was noted since.
func (p *pulls) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.flushing.Back(); e != nil; e = e.Prev() {
		p.restore(e.Value.(*note))
	}
	p.flushing = newNotes()
	ring(p.some)
}

func (p *pulls) restore(old *note) {
	if e, ok := p.waiting.of[old.pulled]; ok {
		since := e.Value.(*note)
		since.at = max(since.at, old.at)
		return
	}
	if p.waiting.Len() == maxNotes {
		p.dropped++
		return
	}
	p.waiting.of[old.pulled] = p.waiting.PushFront(old)
}

// last is the latest note of any of them; zero: none.
func (p *pulls) last(of []pulled) (t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := int64(0)
	for _, one := range of {
		at = max(at, p.waiting.at(one), p.flushing.at(one))
	}
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(at, 0).UTC()
}

// forgotten is how many notes were dropped since it was last asked.
func (p *pulls) forgotten() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, p.dropped = p.dropped, 0
	return n
}

// flushPulls flushes until the ledger is closed: some time after there are
// notes, or when there are many.
func (l *Ledger) flushPulls() {
	defer close(l.pulls.stopped)
	for l.pulls.wait() {
		if err := l.FlushPulls(context.Background()); err != nil {
			l.log.Warn("pulls cannot be recorded yet", "err", err)
		}
		if n := l.pulls.forgotten(); n > 0 {
			l.log.Warn("pulls were forgotten: more were made than could be recorded", "pulls", n)
		}
	}
}

// wait waits until a flush is due. It says no when there are to be no more.
func (p *pulls) wait() bool {
	select {
	case <-p.some:
	case <-p.stop:
		return false
	}
	due := time.NewTimer(flushAfter)
	defer due.Stop()
	select {
	case <-due.C:
	case <-p.many:
	case <-p.stop:
		return false
	}
	return true
}
