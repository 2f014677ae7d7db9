package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	"lastro/mirror"
)

// Docker makes the settings of a Docker engine. Those of an existing
// daemon.json stay, with what its lists have; nil: there is none.
func Docker(s Site, existing []byte) (Config, error) {
	settings, err := readSettings(existing)
	if err != nil {
		return Config{}, err
	}
	if s.mirrorsHub() {
		err = settings.extend("registry-mirrors", s.url())
	}
	if !s.TLS {
		err = errors.Join(err, settings.extend("insecure-registries", s.Address))
	}
	if err != nil {
		return Config{}, err
	}
	content, err := indented(settings)
	c := Config{Folder: "/etc/docker", Files: []File{{"daemon.json", content}}, Notes: s.dockerNotes()}
	if s.CA != "" {
		c.Files = append(c.Files, File{path.Join("certs.d", s.Address, "ca.crt"), s.CA})
	}
	return c, err
}

// mirrorsHub reports whether names without a host mean Docker Hub, which is all
// that Docker asks its mirrors for.
func (s Site) mirrorsHub() bool {
	return s.Default == mirror.DockerHub && slices.ContainsFunc(s.Hosts, Host.isHub)
}

func (s Site) dockerNotes() []string {
	var notes []string
	if s.mirrorsHub() {
		notes = append(notes, fmt.Sprintf("Docker asks Docker Hub itself for what the mirror lacks, and no setting of Docker's keeps it from that; names that begin with %s/ are asked of the mirror alone", s.Address))
	} else {
		notes = append(notes, "there are no registry-mirrors: Docker asks them for names of docker.io only, and those are not what this mirror takes names without a host for")
	}
	for _, h := range s.hosts() {
		if !h.isHub() || !s.mirrorsHub() {
			notes = append(notes, fmt.Sprintf("images of %s are %s/%s/NAME for Docker", h.Name, s.Address, h.local()))
		}
	}
	return append(notes, "a Docker engine that runs reads daemon.json again on SIGHUP (systemctl reload docker)")
}

// settings are a daemon.json whose values stay as they were written.
type settings map[string]json.RawMessage

func readSettings(content []byte) (settings, error) {
	s := settings{}
	if content == nil {
		return s, nil
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return nil, fmt.Errorf("read Docker's settings: %w", err)
	}
	if s == nil {
		return nil, errors.New("read Docker's settings: null is no JSON object")
	}
	return s, nil
}

// extend adds a value to a list of strings that may not be there yet.
func (s settings) extend(key, value string) error {
	var list []string
	if raw, ok := s[key]; ok {
		if err := json.Unmarshal(raw, &list); err != nil {
			return fmt.Errorf("read Docker's settings: %s: %w", key, err)
		}
	}
	if !slices.Contains(list, value) {
		list = append(list, value)
	}
	raw, err := json.Marshal(list)
	s[key] = raw
	return err
}

func indented(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.String(), err
}
