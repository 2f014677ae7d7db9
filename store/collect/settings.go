package collect

import (
	"errors"
	"fmt"
	"time"
)

// What a run does with what is condemned and due.
const (
	ModeDelete  = "delete"
	ModeObserve = "observe"
)

// Settings say how a collector works.
type Settings struct {
	Grace time.Duration  `yaml:"grace" default:"24h" example:"24h" doc:"How long content stays at least after a client was told that it is here, or put it here."`
	Undo  *time.Duration `yaml:"undo" example:"72h" doc:"How long what is condemned can be taken back before it is deleted; default: 72h, or grace where that alone is given."`
	Mode  string         `yaml:"mode" default:"delete" kind:"collecting" example:"observe" doc:"delete, or observe: nothing is deleted, and what would have been is reported."`
}

// Validate reports all faults at once, each starting with its key.
func (s Settings) Validate() error {
	var errs []error
	if s.Grace < 0 {
		errs = append(errs, fmt.Errorf("grace: %s is less than nothing (example: 24h)", s.Grace))
	}
	if s.Undo != nil && *s.Undo < 0 {
		errs = append(errs, fmt.Errorf("undo: %s is less than nothing (example: 72h)", *s.Undo))
	}
	if s.Mode != "" && s.Mode != ModeDelete && s.Mode != ModeObserve {
		errs = append(errs, fmt.Errorf("mode: %q is neither delete nor observe", s.Mode))
	}
	return errors.Join(errs...)
}

// The defaults.
const (
	defaultGrace = 24 * time.Hour
	defaultUndo  = 72 * time.Hour
)

// UndoTime is how long what is condemned can be taken back.
func (s Settings) UndoTime() time.Duration {
	switch {
	case s.Undo != nil:
		return *s.Undo
	case s.Grace != defaultGrace:
		return s.Grace
	}
	return defaultUndo
}
