package configs

import (
	"fmt"
	"slices"
	"strings"
)

// checkRequired refuses a rule that requires a backup which is not there.
func (c *Config) checkRequired(d *decoder) {
	var names []string
	for _, b := range c.Backup {
		names = append(names, b.Name)
	}
	for i, r := range c.Retention {
		at := fmt.Sprintf("retention[%d].require-backup", i)
		if r.RequireBackup == "" || slices.Contains(names, r.RequireBackup) || d.refused(at) || d.refused("backup") {
			continue
		}
		p := d.places[at]
		d.refuse(p.line, at, "%s is the name of no backup: %s", p.quoted(), namesOf(names))
	}
}

func namesOf(names []string) string {
	if len(names) == 0 {
		return `there is none (add one under backup, with a name and to)`
	}
	return "the names are " + strings.Join(names, ", ")
}
