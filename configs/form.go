package configs

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"regexp"
	"strconv"
	"time"

	"lastro/mirror"
	"lastro/mirror/version"
)

// form is how a scalar is written.
type form struct {
	name    string         // what it is
	json    string         // its type in JSON: string, integer or boolean
	also    string         // another type that it may have; "": none
	pattern *regexp.Regexp // strings only; a text that does not match is refused by parse
	secret  bool
	file    bool // a path, relative to the folder of the configuration

	parse  func(text string, v reflect.Value) error
	format func(v reflect.Value) string // what parse would take
}

func formOf(t reflect.Type, kind string) *form {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return durationForm
	case reflect.TypeFor[Schedule]():
		return scheduleForm
	}
	switch t.Kind() {
	case reflect.Float64:
		if kind == "percent" {
			return percentForm
		}
	case reflect.Int:
		if kind == "part" {
			return partForm
		}
		return integerForm
	case reflect.Int64:
		if kind == "size" {
			return sizeForm
		}
	case reflect.Bool:
		return booleanForm
	case reflect.String:
		if f, ok := textForms[kind]; ok {
			return f
		}
	}
	return nil
}

// textForms are the forms of strings, by kind.
var textForms = map[string]*form{
	"":           text("a text", `^.+$`, nil),
	"address":    text("host:port", `^(?:[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$`, checkAddress),
	"file":       {name: "a file", json: "string", file: true, pattern: regexp.MustCompile(`^.+$`), parse: setText, format: reflect.Value.String},
	"host":       text("a registry's host", `^[A-Za-z0-9.-]+(?::[0-9]{1,5})?$`, nil),
	"line":       text("major, minor, patch or variant", `^(?:major|minor|patch|variant)$`, nil),
	"pattern":    text("a pattern", `^.+$`, func(s string) error { _, err := mirror.ParsePattern(s); return err }),
	"platform":   text("a platform", `^[^/]+/[^/]+(?:/[^/]+)?$`, func(s string) error { _, err := mirror.ParsePlatform(s); return err }),
	"repository": text("a repository", `^[^\s@]+$`, nil),
	"range":      text("a version range", `^.+$`, func(s string) error { _, err := version.ParseRange(s); return err }),
	"collecting": text("delete or observe", `^(?:delete|observe)$`, nil),
	"locking":    text("governance or compliance", `^(?:governance|compliance)$`, nil),
	"removed":    text("keep or retire", `^(?:keep|retire)$`, nil),
	"secret":     {name: "a secret", json: "string", secret: true, pattern: regexp.MustCompile(`.`), parse: setText, format: reflect.Value.String},
	"url":        text("an address", `^[a-z][a-z0-9]*://.+$`, nil),
}

func text(name, pattern string, check func(string) error) *form {
	re := regexp.MustCompile(pattern)
	return &form{name: name, json: "string", pattern: re, format: reflect.Value.String, parse: func(s string, v reflect.Value) error {
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		if !re.MatchString(s) {
			return errors.New("is not " + name)
		}
		return setText(s, v)
	}}
}

func setText(s string, v reflect.Value) error {
	v.SetString(s)
	return nil
}

var (
	durationForm = &form{
		name: "a duration", json: "string", pattern: durationText,
		parse: func(s string, v reflect.Value) error {
			d, err := ParseDuration(s)
			v.SetInt(int64(d))
			return err
		},
		format: func(v reflect.Value) string { return formatDuration(time.Duration(v.Int())) },
	}
	percentForm = &form{
		name: "a percentage", json: "string", pattern: percentText,
		parse: func(s string, v reflect.Value) error {
			share, err := ParsePercent(s)
			v.SetFloat(share)
			return err
		},
		format: func(v reflect.Value) string { return formatPercent(v.Float()) },
	}
	scheduleForm = &form{
		name: "a duration or a cron line", json: "string", pattern: scheduleText,
		parse: func(s string, v reflect.Value) error {
			every, err := parseSchedule(s)
			v.Set(reflect.ValueOf(every))
			return err
		},
		format: func(v reflect.Value) string { return v.Interface().(Schedule).text },
	}
	integerForm = &form{
		name: "a whole number", json: "integer",
		parse: func(s string, v reflect.Value) error {
			n, err := strconv.ParseInt(s, 0, strconv.IntSize)
			if err != nil || n < 0 {
				return errors.New("is not a whole number from 0 on")
			}
			v.SetInt(n)
			return nil
		},
		format: func(v reflect.Value) string { return strconv.FormatInt(v.Int(), 10) },
	}
	booleanForm = &form{
		name: "true or false", json: "boolean",
		parse: func(s string, v reflect.Value) error {
			b, err := strconv.ParseBool(s)
			v.SetBool(b)
			return err
		},
		format: func(v reflect.Value) string { return strconv.FormatBool(v.Bool()) },
	}
)

func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("is not host:port")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("has port %q, which is not a number up to 65535", port)
	}
	return nil
}
