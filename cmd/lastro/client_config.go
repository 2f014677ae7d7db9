package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"lastro/cmd/lastro/internal/clients"
	"lastro/configs"
	"lastro/mirror"
)

func (c *cli) clientConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "client-config docker|containerd|podman|k3s",
		Short: "the files that point a client at this mirror",
		Long: `Client-config prints the files that make a client pull from this mirror the
images of every upstream that has a mirror rule, under the names they have
upstream. One file is printed as it is; of several, each has its path above it.
With --dir they are written into a folder as the client expects them.

Without --fallback the files keep the client from asking the upstream itself
for what the mirror lacks. Docker cannot be kept from it; what else a file
cannot say or do stands on standard error.`,
		Example: `  lastro client-config docker --merge /etc/docker/daemon.json
  lastro client-config containerd --address mirror.example.com:5000 --dir /etc/containerd
  lastro client-config podman > /etc/containers/registries.conf.d/50-lastro.conf`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var o clientOptions
	f := cmd.PersistentFlags()
	f.StringVar(&o.address, "address", "", "the mirror's `address` (HOST:PORT) as the client reaches it (default: registry.listen)")
	f.BoolVar(&o.tls, "tls", false, "the client reaches the mirror by TLS, also without registry.tls: something in front of it ends it")
	f.StringVar(&o.ca, "ca", "", "PEM `file` of the certificates that the client is to trust for the mirror")
	f.BoolVar(&o.fallback, "fallback", false, "let the client ask the upstream itself for what the mirror lacks")
	f.StringVar(&o.dir, "dir", "", "write the files into this `folder`, which is or will be the client's")
	f.BoolVar(&o.force, "force", false, "with --dir: replace files that have other content")

	docker := c.clientCommand(&o, "docker", "a Docker engine's daemon.json", func(s clients.Site) (clients.Config, error) {
		existing, err := o.existing()
		if err != nil {
			return clients.Config{}, err
		}
		return clients.Docker(s, existing)
	})
	docker.Flags().StringVar(&o.merge, "merge", "", "keep the settings of this daemon.json `file`")
	cmd.AddCommand(docker,
		c.clientCommand(&o, "containerd", "a hosts.toml for each upstream", always(clients.Containerd)),
		c.clientCommand(&o, "podman", "registries.conf.d for Podman, CRI-O, Buildah and skopeo", always(clients.Podman)),
		c.clientCommand(&o, "k3s", "registries.yaml", always(clients.K3s)))
	return cmd
}

// maker makes what one client needs.
type maker func(clients.Site) (clients.Config, error)

func always(fn func(clients.Site) clients.Config) maker {
	return func(s clients.Site) (clients.Config, error) { return fn(s), nil }
}

func (c *cli) clientCommand(o *clientOptions, name, short string, fn maker) *cobra.Command {
	return &cobra.Command{
		Use:   name,
		Short: short,
		Args:  takes(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			site, err := o.site(cfg)
			if err != nil {
				return err
			}
			files, err := fn(site)
			if err != nil {
				return err
			}
			return c.giveClient(files, o)
		},
	}
}

// giveClient prints or writes what a client needs.
func (c *cli) giveClient(files clients.Config, o *clientOptions) error {
	res := clientConfig{Config: files}
	dir := files.Folder
	if o.dir != "" {
		dir = o.dir
		written, err := files.Write(dir, o.mayReplace)
		if err != nil {
			return explainExists(err)
		}
		res.written = append([]string{}, written...)
	}
	for i, f := range res.Files {
		res.Files[i].Path = filepath.Join(dir, f.Path)
	}
	if c.output != "json" {
		for _, note := range files.Notes {
			fmt.Fprintf(c.stderr, "lastro: note: %s\n", note)
		}
	}
	return c.print(res)
}

func explainExists(err error) error {
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w\nnothing was written: --force replaces files that have other content", err)
	}
	return err
}

// clientConfig is what was made for a client.
type clientConfig struct {
	clients.Config
	written []string // nil: nothing was to be written
}

