package check

import "fmt"

// least is how many problems never are too many.
const least = 20

// allowance is how many problems a cautious check heals: where more of the store is
// wrong, it is the disk that is not there or the memory that lies, and not the
// content. Then to take out of service and to fetch makes it worse.
func (c *check) allowance() int { return max(least, len(c.known)/10) }

// harm counts what is gone or wrong. What the ledger has to learn is none: after a
// start it may be all of the store.
func (c *check) harm() (n int) {
	for _, p := range c.problems {
		switch p.Kind {
		case Missing, Truncated, Corrupt, Unreadable, Vanished, Dangling:
			n++
		}
	}
	return n
}

// refuses reports whether so much is wrong that nothing may be healed.
func (c *check) refuses() bool {
	if !c.o.Cautious {
		return false
	}
	if n := c.harm(); n > c.allowance() {
		c.refuse(fmt.Sprintf("%d things are gone or wrong", n))
	}
	return c.out.Refused != ""
}

func (c *check) refuse(why string) {
	c.out.Refused = why + ", which is more than a tenth of the store: is the disk mounted and whole, and the memory? " +
		"Nothing more was healed or taken out of service; lastro check --repair does so all the same"
}

// mayTake reports whether one more content may go out of service.
func (c *check) mayTake() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o.Cautious && c.taken >= c.allowance() {
		c.refuse(fmt.Sprintf("more than %d contents hash wrong", c.taken))
		return false
	}
	c.taken++
	return true
}
