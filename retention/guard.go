package retention

import (
	"fmt"
	"math"
	"time"
)

// GuardError refuses a plan that would remove too much of a repository.
type GuardError struct {
	Repo    string
	Remove  int     // tags that would go
	Of      int     // tags that count
	Allowed int     // tags that may go
	Share   float64 // max-removals
	Line    string  // the rule whose max-removals it is
}

// Error names the way out: a look at the plan, and what would allow it.
func (e *GuardError) Error() string {
	enough := percent(math.Ceil(100*float64(e.Remove)/float64(e.Of)) / 100)
	return fmt.Sprintf("refusing to remove %d of the %d tags of %s: max-removals %s of %s allows %d: look with lastro retain --dry-run, then either keep more, or run lastro retain --max-removals %s, or set max-removals: %s",
		e.Remove, e.Of, e.Repo, percent(e.Share), e.Line, e.Allowed, enough, enough)
}

// guard refuses more removals than the strictest rule allows.
func guard(repo string, decisions []Decision, rules []Compiled) error {
	remove := 0
	for _, d := range decisions {
		if d.Remove {
			remove++
		}
	}
	if remove == 0 {
		return nil
	}
	strictest := rules[0]
	for _, rule := range rules {
		if rule.rule.MaxRemovals < strictest.rule.MaxRemovals {
			strictest = rule
		}
	}
	share := strictest.rule.MaxRemovals
	if n := allowed(share, len(decisions)); remove > n {
		return &GuardError{Repo: repo, Remove: remove, Of: len(decisions), Allowed: n, Share: share, Line: strictest.String()}
	}
	return nil
}

// allowed is how many of n tags a share allows to go. 29 % of 100 tags are 29,
// which floating point alone would not say.
func allowed(share float64, n int) int {
	if share <= 0 {
		return 0
	}
	return max(1, int(math.Floor(share*float64(n)+1e-9)))
}

// keepLast keeps the newest of a repository's tags, decisions[0], when nothing
// else keeps any.
func keepLast(decisions []Decision) {
	for _, d := range decisions {
		if !d.Remove {
			return
		}
	}
	if len(decisions) > 0 {
		newest := &decisions[0]
		newest.Remove, newest.Until = false, time.Time{}
		newest.Reasons = append([]string{"a repository never loses its last tag"}, newest.Reasons...)
	}
}