func (r clientConfig) Print(w io.Writer) error {
	if r.written != nil {
		return r.printWritten(w)
	}
	if len(r.Files) == 1 {
		_, err := io.WriteString(w, r.Files[0].Content)
		return err
	}
	for i, f := range r.Files {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if _, err := fmt.Fprintf(w, "# %s\n%s", f.Path, f.Content); err != nil {
			return err
		}
	}
	return nil
}

func (r clientConfig) printWritten(w io.Writer) error {
	for _, path := range r.written {
		if _, err := fmt.Fprintf(w, "%s: written\n", path); err != nil {
			return err
		}
	}
	if len(r.written) == 0 {
		_, err := fmt.Fprintln(w, "nothing to write: the files are as they should be")
		return err
	}
	return nil
}

type clientOptions struct {
	address, ca, dir, merge string
	tls, fallback, force    bool
}

// site is the configured mirror as the client is to see it.
func (o *clientOptions) site(cfg *configs.Config) (clients.Site, error) {
	s := clients.Site{TLS: o.tls || cfg.Registry.TLS != nil, Default: cfg.Registry.DefaultUpstream, Fallback: o.fallback}
	if o.force && o.dir == "" {
		return s, usageError{errors.New("--force says what to do with files that are there: give --dir, too")}
	}
	if len(cfg.Mirror) == 0 {
		return s, usageError{fmt.Errorf("%s has no mirror rule, so that there is nothing to pull from here", cfg.Path)}
	}
	var err error
	if s.Address, err = o.reachable(cfg.Registry.Listen); err != nil {
		return s, usageError{err}
	}
	if s.CA, err = o.certificates(s.TLS); err != nil {
		return s, usageError{err}
	}
	for _, m := range cfg.Mirror {
		host, err := upstreamHost(m.From)
		if err != nil {
			return s, err
		}
		s.Hosts = append(s.Hosts, clients.Host{Name: host, PlainHTTP: cfg.Upstreams[host].PlainHTTP})
	}
	return s, nil
}

// upstreamHost is the host that a rule's repositories are on.
func upstreamHost(from string) (string, error) {
	host, _, _ := strings.Cut(strings.TrimLeft(from, "{"), "/")
	ref, err := mirror.ParseReference(host + "/name")
	return ref.Host, err
}

// registryAddress is what image names can begin with.
var registryAddress = regexp.MustCompile(`^(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\]):[0-9]{1,5})$`)

// reachable is the address that clients are given.
func (o *clientOptions) reachable(listen string) (string, error) {
	if o.address != "" {
		if !registryAddress.MatchString(o.address) {
			return "", fmt.Errorf("--address %q is not an address that image names can begin with (example: mirror.example.com:5000)", o.address)
		}
		return o.address, nil
	}
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || host == "" || port == "0" || ip != nil && ip.IsUnspecified() {
		return "", fmt.Errorf("registry.listen is %q, which does not say how clients reach the mirror: give --address HOST:PORT", listen)
	}
	return listen, nil
}

// certificates are those that the client is to trust; "" when there are none.
func (o *clientOptions) certificates(tls bool) (string, error) {
	if o.ca == "" {
		return "", nil
	}
	if !tls {
		return "", errors.New("--ca is for TLS, which the client would not use: give --tls, too")
	}
	text, err := os.ReadFile(o.ca)
	if err == nil && !strings.Contains(string(text), "-----BEGIN CERTIFICATE-----") {
		err = fmt.Errorf("--ca %s: no certificate in PEM is in it", o.ca)
	}
	return string(text), err
}

// existing is the daemon.json whose settings are to stay; nil: none.
func (o *clientOptions) existing() ([]byte, error) {
	if o.merge == "" {
		return nil, nil
	}
	text, err := os.ReadFile(o.merge)
	if err != nil {
		return nil, usageError{fmt.Errorf("--merge: %w", err)}
	}
	return text, nil
}

// mayReplace reports whether a file that has other content may be replaced:
// with --force, and when the other content was merged.
func (o *clientOptions) mayReplace(path string) bool {
	if o.force || o.merge == "" {
		return o.force
	}
	old, err := os.Stat(path)
	merged, err2 := os.Stat(o.merge)
	return errors.Join(err, err2) == nil && os.SameFile(old, merged)
}
