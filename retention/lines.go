package retention

import "fmt"

// counted is a rule that has counted the versions of a repository.
type counted struct {
	Compiled
	places map[string]map[string]place // by what the line is per, and by tag
}

// place is where a tag stands in its line.
type place struct {
	line   string
	number int // 1 is the newest version
}

// count lets every rule count the tags that it has lines for.
func count(items []Tag, rules []Compiled) []counted {
	names := make([]string, len(items))
	for i, t := range items {
		names[i] = t.Name
	}
	counts := make([]counted, len(rules))
	for i, rule := range rules {
		counts[i] = counted{rule, rule.places(names)}
	}
	return counts
}

func (c Compiled) places(tags []string) map[string]map[string]place {
	places := map[string]map[string]place{}
	for _, l := range c.rule.Keep.perLines() {
		if l.newest <= 0 {
			continue
		}
		places[l.per] = map[string]place{}
		for line, tags := range c.lines(tags, l.per) {
			for i, tag := range tags {
				places[l.per][tag] = place{line, i + 1}
			}
		}
	}
	return places
}

func (c counted) askLines(s subject, v *verdict) {
	for _, l := range c.rule.Keep.perLines() {
		if l.newest <= 0 {
			continue
		}
		switch at, ok := c.places[l.per][s.Name]; {
		case !ok:
			v.lets = append(v.lets, fmt.Sprintf("not per %s: it is no version", l.per))
		case at.number <= l.newest:
			v.keep(c.Compiled, fmt.Sprintf("per-%s %d: it is number %d of %s", l.per, l.newest, at.number, at.line))
		default:
			v.lets = append(v.lets, fmt.Sprintf("not in the newest %d per %s: it is number %d of %s", l.newest, l.per, at.number, at.line))
		}
	}
}
