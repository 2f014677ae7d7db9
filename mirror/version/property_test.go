package version

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// anyTag makes tags of few parts, so that they meet.
func anyTag() *rapid.Generator[string] {
	part := func(t *rapid.T, name string, from ...string) string { return rapid.SampledFrom(from).Draw(t, name) }
	return rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 9).Draw(t, "strange") == 0 {
			return rapid.StringMatching(`[a-z0-9_][a-zA-Z0-9._-]{0,20}`).Draw(t, "tag")
		}
		return part(t, "prefix", "", "", "", "v", "release-", "noble-", "nightly-") +
			part(t, "numbers", "1", "2", "1.2", "1.10", "1.2.3", "1.2.4", "1.02.3", "1.2.3.4", "20.04", "2024.1", "2024.1.2", "20240102", "2024-01-02", "1738746453", "latest", "abc1234") +
			part(t, "pre", "", "", "", "-rc1", "rc2", "-rc.10", "a1", ".dev3", "-beta-2", "-SNAPSHOT") +
			part(t, "build", "", "", "", "-4", "_10", "-r0", "-r10", "-abc1234", "w") +
			part(t, "variant", "", "", "", "-alpine", "-alpine3.9", "-alpine3.19", "-slim-bookworm", "-jdk17", "-debian-12-r4")
	})
}

func TestTheOrderIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkOrder(t, anyTag().Draw(t, "a"), anyTag().Draw(t, "b"), anyTag().Draw(t, "c"))
	})
}

func checkOrder(t interface{ Fatalf(string, ...any) }, tags ...string) {
	var vs []Version
	for _, tag := range tags {
		v := Parse(tag)
		if v.Tag() != tag {
			t.Fatalf("%q became %q", tag, v.Tag())
		}
		vs = append(vs, v)
	}
	for _, a := range vs {
		for _, b := range vs {
			ab := a.Compare(b)
			if sign(ab) != -sign(b.Compare(a)) || (ab == 0) != (a.Tag() == b.Tag()) {
				t.Fatalf("%q against %q: %d, and %d the other way", a, b, ab, b.Compare(a))
			}
			for _, c := range vs {
				if ab <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
					t.Fatalf("%q ≤ %q ≤ %q, but not the first and the last", a, b, c)
				}
			}
		}
	}
}

func TestAFinerLineIsWithinTheCoarser(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := Parse(anyTag().Draw(t, "a")), Parse(anyTag().Draw(t, "b"))
		for per := PerPatch; per > PerVariant; per-- {
			if a.Line(per) == b.Line(per) && a.Line(per-1) != b.Line(per-1) {
				t.Fatalf("%s and %s are of one line per %s, of two per %s", a, b, per, per-1)
			}
		}
		if a.Line(PerVariant) == b.Line(PerVariant) && (a.Kind() != b.Kind() && a.Ordered() || len(a.Numbers()) != len(b.Numbers())) {
			t.Fatalf("%s and %s are of one line", a, b)
		}
	})
}

// TestNewestIsTheNewestOfEachLine says in other words than the package which
// tags are chosen: those that fewer than n of their line are newer than.
func TestNewestIsTheNewestOfEachLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 3).Draw(t, "n")
		per := rapid.SampledFrom([]Per{PerVariant, PerMajor, PerMinor, PerPatch}).Draw(t, "per")
		var given []Version
		for _, tag := range rapid.SliceOfDistinct(anyTag(), rapid.ID).Draw(t, "tags") {
			given = append(given, Parse(tag))
		}
		var want []Version
		for _, v := range given {
			newer := 0
			for _, w := range given {
				if w.Line(per) == v.Line(per) && w.Compare(v) > 0 {
					newer++
				}
			}
			if v.Kind() >= Date && newer < n {
				want = append(want, v)
			}
		}
		got := Newest(rapid.Permutation(given).Draw(t, "order"), n, per)
		byTag := func(a, b Version) int { return cmp.Compare(a.Tag(), b.Tag()) }
		slices.SortFunc(want, byTag)
		slices.SortFunc(got, byTag)
		if diff := gocmp.Diff(tagsOf(want), tagsOf(got)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestVariantsAndBuildsAreInTheSameRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.StringMatching(`v?[0-9]{1,2}(\.[0-9]{1,2}){0,3}((rc|-beta\.)[1-9])?`).Draw(t, "tag")
		suffix := rapid.SampledFrom([]string{"-alpine", "-alpine3.19", "-slim-bookworm", "-lts-jdk17", "-windowsservercore-ltsc2022"}).Draw(t, "suffix")
		r, err := ParseRange(rapid.SampledFrom([]string{">=1.20 <20", "^1.2", "~3.18", "1.x || >=40", "1.2 - 7.5", ">=3-0", "!=3", ">=5.1.0-rc2"}).Draw(t, "range"))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := r.Match(plain+suffix), r.Match(plain); got != want {
			t.Fatalf("%s in %s: got %v, want %v as of %s", plain+suffix, r, got, want, plain)
		}
		if !strings.ContainsAny(plain, "rb") && r.Match(plain+"-r4") != r.Match(plain) {
			t.Fatalf("%s-r4 in %s is not as %s", plain, r, plain)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("1.2.3-rc1", "2024-01-02T03-04-05Z", "v0.1.0-3-gabc1234")
	f.Add("21.0.3_9-jdk", "2019-CU28-ubuntu-20.04", "sha-abc1234")
	f.Add("1.4.0a1.dev3", "RELEASE.2024-01-02", "1.2.3-alpine3.19-perl")
	f.Add("99999999999999999999", "1..2--", "é1.2é")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		checkOrder(t, a, b, c)
		for per := PerVariant; per <= PerPatch; per++ {
			if v := Parse(a); (v.Line(per) == "") != (v.Kind() < Date) {
				t.Errorf("%q is a %s of line %q", a, v.Kind(), v.Line(per))
			}
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, text := range []string{">=1.20 <2", "^1.2 || ~3.18", "1.x", "1.2 - 1.5", ">=1.4.0-rc9", ">=20240102", "!=2024-01-02", ">=022.04,*", "=>9999999"} {
		f.Add(text, "1.2.3-rc1")
		f.Add(text, "2024.1.2")
	}
	f.Fuzz(func(t *testing.T, text, tag string) {
		r, err := ParseRange(text)
		switch v := Parse(tag); {
		case err != nil && r.Contains(v):
			t.Errorf("%q is no range, and %q is in it", text, tag)
		case r.Contains(v) && v.Kind() < Date:
			t.Errorf("%q is a %s and in %q", tag, v.Kind(), text)
		}
	})
}
