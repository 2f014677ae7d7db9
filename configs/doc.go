// Package configs is the configuration file: its types, strict loading, its
// JSON Schema, and how it is shown with defaults filled in and secrets masked.
//
// Each package that acts on settings owns their struct and their Validate;
// Config composes them. The struct tags say the rest: yaml (the key), doc,
// example, default, required, and kind, which names the form of a scalar:
// address, file, part, pattern, percent, platform, repository, secret or url. One
// walk over the types ([describe]) makes a shape of them, and decoding,
// defaults, schema and show all follow that shape, so none can know a key
// that another does not.
//
// # Strictness
//
// All faults come at once, in the order of their lines:
//
//	lastro.yaml:12: mirror[0].every: "sometimes" is neither a duration nor a cron line (example: "6h")
//
// An unknown key, a repeated key, an empty value and a value of another type
// are faults. So is a key of a feature that this version does not have. The
// file is one YAML document of at most 1 MiB in UTF-8, without anchors,
// aliases, tags and merge keys.
//
// # Values from elsewhere
//
// In any string, ${env:NAME} is a variable of the environment and ${file:PATH}
// the content of a file of at most 64 KiB, without the newline at its end; a
// relative path starts at the folder of the configuration file. $${ is a
// literal ${. What came from elsewhere is never printed, in faults and in show:
// the reference is. Of secrets (kind "secret") nothing is printed but ***.
//
// # Schedules
//
// every: is a duration of at least a minute, or a cron line of five fields (or
// @hourly, @daily, @weekly, @monthly, @yearly) in the machine's time zone,
// unless it begins with CRON_TZ=<zone>. As in crontab, a day matches when
// either the day of the month or the day of the week does, if both are given.
// Cron lines are exact. Intervals have a spread, see [Schedule].
package configs
