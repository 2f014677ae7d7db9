package upstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
)

// openMirrors prepares the other places of an upstream's content. Each has its
// own health and credentials; they share the upstream's bandwidth.
func (r *Registry) openMirrors(s Settings, o Options) error {
	for i, m := range s.Mirrors {
		u, err := url.Parse(m.URL)
		if err != nil {
			return fmt.Errorf("upstream %s: mirrors[%d]: %w", r.host, i, err)
		}
		other, err := Open(u.Host, m.settings(s), Options{Log: r.log, UserAgent: r.agent, Dial: o.Dial, Settings: m.renewal(o.Settings)})
		if err != nil {
			return err
		}
		other.isMirror, other.bandwidth = true, r.bandwidth
		r.mirrors = append(r.mirrors, other)
	}
	return nil
}

// settings are those of an upstream's mirror. The upstream's credentials are
// not among them.
func (m Mirror) settings(of Settings) Settings {
	s := Settings{
		Endpoint: m.URL, CA: of.CA, Credentials: m.Credentials,
		Connections: of.Connections, RequestsPerSecond: of.RequestsPerSecond, Reserve: of.Reserve,
	}
	if len(m.Credentials) == 0 {
		s.Credentials = Anonymous()
	}
	return s
}

// somewhere reads from the upstream, and where that fails from its mirrors, in
// turn: content of a digest, or with none what a tag is, which the upstream says
// as long as it is there. The error is the upstream's, with what its mirrors said as text: what they do not have may be
// elsewhere.
func (r *Registry) somewhere(ctx context.Context, of digest.Digest, read func(*Registry) error) error {
	var own error
	var others []string
	for _, at := range r.places(of) {
		err := read(at)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case at != r:
			others = append(others, err.Error())
		case elsewhere(err, of != ""):
			own = err
		default:
			return err
		}
	}
	if len(others) == 0 {
		return own
	}
	return fmt.Errorf("%w; %s", own, strings.Join(others, "; "))
}

// places are where to read. For content those come last that are down, or whose
// streams of it break off again and again.
func (r *Registry) places(of digest.Digest) []*Registry {
	all := append([]*Registry{r}, r.mirrors...)
	if of != "" && len(all) > 1 {
		last := func(at *Registry) int { return bit(at.health.isDown() || at.breaks.often(of)) }
		slices.SortStableFunc(all, func(a, b *Registry) int { return last(a) - last(b) })
	}
	return all
}

func bit(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// elsewhere reports whether a mirror may help: with content always, unless we
// may not have it; with tags only when the upstream is down.
func elsewhere(err error, byDigest bool) bool {
	_, throttled := errors.AsType[*mirror.ThrottledError](err)
	_, broken := errors.AsType[*transportError](err)
	if !throttled && (broken || transient(err)) {
		return true
	}
	return byDigest && (throttled || errors.Is(err, fs.ErrNotExist))
}
