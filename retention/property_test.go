package retention

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawTags makes a repository with few names, times and digests, so that they meet.
func drawTags(t *rapid.T) (tags []Tag) {
	digests := []string{"A", "B", "C", "D"}
	for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`[abc][0-9]`), 0, 12, rapid.ID).Draw(t, "names") {
		tag := Tag{Name: name, Digest: rapid.SampledFrom(digests).Draw(t, "digest"), Protections: drawProtections(t)}
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0: // of unknown age
		case 1, 2:
			tag.Subject = rapid.SampledFrom(append(digests, "E")).Draw(t, "subject")
		default:
			tag.Since = now.Add(-time.Duration(rapid.IntRange(0, 8).Draw(t, "days")) * day)
			if n := rapid.IntRange(-1, 8).Draw(t, "pulled days"); n >= 0 {
				tag.Pulled = now.Add(-time.Duration(n) * day)
			}
			tag.Below = rapid.SliceOfN(rapid.SampledFrom(digests), 0, 2).Draw(t, "below")
		}
		tags = append(tags, tag)
	}
	return tags
}

func drawKeep(t *rapid.T) Keep {
	var k Keep
	for reflect.ValueOf(k).IsZero() {
		k.Last = rapid.IntRange(0, 3).Draw(t, "last")
		k.PerVariant, k.PerMajor = rapid.IntRange(0, 2).Draw(t, "per variant"), rapid.IntRange(0, 2).Draw(t, "per major")
		k.Semver = rapid.SampledFrom([]string{"", "", "", "b5", "c"}).Draw(t, "semver")
		k.Within = time.Duration(rapid.IntRange(0, 5).Draw(t, "within")) * day
		k.Pulled = time.Duration(rapid.IntRange(0, 5).Draw(t, "pulled")) * day
		k.Tags = rapid.SampledFrom([][]string{nil, {"a*"}, {"b1", "c*"}}).Draw(t, "tags")
	}
	return k
}

func drawRules(t *rapid.T) (rules []Compiled) {
	for range rapid.IntRange(1, 3).Draw(t, "rules") {
		rules = append(rules, keeping(t, drawKeep(t)))
	}
	return rules
}

func isProtected(t Tag) bool {
	return slices.ContainsFunc(t.Protections, func(p Protection) bool { return p.Until.IsZero() || p.Until.After(now) })
}

// keptBy says, in other words than the package, whether a line of a rule keeps a tag.
func keptBy(c Compiled, t Tag, tags []Tag) bool {
	var newer, higher, higherOfLetter int
	for _, other := range tags {
		if other.Subject != "" {
			continue
		}
		if other.Since.After(t.Since) || other.Since.Equal(t.Since) && other.Name > t.Name {
			newer++
		}
		if other.Name > t.Name && other.Name[0] != 'c' {
			higher++
			if other.Name[0] == t.Name[0] {
				higherOfLetter++
			}
		}
	}
	if isProtected(t) {
		return true
	}
	k, isVersion := c.rule.Keep, t.Name[0] != 'c'
	return newer < k.Last || isVersion && (higher < k.PerVariant || higherOfLetter < k.PerMajor) || k.Semver != "" && t.Name > k.Semver || k.Within > 0 && now.Sub(t.Since) < k.Within ||
		k.Pulled > 0 && (t.Pulled.IsZero() || now.Sub(t.Pulled) < k.Pulled) ||
		slices.ContainsFunc(k.Tags, func(p string) bool { return glob(p).Match(t.Name) })
}

func TestATagStaysExactlyWhenALineKeepsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tags, rules := drawTags(t), drawRules(t)
		got, err := Decide("lib/a", tags, rules, now)
		if err != nil {
			t.Fatal(err)
		}
		stays := map[string]bool{}
		for _, d := range got {
			stays[d.Tag] = !d.Remove
		}
		var count, kept int
		for _, tag := range tags {
			if tag.Subject != "" {
				continue
			}
			count++
			if stays[tag.Name] {
				kept++
			}
		}
		for _, tag := range tags {
			if tag.Subject != "" {
				continue
			}
			want := tag.Since.IsZero() || slices.ContainsFunc(rules, func(c Compiled) bool { return keptBy(c, tag, tags) })
			if want && !stays[tag.Name] {
				t.Fatalf("%s goes, and a line keeps it", tag.Name)
			}
			if !want && stays[tag.Name] && kept > 1 {
				t.Fatalf("%s stays, and no line keeps it", tag.Name)
			}
		}
		if count > 0 && kept == 0 {
			t.Fatal("the last tag goes")
		}
	})
}

