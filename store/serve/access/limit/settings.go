package limit

import (
	"errors"
	"fmt"
	"time"
)

// Settings bound what clients may take.
type Settings struct {
	Connections           int           `yaml:"connections" default:"4096" example:"4096" doc:"How many connections there are at once; what is beyond is refused."`
	ConnectionsPerAddress int           `yaml:"connections-per-address" default:"1024" example:"256" doc:"How many of these one address may have at most. Behind a proxy all clients have its address."`
	Requests              int           `yaml:"requests" default:"2048" example:"512" doc:"How many requests are answered at once; beyond, clients are told to come again. One address has no more than half."`
	HeaderBytes           int64         `yaml:"header-bytes" kind:"size" default:"64KiB" example:"64KiB" doc:"How large the header of a request may be."`
	HeaderTimeout         time.Duration `yaml:"header-timeout" default:"10s" example:"10s" doc:"How long a client may take to send the header of a request."`
	BodyTimeout           time.Duration `yaml:"body-timeout" default:"1m" example:"1m" doc:"How long a client may take to send the next 64 KiB of what it pushes."`
	IdleTimeout           time.Duration `yaml:"idle-timeout" default:"2m" example:"2m" doc:"How long a connection without a request is kept."`
}

// Defaults are the settings of who sets nothing.
func Defaults() Settings {
	return Settings{
		Connections: 4096, ConnectionsPerAddress: 1024, Requests: 2048, HeaderBytes: 64 << 10,
		HeaderTimeout: 10 * time.Second, BodyTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
}

// Validate says everything that is wrong. Each message begins with the key.
func (s Settings) Validate() error {
	var errs []error
	between := func(key string, n, low, high int) {
		if n < low || n > high {
			errs = append(errs, fmt.Errorf("%s: %d is not between %d and %d", key, n, low, high))
		}
	}
	between("connections", s.Connections, 16, 1_000_000)
	between("connections-per-address", s.ConnectionsPerAddress, 1, 1_000_000)
	between("requests", s.Requests, 16, 1_000_000)
	between("header-bytes", int(s.HeaderBytes), 4<<10, 1<<20)
	for _, t := range []struct {
		key string
		d   time.Duration
	}{{"header-timeout", s.HeaderTimeout}, {"body-timeout", s.BodyTimeout}, {"idle-timeout", s.IdleTimeout}} {
		if t.d < time.Second || t.d > time.Hour {
			errs = append(errs, fmt.Errorf("%s: %s is not between 1s and 1h", t.key, t.d))
		}
	}
	return errors.Join(errs...)
}
