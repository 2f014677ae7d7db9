package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"lastro/mirror"
	"lastro/mirror/upstream"
	"lastro/retention"
	"lastro/store/check"
	"lastro/store/collect"
	"lastro/store/vault"
)

// Config is a configuration file that was loaded without fault. It is not
// changed after Load.
type Config struct {
	Path   string `yaml:"-"` // the file
	Digest string `yaml:"-"` // changes with the file and with what ${env:…} and ${file:…} gave, and reveals neither

	Data      string                       `yaml:"data" default:"./lastro-data" example:"/var/lib/lastro" doc:"Folder of the local registry and the ledger; one process has it at a time."`
	Registry  Registry                     `yaml:"registry" doc:"The local registry."`
	Admin     Admin                        `yaml:"admin" doc:"The admin page: health, readiness, metrics and status."`
	Upstreams map[string]upstream.Settings `yaml:"upstreams" example:"registry.example.com:5000" doc:"How upstreams are reached, by the host as it stands in image names; hosts that are not here get the defaults."`
	Mirror    []Mirror                     `yaml:"mirror" doc:"Rules: what to copy from where."`
	Retention []Retention                  `yaml:"retention" doc:"Which tags stay. A tag that no rule matches stays, and so does one that any rule keeps."`
	Collect   Collect                      `yaml:"collect" doc:"Freeing what nothing needs any more."`
	Check     Check                        `yaml:"check" doc:"The daemon's own check of all that is stored."`
	Backup    []Backup                     `yaml:"backup" doc:"Vaults: where backups go."`

	masks map[string]string // what to show in place of a value, by its path
}

// Admin is the page for people and monitoring.
type Admin struct {
	Listen string `yaml:"listen" kind:"address" default:"127.0.0.1:5001" example:"127.0.0.1:5001" doc:"Address of /healthz, /readyz, /metrics and the status page."`
}

// Mirror is a rule and when it runs.
type Mirror struct {
	mirror.Rule
	Every Schedule `yaml:"every" default:"6h" example:"17 */6 * * *" doc:"When to sync: a duration, a cron line, or never: then only what clients pull comes (on-demand), and what sync with the rule's name brings."`
}

// Retention is a rule for tags and when it runs.
type Retention struct {
	retention.Rule
	Every Schedule `yaml:"every" default:"24h" example:"24h" doc:"When to apply it: a duration, a cron line, or never: by the verb only."`
}

// Collect is how what nothing needs is freed, and when.
type Collect struct {
	collect.Settings
	Every Schedule `yaml:"every" default:"1h" example:"1h" doc:"When to collect: a duration, a cron line, or never: by the verb only."`
}

// Check is what the daemon's own check does, and when.
type Check struct {
	check.Settings
	Every Schedule `yaml:"every" default:"24h" example:"30 4 * * *" doc:"When to check: a duration, a cron line, or never: by the verb only."`
}

// Backup is a vault and when it is written.
type Backup struct {
	vault.Settings
	Every  Schedule              `yaml:"every" default:"24h" example:"30 2 * * *" doc:"When to back up: a duration, a cron line, or never: by the verb only."`
	Verify Verify                `yaml:"verify" doc:"When the daemon reads the vault back."`
	Drill  Drill                 `yaml:"drill" doc:"When the daemon proves that a restore works, by doing one into a scratch registry."`
	Keep   retention.Generations `yaml:"keep" doc:"Which snapshots stay: those that any line keeps; without a line, all."`
}

// Verify says when the daemon verifies a vault, and how much of it it reads.
type Verify struct {
	Every Schedule `yaml:"every" default:"24h" example:"30 5 * * *" doc:"When to verify: a duration, a cron line, or never: by the verb only."`
	Part  int      `yaml:"part" kind:"part" default:"1/30" example:"1/30" doc:"How much of all blobs each run reads and hashes, the longest unread first: with 1/30, thirty runs read everything once. What snapshots need is compared with a listing every time."`
}

// Drill says when the daemon restores a sample of a vault, and how large that is.
type Drill struct {
	Every  Schedule `yaml:"every" default:"7d" example:"0 6 * * 0" doc:"When to drill: a duration, a cron line, or never: by the verb only."`
	Images int      `yaml:"images" default:"5" example:"5" doc:"How many random images are restored, pulled and compared, besides one random repository with all that is in it."`
}

// Validate reports an amount that is none.
func (d Drill) Validate() error {
	if d.Images < 0 || d.Images > 1000 {
		return fmt.Errorf("images: %d is not a number from 0 to 1000", d.Images)
	}
	return nil
}

const minimal = `mirror:
  - from: docker.io/library/debian
    tags: {include: ["12*"]}
`

// Find is the file to load: the one that the flag names, else the environment,
// else ./lastro.yaml, else /etc/lastro/lastro.yaml. The error says how to write
// one.
func Find(flag, env string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if env != "" {
		return env, nil
	}
	for _, path := range []string{"lastro.yaml", "/etc/lastro/lastro.yaml"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no configuration: neither ./lastro.yaml nor /etc/lastro/lastro.yaml exists, and neither --config nor $LASTRO_CONFIG names another file; a minimal one is:\n\n%s", minimal)
}

// Load reads a file. The error is a [*Faults] with everything that is wrong.
func Load(path string) (*Config, error) {
	content, err := readLimited(path, maxFile)
	if err != nil {
		return nil, &Faults{List: []Fault{{File: path, Problem: err.Error()}}, cause: err}
	}
	return load(path, content, os.LookupEnv)
}

func load(path string, content []byte, env func(string) (string, bool)) (*Config, error) {
	d := &decoder{file: path, source: source{folder: filepath.Dir(path), env: env}, places: map[string]place{}}
	cfg := &Config{Path: path}
	s := describe(reflect.TypeFor[Config](), "")
	s.setDefault(reflect.ValueOf(cfg).Elem())
	if root := d.parse(content); root != nil {
		d.decode(root, s, reflect.ValueOf(cfg).Elem(), "")
		cfg.finish(d)
		cfg.check(d)
	}
	if err := d.faults(); err != nil {
		return nil, err
	}
	cfg.masks = d.masks()
	cfg.Digest = digest(content, d.source.given)
	return cfg, nil
}

// finish fills in what follows from other values.
func (c *Config) finish(d *decoder) {
	for i := range c.Mirror {
		m := &c.Mirror[i]
		if m.Name == "" {
			m.Name = m.From
			at := fmt.Sprintf("mirror[%d]", i)
			d.places[at+".name"] = d.places[at+".from"]
		}
	}
	c.Collect.Undo = new(c.Collect.UndoTime())
	for i := range c.Retention {
		line := d.places[fmt.Sprintf("retention[%d]", i)].line
		c.Retention[i].Line = fmt.Sprintf("%s:%d", filepath.Base(c.Path), line)
	}
}
