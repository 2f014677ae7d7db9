package check

import "fmt"

// Settings are what a daemon's own check does.
type Settings struct {
	Part      int   `yaml:"part" kind:"part" default:"1/30" example:"1/30" doc:"How much of all content each run reads and hashes, the longest unread first: with 1/30, thirty runs read everything once. What tags and manifests need, and what the ledger says, is compared every time."`
	Bandwidth int64 `yaml:"bandwidth" kind:"size" default:"20MiB" example:"50MiB" doc:"Bytes a second that it reads at most; a quarter of that while clients are answered. 0: as fast as the disk gives."`
	Repair    bool  `yaml:"repair" default:"true" doc:"Heal what is found: bring bad content again by its digest, from a vault or the upstream, and mend links and the ledger. Nothing that is good is removed. With false bad content is only taken out of service, so that nobody is sent it."`
}

// slowest is the least bandwidth: with less, nothing is ever read through.
const slowest = 64 << 10

// Validate says what is wrong with the settings, by key.
func (s Settings) Validate() error {
	if s.Bandwidth > 0 && s.Bandwidth < slowest {
		return fmt.Errorf("bandwidth: is less than 64KiB a second, and a check would not end (example: \"20MiB\")")
	}
	return nil
}
