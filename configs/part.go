package configs

import (
	"errors"
	"reflect"
	"regexp"
	"strconv"
)

// partText is one part of some, of which there are not so many that each is rare.
var partText = regexp.MustCompile(`^1/([1-9][0-9]{0,2})$`)

// partForm is 1/N; its value is N.
var partForm = &form{
	name: "a part", json: "string", pattern: partText,
	parse: func(s string, v reflect.Value) error {
		m := partText.FindStringSubmatch(s)
		if m == nil {
			return errors.New("is not a part, from 1/1 (all) to 1/999")
		}
		n, err := strconv.ParseInt(m[1], 10, 0)
		v.SetInt(n)
		return err
	},
	format: func(v reflect.Value) string { return "1/" + strconv.FormatInt(v.Int(), 10) },
}