func TestAnAttachedTagGoesOnlyWhenAllThatLeadsToItGoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tags, rules := drawTags(t), drawRules(t)
		got, err := Decide("lib/a", tags, rules, now)
		if err != nil {
			t.Fatal(err)
		}
		gone := map[string]bool{}
		for _, d := range got {
			gone[d.Tag] = d.Remove
		}
		// One round of leading after the other, until nothing is added.
		reached := func(from func(Tag) bool) map[string]bool {
			digests := map[string]bool{}
			for _, tag := range tags {
				if tag.Subject == "" && from(tag) {
					for _, d := range append(tag.Below, tag.Digest) {
						digests[d] = true
					}
				}
			}
			names := map[string]bool{}
			for range tags {
				for _, tag := range tags {
					if tag.Subject != "" && digests[tag.Subject] {
						digests[tag.Digest], names[tag.Name] = true, true
					}
				}
			}
			return names
		}
		staying := reached(func(t Tag) bool { return !gone[t.Name] })
		going := reached(func(t Tag) bool { return gone[t.Name] })
		for _, tag := range tags {
			if want := going[tag.Name] && !staying[tag.Name] && !isProtected(tag); tag.Subject != "" && gone[tag.Name] != want {
				t.Fatalf("%s goes: got %v, want %v", tag.Name, gone[tag.Name], want)
			}
		}
	})
}

func TestAnotherLineNeverRemovesMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tags, rules := drawTags(t), drawRules(t)
		before, err := Decide("lib/a", tags, rules, now)
		if err != nil {
			t.Fatal(err)
		}
		more := slices.Insert(slices.Clone(rules), rapid.IntRange(0, len(rules)).Draw(t, "at"), keeping(t, drawKeep(t)))
		after, err := Decide("lib/a", tags, more, now)
		if err != nil {
			t.Fatal(err)
		}
		was := map[string]Decision{}
		for _, d := range before {
			was[d.Tag] = d
		}
		// Who stays only because a repository never loses its last tag may go when
		// another one stays.
		last := func(d Decision) bool { return d.Reasons[0] == "a repository never loses its last tag" }
		if slices.ContainsFunc(before, last) {
			return
		}
		for _, d := range after {
			if d.Remove && !was[d.Tag].Remove {
				t.Fatalf("%s goes now because %v, and stayed because %v", d.Tag, d.Reasons, was[d.Tag].Reasons)
			}
		}
	})
}

func TestDecisionsDoNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tags, rules := drawTags(t), drawRules(t)
		want, _ := Decide("lib/a", tags, rules, now)
		got, _ := Decide("lib/a", rapid.Permutation(tags).Draw(t, "tags"), rapid.Permutation(rules).Draw(t, "rules"), now)
		for _, ds := range [][]Decision{want, got} {
			for i := range ds { // rules of the same name may be cited in either order
				slices.Sort(ds[i].Reasons)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestUntilIsWhenItGoes runs the clock to what Until says.
func TestUntilIsWhenItGoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tags, rules := drawTags(t), drawRules(t)
		got, err := Decide("lib/a", tags, rules, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range got {
			if d.Until.IsZero() {
				continue
			}
			just, _ := Decide("lib/a", tags, rules, d.Until.Add(-1))
			then, _ := Decide("lib/a", tags, rules, d.Until)
			i := slices.IndexFunc(just, func(o Decision) bool { return o.Tag == d.Tag })
			if d.Remove || just[i].Remove {
				t.Fatalf("%s is gone before %v: %v", d.Tag, d.Until, just[i].Reasons)
			}
			// What stays then is the last tag, or attached to it.
			if !then[i].Remove && !then[i].Until.IsZero() {
				t.Fatalf("%s is still there at %v: %v", d.Tag, d.Until, then[i].Reasons)
			}
		}
	})
}
