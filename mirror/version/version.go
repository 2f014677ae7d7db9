package version

// Kind is what a tag is.
type Kind uint8

// From Date on, a kind has numbers to order by.
const (
	Word     Kind = iota // latest, alpine3.19
	Hash                 // abc1234, sha-abc1234
	Date                 // 20240102, 2024-01-02T03-04-05Z; or a number of seven digits or more
	Calendar             // 2024.1.2, 2024
	Float                // 3, 3.18: fewer than three numbers, which usually float
	Semver               // 3.18.1, 1.2.3.4
)

// String is the kind in lower case.
func (k Kind) String() string {
	return [...]string{"word", "hash", "date", "calendar", "float", "semver"}[k]
}

const maxNumbers = 6

// Version is a tag as it was read. The zero Version is of the empty word.
type Version struct {
	tag     string
	kind    Kind
	count   uint8 // of numbers
	numbers [maxNumbers]uint64
	prefix  string
	pre     string
	build   string
	variant string
}

// Parse reads a tag. Every tag gives a Version; its Kind says what it is.
func Parse(tag string) Version { return ParseAs(tag, tag) }

// ParseAs reads the version from text, such as what an expression captured from
// the tag; the Version is still the tag's.
func ParseAs(tag, text string) Version {
	v := Version{tag: tag}
	prefix, rest, kind := cutPrefix(text)
	if v.kind = kind; kind < Date {
		return v
	}
	v.prefix = prefix
	v.readSuffix(v.readNumbers(rest))
	if v.pre == "" {
		v.pre = prereleasePrefix(prefix)
	}
	return v
}

// Tag is the tag as it is written.
func (v Version) Tag() string { return v.tag }

// Kind is what the tag is.
func (v Version) Kind() Kind { return v.kind }

// Ordered reports whether the tag is a version, and so of a line.
func (v Version) Ordered() bool { return v.kind >= Date }

// long reports whether the version is one long number, which may be a time.
func (v Version) long() bool { return v.kind == Date && v.count == 1 }

// Prefix is what stands before the numbers, such as "v".
func (v Version) Prefix() string { return v.prefix }

// Numbers are those of the version. A date's are year, month, day and so on,
// however they are written.
func (v Version) Numbers() []uint64 { return v.numbers[:v.count] }

// Prerelease is what makes it one, such as "rc1"; empty: it is a release.
func (v Version) Prerelease() string { return v.pre }

// Build counts releases of the same numbers, such as "4" or "r0".
func (v Version) Build() string { return v.build }

// Variant is what it is a variant for, such as "slim-bookworm" or "alpine3.19".
func (v Version) Variant() string { return v.variant }

// String is the tag.
func (v Version) String() string { return v.tag }
