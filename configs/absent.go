package configs

import "regexp"

// absentKeys are keys of features that this version does not have, without the
// places in lists. Nobody should believe that they do something.
var absentKeys = map[string]bool{
	"registry.storage": true,
}

var inBrackets = regexp.MustCompile(`\[[^\]]*\]`)

func absent(path string) bool { return absentKeys[inBrackets.ReplaceAllString(path, "[]")] }
