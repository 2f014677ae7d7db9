package configs

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
)

// sizeUnits are those of sizes, the largest first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9},
	{"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"B", 1}, {"", 1},
}

var sizeText = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)(TiB|TB|GiB|GB|MiB|MB|KiB|kB|B)?$`)

// ParseSize reads 50MiB, 1.5GB or 4096: bytes.
func ParseSize(text string) (int64, error) {
	m := sizeText.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf(`%q is not a size (examples: "50MiB", "1.5GB", 4096)`, text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	for _, unit := range sizeUnits {
		if unit.name == m[2] {
			n *= float64(unit.bytes)
		}
	}
	if err != nil || n > 1<<60 {
		return 0, fmt.Errorf("%q is larger than anything is", text)
	}
	return int64(math.Round(n)), nil
}

// formatSize writes what ParseSize reads.
func formatSize(n int64) string {
	for _, unit := range sizeUnits {
		if n != 0 && unit.bytes > 1 && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

var sizeForm = &form{
	name: "a size", json: "string", also: "integer", pattern: sizeText,
	parse: func(s string, v reflect.Value) error {
		n, err := ParseSize(s)
		v.SetInt(n)
		return err
	},
	format: func(v reflect.Value) string { return formatSize(v.Int()) },
}
